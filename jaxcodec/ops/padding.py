"""Padding to a multiple and cropping back, exactly."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

PaddingMode = Literal["zero", "edge", "reflect"]


def pad_to_multiple(x: jax.Array, multiple: int, *, mode: PaddingMode = "edge") -> jax.Array:
    """Extend `[B, H, W, C]` at the bottom and the right until H and W are multiples of `multiple`.

    `reflect` does not repeat the border, and folds back as often as a small picture needs.

    Raises
    ------
    ValueError
        If the mode is not one of zero, edge, reflect.
    """
    rows, columns = -x.shape[1] % multiple, -x.shape[2] % multiple
    widths = ((0, 0), (0, rows), (0, columns), (0, 0))
    if mode == "zero":
        return jnp.pad(x, widths)
    if mode == "edge":
        return jnp.pad(x, widths, mode="edge")
    if mode == "reflect":
        return jnp.pad(x, widths, mode="reflect")
    raise ValueError(f"padding mode {mode!r} is not one of zero, edge, reflect")


def crop(x: jax.Array, height: int, width: int) -> jax.Array:
    """Keep the top left `[B, height, width, C]`.

    Raises
    ------
    ValueError
        If x is smaller.
    """
    if x.shape[1] < height or x.shape[2] < width:
        raise ValueError(f"cannot crop {x.shape[1]}x{x.shape[2]} to {height}x{width}")
    return x[:, :height, :width]
