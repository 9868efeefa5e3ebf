"""Moving blocks of pixels into channels and back: `[B, H, W, C] <-> [B, H/s, W/s, s*s*C]`."""

from __future__ import annotations

import jax


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """`[B, H, W, C] -> [B, H/s, W/s, s*s*C]`, channels ordered (row in block, column in block, C).

    Raises
    ------
    ValueError
        If H or W is not a multiple of `block`.
    """
    B, H, W, C = x.shape
    if H % block or W % block:
        raise ValueError(f"space_to_depth needs H and W to be multiples of {block}, got {H}x{W}; pad first")
    x = x.reshape(B, H // block, block, W // block, block, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, H // block, W // block, block * block * C)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """`[B, h, w, s*s*C] -> [B, h*s, w*s, C]`, the inverse of `space_to_depth`.

    Raises
    ------
    ValueError
        If the channels are not a multiple of `block**2`.
    """
    B, h, w, channels = x.shape
    C, rest = divmod(channels, block * block)
    if rest:
        raise ValueError(f"depth_to_space needs a multiple of {block * block} channels, got {channels}")
    x = x.reshape(B, h, w, block, block, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, h * block, w * block, C)
