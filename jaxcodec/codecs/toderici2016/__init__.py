"""Toderici et al., "Variable Rate Image Compression with Recurrent Neural Networks", ICLR 2016, as a codec.

`model.py` has the networks, `codec.py` the codec, `patches.py` its patches and their bytes, `export.py` the way from
trained parameters to a weight file.
"""

from jaxcodec.codecs.toderici2016.codec import ThumbnailCodec, TodericiOptions, load_toderici2016

__all__ = ["ThumbnailCodec", "TodericiOptions", "load_toderici2016"]
