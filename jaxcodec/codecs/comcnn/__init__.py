"""ComCNN + RecCNN (Jiang et al., IEEE TCSVT 2017, arXiv 1708.00838): two networks around a standard codec.

F. Jiang, W. Tao, S. Liu, J. Ren, X. Guo and D. Zhao, "An End-to-End Compression Framework Based on Convolutional
Neural Networks". ComCNN makes a picture of half the size, which JPEG, JPEG 2000 or HEVC codes as an ordinary one;
RecCNN restores the decoded picture after it was enlarged.

`model.py` has the networks, `coarseness.py` what they know of the codec's quantisation, `networks.py` runs them over
pictures of any size, `inner.py` has the standard codecs, `codec.py` the codec, `restorer.py` RecCNN for JPEG files.
"""

from jaxcodec.codecs.comcnn.codec import (
    ComCnnCodec,
    ComCnnOptions,
    load_comcnn,
    load_comcnn_hevc,
    load_comcnn_jpeg2000,
)
from jaxcodec.codecs.comcnn.restorer import Restored, Restorer, load_restorer

__all__ = [
    "ComCnnCodec",
    "ComCnnOptions",
    "Restored",
    "Restorer",
    "load_comcnn",
    "load_comcnn_hevc",
    "load_comcnn_jpeg2000",
    "load_restorer",
]
