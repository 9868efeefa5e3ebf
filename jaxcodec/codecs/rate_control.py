"""Files of a wanted rate or PSNR: which quality to encode a picture with.

The qualities are searched by bisection, as size and PSNR grow with them, and then the neighbours of what was
found are tried. On a small picture, where they do not always grow, a slightly better file may be missed. A
progressive codec encodes once, with all iterations, and the file is cut to the first ones. A codec with a ladder of
qualities knows the rates that photos take on average: a picture takes about the same multiple of them at
neighbouring qualities, so a few files are enough, and most of them share one analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxcodec.codecs.base import Codec, ProgressiveCodec, SteppedCodec, first_iterations
from jaxcodec.codecs.checks import check_image
from jaxcodec.errors import BadOption
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.rate import bits_per_pixel

MAX_ENCODINGS = 8
"""Bisecting 100 qualities takes at most 7; what is left goes to neighbours or to the end of the range."""

MAX_GUIDED_ENCODINGS = 6
"""The same where expected rates guide the search."""

_NEAR_ENOUGH = 0.99
"""A guided search ends with a file of at least this share of the wanted rate."""


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
    quality: float
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
    if not _guided_search(codec, trials, bpp):
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
        self._files: dict[float, bytes] = {}
        self._psnr: dict[float, float] = {}
        self._encode = self._prepared()
        self._all_iterations: bytes | None = None
        self._encodings = 0

    def _prepared(self) -> Callable[[float], bytes]:
        codec, image, options = self._codec, self._image, self._options
        if isinstance(codec, SteppedCodec):
            return codec.prepare(image, options=options)
        return lambda quality: codec.encode(image, quality=quality, options=options)

    @property
    def encodings(self) -> int:
        """Files encoded so far."""
        return self._encodings

    def bpp(self, quality: float) -> float:
        height, width = self._image.shape[:2]
        return bits_per_pixel(len(self._file(quality)), height, width)

    def psnr(self, quality: float) -> float:
        if quality not in self._psnr:
            image, decoded = self._image, self._codec.decode(self._file(quality))
            if image.ndim == 2 and decoded.ndim == 3:  # a format without grey
                image = np.repeat(image[:, :, None], 3, axis=2)
            self._psnr[quality] = psnr_uint8(image, decoded)
        return self._psnr[quality]

    def qualities(self) -> list[float]:
        """Those tried so far, ascending."""
        return sorted(self._files)

    def try_neighbours(self, position: int) -> None:
        """Encode around a threshold, of which both sides are known, as far as there are encodings left."""
        for neighbour in (position + 1, position - 2):
            if 0 <= neighbour < len(self._codec.qualities) and self._encodings < MAX_ENCODINGS:
                self._file(self._codec.qualities[neighbour])

    def result(self, quality: float) -> TargetedFile:
        return TargetedFile(
            self._file(quality), quality, self.bpp(quality), self.psnr(quality), self._encodings
        )

    def _file(self, quality: float) -> bytes:
        if quality not in self._files:
            self._files[quality] = self._made(quality)
        return self._files[quality]

    def _made(self, quality: float) -> bytes:
        if not isinstance(self._codec, ProgressiveCodec):
            return self._encoded(quality)
        if self._all_iterations is None:
            self._all_iterations = self._encoded(self._codec.qualities[-1])
        return first_iterations(self._all_iterations, int(quality))

    def _encoded(self, quality: float) -> bytes:
        self._encodings += 1
        return self._encode(quality)


def _guided_search(codec: Codec, trials: _Trials, bpp: float) -> bool:
    """Try qualities around the wanted rate; whether the codec's expected rates allow to."""
    if not isinstance(codec, SteppedCodec):
        return False
    qualities = codec.qualities
    expected = [codec.expected_bpp(quality) for quality in qualities]
    if not all(rate > 0 for rate in expected):  # NaN where they are not known
        return False
    below, above, factor = -1, len(qualities), 1.0
    while above - below > 1 and trials.encodings < MAX_GUIDED_ENCODINGS:
        wanted = bpp / factor
        if below >= 0 and above < len(qualities):
            # On a logarithmic scale, the picture's rates lie between the two as the expected ones do.
            ends = [(math.log(trials.bpp(qualities[i])), math.log(expected[i])) for i in (below, above)]
            share = (math.log(bpp) - ends[0][0]) / (ends[1][0] - ends[0][0])
            wanted = math.exp(ends[0][1] + share * (ends[1][1] - ends[0][1]))
        fitting = sum(rate <= wanted for rate in expected)
        guess = min(max(fitting - 1, below + 1), above - 1)
        rate = trials.bpp(qualities[guess])
        factor = rate / expected[guess]
        if rate > bpp:
            above = guess
        else:
            below = guess
            if rate >= _NEAR_ENOUGH * bpp:
                return True
    # What is left is between two neighbours, and any number there is a quality too.
    low, high = (qualities[i] if 0 <= i < len(qualities) else None for i in (below, above))
    while low is not None and high is not None and trials.encodings < MAX_GUIDED_ENCODINGS:
        middle = 0.5 * (low + high)
        if trials.bpp(middle) > bpp:
            high = middle
        elif trials.bpp(middle) >= _NEAR_ENOUGH * bpp:
            break
        else:
            low = middle
    return True


def _first_position(qualities: tuple[float, ...], holds: Callable[[float], bool]) -> int:
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
