"""Where pixels lie, as the numbers that CocoNet's network takes: computed in float64, given in float32.

`x` counts pixels from the left edge and `y` from the top one, so the centre of the first pixel is at 0.5.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from jaxcodec.errors import BadOption

Inputs = Literal["corner", "centred", "xy", "fourier"]
INPUTS: tuple[Inputs, ...] = ("corner", "centred", "xy", "fourier")
"""A kind's number in a file is its position here; append only."""

LARGEST_RAW_SIDE = 32
"""Lengths in pixels of larger pictures are scaled to this side: otherwise the first tanh would be saturated."""


def input_count(inputs: Inputs, octaves: int) -> int:
    """Return how many numbers a pixel has: F of `coordinates`."""
    return {"corner": 6, "centred": 6, "xy": 2, "fourier": 2 + 4 * octaves}[inputs]


def enlarged_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Return height and width times `factor`, rounded, at least 1; `BadOption` if `factor` is not positive."""
    if not (math.isfinite(factor) and factor > 0):
        raise BadOption(f"the factor is a number above 0, not {factor}")
    return max(1, round(height * factor)), max(1, round(width * factor))


def coordinates(
    height: int,
    width: int,
    *,
    inputs: Inputs = "corner",
    octaves: int = 0,
    factor: float = 1.0,
    aligned: bool = True,
    pixels: range | None = None,
) -> np.ndarray:
    """Return the network's inputs for every pixel of a picture, or of an enlarged one.

    Parameters
    ----------
    height, width
        Of the picture that the network was fitted to, H and W, in pixels.
    inputs
        `"corner"`, the original's six numbers: x, y, W - x, H - y, the distance from the centre, and the angle
        `atan2(y, x)`, which it takes from the corner; `"centred"`, the same with the angle around the centre;
        `"xy"`, two numbers in -1..1; `"fourier"`, those two and sines and cosines of `pi 2^k` times each, k = 0 ..
        `octaves` - 1.
    octaves
        Of `"fourier"`.
    factor
        e: pixels of the result per pixel of the picture.
    aligned
        Pixel i of the result has its centre at `(i + 0.5) / e`. If False it is taken at `i / e + 0.5`, as the
        original code does: `0.5 - 0.5 / e` pixels too far right and down.
    pixels
        Which pixels of the result, counted row by row; all by default.

    Returns
    -------
    np.ndarray
        float32 `[n, F]`, row by row, of all `h * w` pixels or those asked for, with `h, w = enlarged_size(H, W, e)` and
        `F = input_count(...)`.

    Raises
    ------
    BadOption
        If there are no such inputs, or `factor` is not positive.

    Notes
    -----
    Bricman and Ionescu, "CocoNet: A Deep Neural Network for Mapping Pixel Coordinates to Color Values", ICONIP 2018,
    section 3, and the authors' code. That has raw lengths; here those of pictures with a side of more than 32 pixels
    are scaled by 32 / max(H, W). Sines and cosines are those of Mildenhall et al., "NeRF", ECCV 2020, section 5.1.
    """
    if inputs not in INPUTS:
        raise BadOption(f"there are no inputs {inputs!r}; there are {', '.join(INPUTS)}")
    h, w = enlarged_size(height, width, factor)
    some = pixels or range(h * w)
    numbers = np.arange(some.start, some.stop, some.step)
    i, j = (part.astype(np.float64) for part in (numbers // w, numbers % w))
    y, x = ((i + 0.5) / factor, (j + 0.5) / factor) if aligned else (i / factor + 0.5, j / factor + 0.5)
    if inputs in ("xy", "fourier"):
        return _unit_square(y, x, height, width, octaves if inputs == "fourier" else 0)
    down, right = y - height / 2, x - width / 2
    angle = np.arctan2(y, x) if inputs == "corner" else np.arctan2(down, right)
    scale = min(1.0, LARGEST_RAW_SIDE / max(height, width))
    lengths = np.stack([x, y, width - x, height - y, np.hypot(down, right)], axis=-1) * scale
    return np.concatenate([lengths, angle[:, None]], axis=-1).astype(np.float32)


def _unit_square(y: np.ndarray, x: np.ndarray, height: int, width: int, octaves: int) -> np.ndarray:
    # Divided by the longer side, so that a wave is as long down as across.
    half = max(height, width) / 2
    places = np.stack([(x - width / 2) / half, (y - height / 2) / half], axis=-1)
    angles = math.pi * places[:, None, :] * 2.0 ** np.arange(octaves)[:, None]
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(places), 4 * octaves)
    return np.concatenate([places, waves], axis=-1).astype(np.float32)
