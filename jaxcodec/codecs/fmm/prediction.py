"""The median edge detector (MED) of LOCO-I and JPEG-LS, on whole planes, in tiles, and its inverse by wavefront.

With left `a`, above `b` and above left `c`, the prediction is the median of a, b and a + b - c (Weinberger, Seroussi,
Sapiro, "The LOCO-I lossless image compression algorithm", IEEE TIP 2000, section III.A). In the first row of a tile
it is a, in its first column b, and 0 for its first sample.

Undoing it needs each sample's neighbours first, so samples are computed one anti-diagonal after the other, those of
all planes and tiles together. Tiles keep a long and narrow picture from having as many diagonals as pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

TILE = 1024
"""Samples per side of what is predicted independently; fixed by the format."""

_AT_ONCE = 1 << 22  # samples in a wavefront, for memory's sake

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


def predict(planes: np.ndarray) -> np.ndarray:
    """Return the prediction of every sample of uint8 `[C, H, W]`, int16: what is on the left and above it is known."""
    samples = planes.astype(np.int16)
    prediction = np.zeros_like(samples)
    for rows, columns in _tiles(*planes.shape[1:]):
        tile, result = samples[:, rows, columns], prediction[:, rows, columns]
        result[:, 0, 1:] = tile[:, 0, :-1]
        result[:, 1:, 0] = tile[:, :-1, 0]
        result[:, 1:, 1:] = _median(tile[:, 1:, :-1], tile[:, :-1, 1:], tile[:, :-1, :-1])
    return prediction


def residuals(planes: np.ndarray, size: int) -> np.ndarray:
    """Return uint8 `[C, H, W]` symbols of 0..`size` - 1 less their prediction, modulo `size`."""
    differences = planes - predict(planes)
    return np.where(differences < 0, differences + np.int16(size), differences).astype(np.uint8)


def from_residuals(differences: np.ndarray, size: int) -> np.ndarray:
    """Undo `residuals`: any uint8 `[C, H, W]` below `size` gives symbols below `size`."""

    def add(prediction: np.ndarray, difference: np.ndarray) -> np.ndarray:
        total = prediction + difference
        return np.where(total >= size, total - np.int16(size), total)

    return walk(differences, add)


def walk(values: np.ndarray, combine: Combine) -> np.ndarray:
    """Compute every sample from its prediction and a value, where predictions come from computed samples.

    Parameters
    ----------
    values
        uint8 `[C, H, W]`.
    combine
        Gives the samples, of 0..255, of int16 `[n, m]` predictions and values.

    Returns
    -------
    np.ndarray
        uint8 `[C, H, W]`.
    """
    result = np.empty_like(values)
    groups: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for rows, columns in _tiles(*values.shape[1:]):
        shape = rows.stop - rows.start, columns.stop - columns.start
        groups.setdefault(shape, []).append((rows, columns))
    for (height, width), places in groups.items():
        step = max(1, _AT_ONCE // (height * width * len(values)))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            tiles = np.concatenate([values[:, rows, columns] for rows, columns in some])
            done = np.split(_wavefront(tiles, combine), len(some))
            for (rows, columns), tile in zip(some, done, strict=True):
                result[:, rows, columns] = tile
    return result


def _wavefront(tiles: np.ndarray, combine: Combine) -> np.ndarray:
    """`walk` for uint8 `[n, h, w]`, tiles of one shape."""
    count, height, width = tiles.shape
    # Sample (i, j) of all tiles stands at [i + j, i]: the diagonals become rows.
    skewed = np.zeros((height + width - 1, height, count), np.int16)
    item = skewed.itemsize
    strides = ((height + 1) * count * item, height * count * item, item)
    square = np.lib.stride_tricks.as_strided(skewed, (height, width, count), strides)
    square[...] = tiles.transpose(1, 2, 0)
    for d in range(height + width - 1):
        now, before = skewed[d], skewed[d - 1]
        first, last = max(1, d - width + 1), min(height, d)  # rows with neighbours on both sides
        if first < last:
            left, above = before[first:last], before[first - 1 : last - 1]
            prediction = _median(left, above, skewed[d - 2, first - 1 : last - 1])
            now[first:last] = combine(prediction, now[first:last])
        if d == 0:
            now[:1] = combine(np.zeros_like(now[:1]), now[:1])
            continue
        if d < width:
            now[:1] = combine(before[:1], now[:1])
        if d < height:
            now[d : d + 1] = combine(before[d - 1 : d], now[d : d + 1])
    return square.transpose(2, 0, 1).astype(np.uint8)


def _median(left: np.ndarray, above: np.ndarray, above_left: np.ndarray) -> np.ndarray:
    plane = left + above - above_left
    return np.maximum(np.minimum(plane, np.maximum(left, above)), np.minimum(left, above))


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
