"""Where a window lies in a picture, and zeroing what lies outside the picture.

A network with zero padding sees zeros beyond the border of the picture *at every layer*. A fixed-size
window that hangs over the border must reproduce that: after every layer, what lies outside is set to zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Extent(NamedTuple):
    """A window's place in its picture, in pixels.

    Attributes
    ----------
    origin
        int32 `[B, 2]`: row and column of the window's first pixel, a multiple of the network's total stride;
        negative where the window hangs over the top or the left.
    size
        int32 `[B, 2]`: height and width of the picture.
    """

    origin: jax.Array
    size: jax.Array


def zero_outside(
    x: jax.Array, extent: Extent | None, *, stride: int, margin: tuple[int, int] = (0, 0)
) -> jax.Array:
    """Zero the positions of x `[B, h, w, C]` that lie outside the picture.

    Parameters
    ----------
    x
        Values on a grid subsampled by `stride` from the pixels of the window.
    extent
        None leaves x as it is: the window is the picture.
    stride
        Pixels per position; along each axis `ceil(size / stride)` positions are inside.
    margin
        Positions before the first and after the last that count as inside too, where a picture was extended;
        x then begins that many before the window's origin.
    """
    if extent is None:
        return x

    def inside(axis: int) -> jax.Array:
        position = extent.origin[:, axis, None] // stride - margin[0] + jnp.arange(x.shape[1 + axis])[None]
        return (position >= -margin[0]) & (position < -(-extent.size[:, axis, None] // stride) + margin[1])

    return jnp.where(inside(0)[:, :, None, None] & inside(1)[:, None, :, None], x, jnp.zeros((), x.dtype))
