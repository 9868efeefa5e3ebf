"""Running a network over pictures of any size on a few fixed window shapes, with the same result as untiled.

XLA compiles once per shape, and a large picture does not fit in memory. So networks see windows of at most
three shapes. A window carries a halo of the network's reach on each inner side, and `Extent` tells the
network which positions lie inside the picture, so what is kept of a window equals what the whole picture
would have given. Windows begin and end on multiples of the network's stride.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

WINDOW_SHAPES = ((256, 256), (512, 768), (768, 512))
"""Heights and widths in pixels, ascending in area: small pictures, landscape, portrait."""


@dataclass(frozen=True)
class Window:
    """A place in one picture of a batch, in pixels.

    Attributes
    ----------
    picture
        Index of the picture in the batch.
    row, column
        The window's first pixel, multiples of the stride.
    top, left, bottom, right
        What is kept of it, in picture coordinates; bottom and right may pass the picture's edge up to the
        next multiple of the stride.
    """

    picture: int
    row: int
    column: int
    top: int
    left: int
    bottom: int
    right: int


def spans(length: int, window: int, *, halo: int, stride: int) -> list[tuple[int, int, int]]:
    """Cover an axis: (origin, first kept, end of kept) per window, all multiples of `stride`.

    Raises
    ------
    ValueError
        If the window is not a multiple of the stride or leaves nothing between its halos.
    """
    if window % stride or halo % stride or window <= 2 * halo:
        raise ValueError(f"a window of {window} does not suit a stride of {stride} and a halo of {halo}")
    padded = math.ceil(length / stride) * stride
    if padded <= window:
        return [(0, 0, padded)]
    step = window - 2 * halo
    origins = [*range(0, padded - window, step), padded - window]
    ends = [origin + window - halo for origin in origins[:-1]] + [padded]
    return list(zip(origins, [0, *ends[:-1]], ends, strict=True))


def windows(
    picture: int, size: tuple[int, int], shape: tuple[int, int], *, halo: int, stride: int
) -> list[Window]:
    """The windows of `shape` that cover a picture of `size` (height, width)."""
    rows = spans(size[0], shape[0], halo=halo, stride=stride)
    columns = spans(size[1], shape[1], halo=halo, stride=stride)
    return [
        Window(picture, row, column, top, left, bottom, right)
        for row, top, bottom in rows
        for column, left, right in columns
    ]


def choose_shape(
    size: tuple[int, int], shapes: Sequence[tuple[int, int]], *, halo: int, stride: int
) -> tuple[int, int]:
    """The shape whose windows have the least area in all; the first of equals."""

    def area(shape: tuple[int, int]) -> int:
        return len(windows(0, size, shape, halo=halo, stride=stride)) * shape[0] * shape[1]

    # A small window spends most of its area on halo, so it is for pictures that fit in it.
    fitting = [
        s for s in shapes if s == shapes[-1] or s[0] >= 8 * halo or (size[0] <= s[0] and size[1] <= s[1])
    ]
    return min(fitting, key=area)


def plan(
    sizes: Sequence[tuple[int, int]],
    shapes: Sequence[tuple[int, int]],
    *,
    halo: int,
    stride: int,
    batch_size: int,
) -> Iterator[tuple[tuple[int, int], list[Window]]]:
    """Windows of a batch of pictures, grouped by shape into runs of at most `batch_size`."""
    queues: dict[tuple[int, int], list[Window]] = {shape: [] for shape in shapes}
    for index, size in enumerate(sizes):
        shape = choose_shape(size, shapes, halo=halo, stride=stride)
        queues[shape] += windows(index, size, shape, halo=halo, stride=stride)
    for shape, queue in queues.items():
        for start in range(0, len(queue), batch_size):
            yield shape, queue[start : start + batch_size]


def cut(array: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    """`array[row : row + height, column : column + width]`, `[height, width, C]`, its last pixels repeated beyond."""
    part = array[row : row + height, column : column + width]
    missing = (height - part.shape[0], width - part.shape[1])
    if missing == (0, 0):
        return part
    return np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def run(
    function: Callable[[np.ndarray, np.ndarray, np.ndarray], jax.Array],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    *,
    shapes: Sequence[tuple[int, int]],
    halo: int,
    stride: int,
    input_stride: int,
    output_stride: int,
    batch_size: int,
    input_margin: int = 0,
) -> None:
    """Fill `outputs` with `function` of `inputs`, window by window.

    Parameters
    ----------
    function
        `(window [B, h, w, C], origin int32 [B, 2], size int32 [B, 2]) -> [B, h', w', C']`.
    inputs, outputs
        One array `[H / its stride, W / its stride, channels]` per picture; outputs are written in place,
        and may end before a window does (the picture's exact size).
    sizes
        Height and width of each picture in pixels.
    shapes, halo, stride
        Window shapes, context and alignment in pixels.
    input_stride, output_stride
        Pixels per position of the inputs and outputs.
    batch_size
        Windows per call; the last call of a shape is filled up with empty ones.
    input_margin
        Positions by which the inputs, and so each window of them, are higher and wider: what a network without
        padding needs around a picture.
    """
    # Two calls in flight: the device computes one while the host cuts the next and stores the last.
    pending: deque[tuple[list[Window], jax.Array]] = deque()
    for shape, group in plan(sizes, shapes, halo=halo, stride=stride, batch_size=batch_size):
        height, width = (side // input_stride + input_margin for side in shape)
        cuts = [
            cut(inputs[w.picture], w.row // input_stride, w.column // input_stride, height, width)
            for w in group
        ]
        empty = batch_size - len(group)
        batch = np.stack(cuts + [np.zeros_like(cuts[0])] * empty)
        origin = np.array([(w.row, w.column) for w in group] + [(0, 0)] * empty, np.int32)
        size = np.array([sizes[w.picture] for w in group] + [(stride, stride)] * empty, np.int32)
        pending.append((group, function(batch, origin, size)))
        if len(pending) == 2:
            _store(*pending.popleft(), outputs, output_stride)
    for item in pending:
        _store(*item, outputs, output_stride)


def _store(
    group: Iterable[Window], result: jax.Array, outputs: Sequence[np.ndarray], output_stride: int
) -> None:
    values = np.asarray(result)
    for value, w in zip(values, group, strict=False):
        s = output_stride
        target = outputs[w.picture][w.top // s : w.bottom // s, w.left // s : w.right // s]
        row, column = (w.top - w.row) // s, (w.left - w.column) // s
        target[:] = value[row : row + target.shape[0], column : column + target.shape[1]]
