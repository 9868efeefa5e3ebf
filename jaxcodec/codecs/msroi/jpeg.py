"""A saliency map steers a plain JPEG: two ways to spend the bytes of a reference file where the map is high.

Both return a baseline JPEG of at most the bytes of the reference, plain JPEG at a quality, with its subsampling and
kind of Huffman tables. The reference itself is returned where nothing better for the map is found, as for a map
without contrast.

- `composite` (Prakash et al., DCC 2017, section 3): the picture is coded at several qualities, blocks of the decoded
  ones are pasted together by the map, and the composite is coded once more.
- `coefficients` (ours): the picture is coded once, at a higher quality than the reference; quantised coefficients are
  then rounded towards zero where the map is low. A coefficient of weight w is worth its bits where
  `w * (distortion without it) > lambda * bits`, so the dead zone is widened by `strength * (1 / w - 1)` steps.

What counts as better is the squared error, weighted by the map: the encoder looks at nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from jaxcodec.codecs import classical
from jaxcodec.codecs.msroi.dct_file import DctFile, read_coefficients
from jaxcodec.codecs.msroi.model import normalise
from jaxcodec.codecs.progress import report

CHROMA_WEIGHTS = (1.0, 1.086, 0.825)
"""Squared error of R, G and B (mean of the three) per squared error of Y, Cb and Cr, by the JFIF matrix."""

ROUNDING_SHARE = 1.0 / 3.0
LARGEST_STRENGTH = 8.0
_FIRST_STRENGTH, _FIRST_RATIO = 0.125, 0.75
_ROUGH_STEPS, _FINE_STEPS = 8, 10
_USUAL_ATTEMPTS = 9
_QUALITY_STEPS = (3, 7, 12, 18, 26, 36)
_FINAL_QUALITIES = 6

LADDERS = (0.25, 0.45)
"""For `composite`: the lowest quality that is pasted, as a share of the reference's."""


@dataclass(frozen=True)
class Encoded:
    """A file, and how it was made.

    Attributes
    ----------
    data
        The JPEG file.
    quality
        Of its quantisation tables.
    strength
        Of the dead zone; 0 for `composite` and for the reference.
    is_reference
        Whether it is the reference itself.
    """

    data: bytes
    quality: int
    strength: float
    is_reference: bool


def plain_jpeg(image: np.ndarray, quality: int, subsampling: classical.Subsampling) -> bytes:
    """Return the plain JPEG that a result is measured against: the codec `jpeg`'s file."""
    return classical.jpeg().encode(
        image, quality=quality, options=classical.JpegOptions(subsampling=subsampling)
    )


def weights_of(saliency: np.ndarray, background: float) -> np.ndarray:
    """Return weights in (0, 1] of a map `[h, w]` in [0, 1]; the largest is 1, and `background` stands for 0."""
    weights = background + (1.0 - background) * np.asarray(saliency, np.float64)
    return weights / weights.max()


def resize_map(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return a map `[h, w]` at another resolution, float32: bilinear, averaging where it shrinks."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))


# --- coefficients ---


def with_dead_zone(quantised: np.ndarray, exact: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return levels rounded towards zero, the more the greater the strength.

    Parameters
    ----------
    quantised
        int16, as the plain encoder rounds.
    exact
        The same before rounding, in units of the step.
    strength
        At least 0, of the same shape: sizes below `1/2 + strength` become 0. Where it is 0 nothing changes. Larger
        sizes are rounded down up to a fraction of `1/2 + strength / 3`, at most 1, but stay above 0: a lower level
        saves about a third of the bits that none at all does.
    """
    size = np.abs(exact)
    lower = np.ceil(size - 0.5 - np.minimum(strength * ROUNDING_SHARE, 0.5))
    kept = np.where(size < 0.5 + strength, 0.0, np.maximum(lower, 1.0))
    kept = np.where(strength > 0.0, np.minimum(kept, np.abs(quantised)), np.abs(quantised))
    return (np.sign(quantised) * kept).astype(np.int16)


@dataclass(frozen=True)
class _Plane:
    """A component at one quality: what the dead zone can change, the AC levels that are not 0."""

    levels: np.ndarray  # int16 [rows, columns, 8, 8], as the plain encoder rounds
    where: tuple[np.ndarray, ...]
    exact: np.ndarray  # [N], in units of the step
    sensitivity: np.ndarray  # [N]: 1 / weight - 1
    cost: np.ndarray  # [N]: weighted squared error per squared step
    unchanged: float  # the weighted squared error of all other coefficients

    def with_strength(self, strength: float) -> tuple[np.ndarray, float]:
        """The levels under a dead zone, and their weighted squared error."""
        lowered = with_dead_zone(self.levels[self.where], self.exact, strength * self.sensitivity)
        levels = self.levels.copy()
        levels[self.where] = lowered
        return levels, self.unchanged + float(np.sum(self.cost * (self.exact - lowered) ** 2))


def _plane(file: DctFile, finest: DctFile, number: int, weights: np.ndarray) -> _Plane:
    levels, table = file.planes[number], file.tables[number]
    # Squared error of a component, per pixel of the picture: a chroma sample may stand for four.
    area = file.planes[0].size / levels.size * CHROMA_WEIGHTS[number]
    costs = area * weights[:, :, None, None] * table.astype(np.float64) ** 2
    exact = finest.planes[number] / table
    changeable = levels != 0
    changeable[:, :, 0, 0] = False
    where = np.nonzero(changeable)
    squares = costs * (exact - levels) ** 2
    squares[where] = 0.0
    blocks = weights[where[0], where[1]]
    return _Plane(levels, where, exact[where], 1.0 / blocks - 1.0, costs[where], float(squares.sum()))


@dataclass(frozen=True)
class _Trial:
    """A quality whose coefficients are at hand."""

    file: DctFile
    planes: tuple[_Plane, ...]

    def of(self, strength: float) -> _Result:
        """The file of a strength."""
        lowered = [plane.with_strength(strength) for plane in self.planes]
        data = self.file.written([levels for levels, _ in lowered])
        return _Result(sum(error for _, error in lowered), strength, data)


@dataclass(frozen=True)
class _Result:
    error: float
    strength: float
    data: bytes


def encode_coefficients(
    image: np.ndarray,
    saliency: np.ndarray,
    *,
    quality: int,
    background: float,
    subsampling: classical.Subsampling = "4:2:0",
) -> Encoded:
    """Code a picture with the dead zone of the coefficients steered by a map.

    Parameters
    ----------
    image
        uint8 `[H, W, 3]` or `[H, W]`.
    saliency
        `[h, w]` in [0, 1], of any resolution.
    quality
        Of the reference, 1..100.
    background
        The weight of an error where the map is 0, in (0, 1].
    subsampling
        Of the chroma.

    Raises
    ------
    MissingDependency
        If jpeglib is not installed.
    """
    reference = plain_jpeg(image, quality, subsampling)
    # At quality 100 all steps are 1: the coefficients as the encoder computes them, to half a unit.
    finest = read_coefficients(plain_jpeg(image, 100, subsampling))
    weights = tuple(
        weights_of(np.clip(resize_map(saliency, *plane.shape[:2]), 0.0, 1.0), background)
        for plane in finest.planes
    )
    if all(float(plane.min()) == 1.0 for plane in weights):
        return Encoded(reference, quality, 0.0, True)

    def trial(candidate: int) -> _Trial:
        file = read_coefficients(plain_jpeg(image, candidate, subsampling))
        planes = [_plane(file, finest, number, plane) for number, plane in enumerate(weights)]
        return _Trial(file, tuple(planes))

    trials = {quality: trial(quality)}
    unsteered = sum(plane.with_strength(0.0)[1] for plane in trials[quality].planes)
    found: dict[int, _Result | None] = {quality: _Result(unsteered, 0.0, reference)}

    def attempt(candidate: int) -> float:
        if candidate not in found:
            trials[candidate] = trial(candidate)
            found[candidate] = _weakest(trials[candidate], len(reference), start=None)
            report(len(found), max(len(found), _USUAL_ATTEMPTS))
        result = found[candidate]
        return math.inf if result is None else result.error

    # The error falls and rises again with the quality: walk until it rises, then look between.
    last = attempt(quality)
    for step in _QUALITY_STEPS:
        if quality + step > 100:
            break
        error = attempt(quality + step)
        if error > last:
            break
        last = error
    for _ in range(2):
        ordered = sorted(found)
        centre = ordered.index(min(ordered, key=attempt))
        for other in (centre - 1, centre + 1):
            if 0 <= other < len(ordered):
                attempt((ordered[centre] + ordered[other]) // 2)
    chosen = min(found, key=attempt)
    best = found[chosen]
    if chosen == quality or best is None:
        return Encoded(reference, quality, 0.0, True)
    best = _weakest(trials[chosen], len(reference), start=best) or best
    return Encoded(best.data, chosen, best.strength, False)


def _weakest(trial: _Trial, limit: int, *, start: _Result | None) -> _Result | None:
    """Return the weakest dead zone found whose file has at most `limit` bytes, or None.

    Sizes fall with the strength, but for a few bytes. Without a `start` that fits, a rough one is looked for; with
    one, the search goes on below it until half a part in a thousand of the limit is left, or for so many steps.
    """
    low, high, best = 0.0, math.inf, start
    if start is not None:
        high, low = start.strength, start.strength * _FIRST_RATIO
    strength = _FIRST_STRENGTH if start is None else 0.5 * (low + high)
    rest = 0.01 if start is None else 0.0005
    for _ in range(_ROUGH_STEPS if start is None else _FINE_STEPS):
        if best is not None and len(best.data) >= limit * (1.0 - rest):
            break
        result = trial.of(strength)
        if len(result.data) <= limit:
            best = result if best is None or len(result.data) > len(best.data) else best
            high = strength
        else:
            low = strength
        strength = 2.0 * low if math.isinf(high) else 0.5 * (low + high)
        if strength > LARGEST_STRENGTH:
            break
    return best


# --- composite ---


def encode_composite(
    image: np.ndarray,
    saliency: np.ndarray,
    *,
    quality: int,
    background: float,
    levels: tuple[int, ...] | None = None,
    subsampling: classical.Subsampling = "4:2:0",
) -> Encoded:
    """Code a picture that was put together from blocks of several qualities.

    Parameters
    ----------
    image, saliency, quality, background, subsampling
        As in `encode_coefficients`; `background` only decides between files.
    levels
        Qualities, ascending, for equal parts of the map's range, the first for the least salient blocks: 8x8
        pixels, or 16x16 where the chroma is at half size, so that a block of the last encoding has one quality.
        None tries `LADDERS`, which begin below the reference's quality.
    """
    reference = plain_jpeg(image, quality, subsampling)
    height, width = image.shape[:2]
    side = 8 if image.ndim == 2 or subsampling == "4:4:4" else 16
    rows, columns = -(-height // side), -(-width // side)
    blocks = resize_map(saliency, rows, columns)
    if float(np.ptp(blocks)) < 1e-9:
        return Encoded(reference, quality, 0.0, True)
    weights = weights_of(np.clip(resize_map(saliency, height, width), 0.0, 1.0), background)
    decode = classical.jpeg().decode

    def error(data: bytes) -> float:
        squares = (decode(data).astype(np.float32) - image) ** 2
        return float(np.sum((squares if image.ndim == 2 else squares.mean(-1)) * weights))

    share = normalise(blocks)
    ladders = [levels] if levels else [ladder(quality, lowest) for lowest in LADDERS]
    best_error, best = error(reference), Encoded(reference, quality, 0.0, True)
    for number, tried in enumerate(ladders, 1):
        chosen = np.minimum((share * len(tried)).astype(int), len(tried) - 1)
        pasted = image.copy()
        for step, level in enumerate(tried):
            pixels = np.repeat(np.repeat(chosen == step, side, 0), side, 1)[:height, :width]
            if pixels.any():
                pasted[pixels] = decode(plain_jpeg(image, level, subsampling))[pixels]
        for data, final in _fitting(partial(_plain, pasted, subsampling), len(reference), _FINAL_QUALITIES):
            if (found := error(data)) < best_error:
                best_error, best = found, Encoded(data, final, 0.0, False)
        report(number, len(ladders))
    return best


def ladder(quality: int, lowest: float) -> tuple[int, ...]:
    """Return four qualities from `lowest` times the reference's up to 100, evenly spaced."""
    return tuple(int(step) for step in np.linspace(max(1.0, lowest * quality), 100.0, 4).round())


def _plain(image: np.ndarray, subsampling: classical.Subsampling, quality: int) -> bytes:
    return plain_jpeg(image, quality, subsampling)


def _fitting(encode: Callable[[int], bytes], limit: int, count: int) -> list[tuple[bytes, int]]:
    """Return the files of the `count` highest qualities that have at most `limit` bytes.

    Sizes do not rise strictly with the quality of a picture that was coded before, so a few above are tried.
    """
    low, high = 1, 100
    while low < high:  # the highest that fits, if sizes rose
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(encode(middle)) <= limit else (low, middle - 1)
    found: list[tuple[bytes, int]] = []
    for quality in range(min(100, low + 3), 0, -1):
        data = encode(quality)
        if len(data) <= limit:
            found.append((data, quality))
            if len(found) == count:
                break
    return found
