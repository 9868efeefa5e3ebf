"""Files of a wanted rate or PSNR: which quality to encode a picture with.

The qualities are searched by bisection, as size and PSNR grow with them, and then the neighbours of what was
found are tried. On a small picture, where they do not always grow, a slightly better file may be missed. A
progressive codec encodes once, with all iterations, and the file is cut to the first ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxcodec.codecs.base import Codec, ProgressiveCodec, check_image, first_iterations
from jaxcodec.errors import BadOption
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.rate import bits_per_pixel

MAX_ENCODINGS = 8
"""Bisecting 100 qualities takes at most 7; what is left goes to neighbours or to the end of the range."""


@dataclass(frozen=True)
class TargetedFile:
    """A file made for a target, and what it reached.

    Attributes
    ----------
    data
        The file.
    quality
        The quality that wrote it.
    bpp
        File bytes * 8 / pixels.
    psnr
        Of the decoded 8-bit picture, in dB; `inf` where it is the original.
    encodings
        How often the picture was encoded to find it.
    """

    data: bytes
    quality: int
    bpp: float
    psnr: float
    encodings: int


def encode_to_bpp(
    codec: Codec, image: np.ndarray, bpp: float, *, closest: bool = False, options: Any = None
) -> TargetedFile:
    """Code a picture to the largest file that is not above a rate, or to the nearest one.

    Parameters
    ----------
    codec
        With at least one quality.
    image
        uint8 `[H, W, 3]` or `[H, W]`.
    bpp
        The target: file bytes * 8 / pixels.
    closest
        Take the file whose rate is nearest to the target, above it or below.
    options
        As in the codec's `encode`.

    Returns
    -------
    TargetedFile
        The same one every time.

    Raises
    ------
    BadOption
        If even the smallest file is above the target, unless `closest`; if the target is not positive.
    JaxcodecError
        Those of the codec.
    """
    _check_target(bpp, "bpp")
    trials = _Trials(codec, image, options)
    position = _first_position(codec.qualities, lambda quality: trials.bpp(quality) > bpp)
    trials.try_neighbours(position)
    if closest:
        best = min(trials.qualities(), key=lambda q: (abs(trials.bpp(q) - bpp), trials.bpp(q), q))
        return trials.result(best)
    fitting = [quality for quality in trials.qualities() if trials.bpp(quality) <= bpp]
    if not fitting:
        trials.bpp(codec.qualities[-1])
        raise BadOption(
            f"{bpp:g} bpp cannot be reached: {codec.name} makes files of "
            f"{_span([trials.bpp(quality) for quality in trials.qualities()], 3)} bpp of this picture"
        )
    return trials.result(max(fitting, key=lambda quality: (trials.bpp(quality), quality)))


def encode_to_psnr(codec: Codec, image: np.ndarray, psnr: float, *, options: Any = None) -> TargetedFile:
    """Code a picture to the smallest file whose decoded picture has at least a PSNR.

    Parameters
    ----------
    codec
        With at least one quality.
    image
        uint8 `[H, W, 3]` or `[H, W]`.
    psnr
        The target, in dB, of the decoded 8-bit picture.
    options
        As in the codec's `encode`.

    Returns
    -------
    TargetedFile
        The same one every time.

    Raises
    ------
    BadOption
        If no quality reaches the target; if it is not positive.
    JaxcodecError
        Those of the codec.
    """
    _check_target(psnr, "dB")
    trials = _Trials(codec, image, options)
    position = _first_position(codec.qualities, lambda quality: trials.psnr(quality) >= psnr)
    trials.try_neighbours(position)
    enough = [quality for quality in trials.qualities() if trials.psnr(quality) >= psnr]
    if not enough:
        trials.bpp(codec.qualities[0])
        raise BadOption(
            f"{psnr:g} dB cannot be reached: {codec.name} reaches "
            f"{_span([trials.psnr(quality) for quality in trials.qualities()], 2)} dB on this picture"
        )
    return trials.result(min(enough, key=lambda q: (trials.bpp(q), -trials.psnr(q), q)))


class _Trials:
    """The files of a picture by quality: each encoded, and decoded, at most once."""

    def __init__(self, codec: Codec, image: np.ndarray, options: Any) -> None:
        self._codec, self._image, self._options = codec, check_image(image), options
        self._files: dict[int, bytes] = {}
        self._psnr: dict[int, float] = {}
        self._all_iterations: bytes | None = None
        self._encodings = 0

    def bpp(self, quality: int) -> float:
        height, width = self._image.shape[:2]
        return bits_per_pixel(len(self._file(quality)), height, width)

    def psnr(self, quality: int) -> float:
        if quality not in self._psnr:
            image, decoded = self._image, self._codec.decode(self._file(quality))
            if image.ndim == 2 and decoded.ndim == 3:  # a format without grey
                image = np.repeat(image[:, :, None], 3, axis=2)
            self._psnr[quality] = psnr_uint8(image, decoded)
        return self._psnr[quality]

    def qualities(self) -> list[int]:
        """Those tried so far, ascending."""
        return sorted(self._files)

    def try_neighbours(self, position: int) -> None:
        """Encode around a threshold, of which both sides are known, as far as there are encodings left."""
        for neighbour in (position + 1, position - 2):
            if 0 <= neighbour < len(self._codec.qualities) and self._encodings < MAX_ENCODINGS:
                self._file(self._codec.qualities[neighbour])

    def result(self, quality: int) -> TargetedFile:
        return TargetedFile(
            self._file(quality), quality, self.bpp(quality), self.psnr(quality), self._encodings
        )

    def _file(self, quality: int) -> bytes:
        if quality not in self._files:
            self._files[quality] = self._made(quality)
        return self._files[quality]

    def _made(self, quality: int) -> bytes:
        if not isinstance(self._codec, ProgressiveCodec):
            return self._encoded(quality)
        if self._all_iterations is None:
            self._all_iterations = self._encoded(self._codec.qualities[-1])
        return first_iterations(self._all_iterations, quality)

    def _encoded(self, quality: int) -> bytes:
        self._encodings += 1
        return self._codec.encode(self._image, quality=quality, options=self._options)


def _first_position(qualities: tuple[int, ...], holds: Callable[[int], bool]) -> int:
    """Return the position of the first quality for which `holds`, their number if there is none.

    Bisection: `holds` is to be false up to there and true from there on. It is called for this quality and
    the one before, and ceil(log2(n + 1)) times at most.
    """
    below, above = -1, len(qualities)
    while above - below > 1:
        middle = (below + above) // 2
        if holds(qualities[middle]):
            above = middle
        else:
            below = middle
    return above


def _check_target(target: float, unit: str) -> None:
    if not (math.isfinite(target) and target > 0):
        raise BadOption(f"a target of {target} {unit} makes no sense; give a number above 0")


def _span(values: list[float], digits: int) -> str:
    """`0.210 to 6.300`."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
