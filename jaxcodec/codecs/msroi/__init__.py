"""MS-ROI (Prakash et al., DCC 2017) as a codec whose files are plain JPEGs.

A. Prakash, N. Moran, S. Garber, A. DiLillo and J. Storer, "Semantic Perceptual Image Compression using Deep Convolution
Networks", Data Compression Conference 2017.

`model.py` has the network and the rules that make one map of its classes, `jpeg.py` the two ways from a map to a file,
`dct_file.py` the coefficients of JPEG files, `codec.py` the codec.
"""

from jaxcodec.codecs.msroi.codec import MsRoiCodec, MsRoiOptions, load_msroi

__all__ = ["MsRoiCodec", "MsRoiOptions", "load_msroi"]
