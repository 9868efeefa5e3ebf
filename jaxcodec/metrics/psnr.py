"""Mean squared error and peak signal-to-noise ratio.

Float functions: `[B, H, W, C]`, values in `[0, data_range]`, one number per picture, in float32 or better.
`psnr_uint8` measures one pair of 8-bit pictures exactly.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.metrics.pairs import check_pair


def mse(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> jax.Array:
    """Mean of `(a - b)**2` over height, width and channels, per picture.

    Parameters
    ----------
    a, b
        `[B, H, W, C]`, in the same units.

    Returns
    -------
    jax.Array
        `[B]`, in squared units of the input, at least float32.

    Raises
    ------
    ValueError
        If the shapes differ or are not `[B, H, W, C]`.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"mse and psnr take two equal shapes [B, H, W, C], got {a.shape} and {b.shape}")
    dtype = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
    difference = a.astype(dtype) - b.astype(dtype)
    return jnp.mean(difference * difference, axis=(1, 2, 3))


def psnr(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray, *, data_range: float = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio, `10 log10(data_range**2 / mse)`, per picture.

    Parameters
    ----------
    a, b
        `[B, H, W, C]`, values in `[0, data_range]`.
    data_range
        The largest possible value: 1 for float pictures, 255 for 8-bit ones.

    Returns
    -------
    jax.Array
        `[B]`, in dB. Infinite for equal pictures, where the gradient does not exist: train on `mse`.

    Raises
    ------
    ValueError
        If the shapes differ or are not `[B, H, W, C]`.

    Notes
    -----
    The error is averaged over the channels before the logarithm ("PSNR-RGB" of the published Kodak curves).
    """
    return -10.0 * jnp.log10(mse(a, b) / data_range**2)


def psnr_uint8(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures, from the exact integer sum of squares.

    Parameters
    ----------
    a, b
        uint8, `[H, W, C]` or `[H, W]`.

    Returns
    -------
    float
        In dB, `inf` for equal pictures.

    Raises
    ------
    BadImage
        If the pictures are not uint8 or differ in shape.
    """
    a, b = check_pair(a, b)
    difference = a.astype(np.int32) - b.astype(np.int32)
    squares = int(np.sum(difference * difference, dtype=np.int64))
    return math.inf if squares == 0 else 10.0 * math.log10(255.0**2 * difference.size / squares)
