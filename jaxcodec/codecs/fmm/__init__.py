"""The Five Modulus Method, F. A. Jassim 2012, and its generalisation to any modulus: a baseline without learning.

`transform.py` has the transform, `prediction.py` the MED predictor, `stream.py` the stages of coding, `codec.py` the
codec.
"""

from jaxcodec.codecs.fmm.codec import LADDER, FMMOptions, ModulusCodec, load_fmm

__all__ = ["LADDER", "FMMOptions", "ModulusCodec", "load_fmm"]
