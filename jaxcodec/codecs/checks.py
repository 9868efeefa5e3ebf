"""What every codec refuses, in the same words: pictures, qualities, options and files that are not its own."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from jaxcodec.codecs.base import Codec
from jaxcodec.coding.codec_ids import codec_name
from jaxcodec.coding.container import Header, Limits
from jaxcodec.errors import BadImage, BadOption, TooLarge

_Options = TypeVar("_Options")


def check_image(image: np.ndarray, limits: Limits | None = None) -> np.ndarray:
    """Return `image` if it is a picture as the protocol wants it.

    Raises
    ------
    BadImage
        If it is not uint8, `[H, W, 3]` or `[H, W]`, with at least one pixel.
    TooLarge
        If it has more pixels than a decoder with these limits accepts.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise BadImage(
            f"a picture must be uint8 [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}; "
            "jaxcodec.data.images.read_image converts files"
        )
    if array.size == 0:
        raise BadImage(f"a picture needs at least one pixel, got {list(array.shape)}")
    height, width = array.shape[:2]
    if limits is not None and height * width > limits.max_pixels:
        raise TooLarge(
            f"a picture of {width}x{height} exceeds {limits.max_pixels} pixels (max_pixels); "
            "cut or shrink the picture"
        )
    return array


def check_quality(quality: float | None, codec: Codec) -> float:
    """Return the quality to use: one of the codec's, any in between where it has hundredths, its default for None.

    Raises
    ------
    BadOption
        If the codec does not offer it.
    """
    if quality is None:
        return codec.default_quality
    offered = codec.qualities
    if quality in offered:
        return offered[offered.index(quality)]
    fractional = any(accepted != int(accepted) for accepted in offered)
    if fractional and offered[0] <= quality <= offered[-1]:
        return float(quality)
    span = f"{offered[0]}..{offered[-1]}" if offered else "none (no weights installed)"
    whole = "" if fractional or float(quality).is_integer() else " in whole numbers"
    raise BadOption(f"{codec.name} has no quality {quality}; it offers {span}{whole}")


def check_whole_quality(quality: float | None, codec: Codec) -> int:
    """`check_quality` for a codec whose qualities are whole numbers."""
    return int(check_quality(quality, codec))


def check_options(options: _Options | None, codec: Codec, default: _Options) -> _Options:
    """Return the options to use: the codec's `default` for None.

    Raises
    ------
    BadOption
        If they are not of the default's class.
    """
    if options is None:
        return default
    if not isinstance(options, type(default)):
        wanted = type(default).__name__
        raise BadOption(f"{codec.name} takes options of class {wanted}, not {type(options).__name__}")
    return options


def check_writer(header: Header, system: str) -> None:
    """Raise `BadOption` unless a codec of this system wrote the file."""
    name = codec_name(header.codec_id)
    if name != system:
        raise BadOption(f"the file was written by {name}, not {system}; jaxcodec.decode picks the codec")
