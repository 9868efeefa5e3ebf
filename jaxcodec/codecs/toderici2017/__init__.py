"""Toderici et al., "Full resolution image compression with recurrent neural networks", CVPR 2017, as a codec.

`model.py` has the network, `codec.py` the codec, `bits.py` what its bits become, `export.py` the way from trained
parameters to a weight file.
"""

from jaxcodec.codecs.toderici2017.codec import RecurrentCodec, RecurrentOptions, load_toderici2017

__all__ = ["RecurrentCodec", "RecurrentOptions", "load_toderici2017"]
