"""Learned image compression in JAX, with real files.

>>> import jaxcodec
>>> data = jaxcodec.encode(image, quality=4)   # uint8 [H, W, 3] or [H, W] -> the bytes of a file
>>> image = jaxcodec.decode(data)

`available` lists the codecs and `load` returns one, for its options and batches. Importing this loads
neither jax nor Pillow; the codecs do when they are loaded.
"""

from jaxcodec.codecs.base import Codec, CodecInfo, ProgressiveCodec
from jaxcodec.codecs.registry import available, best_general_codec, decode, encode, load
from jaxcodec.errors import (
    BadImage,
    BadOption,
    CorruptFile,
    JaxcodecError,
    MissingDependency,
    NotAJxcFile,
    OutputExists,
    TooLarge,
    TruncatedFile,
    UnknownCodec,
    WrongWeights,
)
from jaxcodec.version import __version__

__all__ = [
    "BadImage",
    "BadOption",
    "Codec",
    "CodecInfo",
    "CorruptFile",
    "JaxcodecError",
    "MissingDependency",
    "NotAJxcFile",
    "OutputExists",
    "ProgressiveCodec",
    "TooLarge",
    "TruncatedFile",
    "UnknownCodec",
    "WrongWeights",
    "__version__",
    "available",
    "best_general_codec",
    "decode",
    "encode",
    "load",
]
