"""Theis, Shi, Cunningham and Huszár, "Lossy image compression with compressive autoencoders", ICLR 2017.

`model.py` has the network, `initialise.py` a start from principal components, `incremental.py` the paper's masks,
`codec.py` the codec, `export.py` the way from trained parameters to a weight file.
"""

from jaxcodec.codecs.theis2017.codec import AutoencoderCodec, load_theis2017

__all__ = ["AutoencoderCodec", "load_theis2017"]
