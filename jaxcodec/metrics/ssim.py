"""SSIM and MS-SSIM with a Gaussian window of 11 x 11 pixels, sigma 1.5.

`ssim` and `ms_ssim` are differentiable: float `[B, H, W, C]`, values in `[0, data_range]`, one number per
picture. `ssim_uint8` and `ms_ssim_uint8` measure one pair of 8-bit pictures in numpy float64, with nothing
to compile, and are the ones for large pictures. Both pairs share every formula below and differ in how they
blur.

Conventions, those of `pytorch-msssim`, by which the authors of CompressAI measured their Kodak curves:
population variances under the window; only windows that lie wholly inside the picture; each channel
measured alone, then the mean over channels.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.errors import BadImage
from jaxcodec.metrics.pairs import check_pair

Array = Any  # jax.Array, or np.ndarray in the functions of 8-bit pictures; `xp` is jnp or np accordingly

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
K1, K2 = 0.01, 0.03
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales from fine to coarse: Wang, Simoncelli and Bovik 2003, section 3.2."""

_LINEAR_BELOW = 1e-6

_offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
_gaussian = np.exp(-(_offsets**2) / (2.0 * WINDOW_SIGMA**2))
WINDOW: tuple[float, ...] = tuple((_gaussian / _gaussian.sum()).tolist())
"""The separable window: it sums to 1, and its outer product with itself is the 11 x 11 window."""


def ssim(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray, *, data_range: float = 1.0) -> jax.Array:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004), per picture.

    Parameters
    ----------
    a, b
        `[B, H, W, C]`, values in `[0, data_range]`, at least 11 pixels a side.
    data_range
        The largest possible value.

    Returns
    -------
    jax.Array
        `[B]`, in `[-1, 1]`; 1 for equal pictures. Computed in float32 or better.

    Raises
    ------
    BadImage
        If a side is shorter than the window.
    ValueError
        If the shapes differ or are not `[B, H, W, C]`.
    """
    planes_a, planes_b = _planes(a, b, minimum=WINDOW_SIZE)
    similarity, _ = _similarity_and_contrast(planes_a, planes_b, data_range, jnp)
    return jnp.mean(similarity, axis=1)


def ms_ssim(
    a: jax.Array | np.ndarray,
    b: jax.Array | np.ndarray,
    *,
    data_range: float = 1.0,
    weights: tuple[float, ...] = MS_SSIM_WEIGHTS,
) -> jax.Array:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003, section 3), per picture.

    Parameters
    ----------
    a, b
        `[B, H, W, C]`, values in `[0, data_range]`, both sides longer than `10 * 2**(len(weights) - 1)`,
        that is 160 pixels for the five scales of the paper.
    data_range
        The largest possible value.
    weights
        Exponent of each scale, from fine to coarse, each at most 1. Fewer weights allow smaller crops, but
        what they measure is no longer MS-SSIM as published.

    Returns
    -------
    jax.Array
        `[B]`, in `[0, 1]`; 1 for equal pictures. Computed in float32 or better.

    Raises
    ------
    BadImage
        If a side is too short for the scales.
    ValueError
        If the shapes differ or are not `[B, H, W, C]`.

    Notes
    -----
    Between scales each 2 x 2 pixels are averaged. An odd side first gets one row (column) of zeros at the
    top (left), counted in the average, as `pytorch-msssim` has it. A mean contrast-structure term below
    zero counts as zero; its gradient is zero there. Between 0 and 1e-6 the power is replaced by the line to
    the origin, which keeps the gradient finite.
    """
    planes_a, planes_b = _planes(a, b, minimum=_minimum_side(weights))
    return jnp.mean(_multi_scale(planes_a, planes_b, data_range, weights, jnp), axis=1)


def ssim_uint8(a: np.ndarray, b: np.ndarray) -> float:
    """`ssim` of two 8-bit pictures in float64.

    Parameters
    ----------
    a, b
        uint8, `[H, W, C]` or `[H, W]`, at least 11 pixels a side.

    Raises
    ------
    BadImage
        If the pictures are not uint8, differ in shape or are too small.
    """
    a, b = check_pair(a, b)
    _check_side(a.shape[0], a.shape[1], minimum=WINDOW_SIZE)
    # One channel at a time: three times faster than all at once, since a plane nearly fits the cache.
    values = [
        _similarity_and_contrast(_plane(a, channel), _plane(b, channel), 255.0, np)[0]
        for channel in range(a.shape[2])
    ]
    return float(np.mean(values))


def ms_ssim_uint8(a: np.ndarray, b: np.ndarray) -> float:
    """`ms_ssim` of two 8-bit pictures in float64, five scales.

    Parameters
    ----------
    a, b
        uint8, `[H, W, C]` or `[H, W]`, both sides longer than 160 pixels.

    Raises
    ------
    BadImage
        If the pictures are not uint8, differ in shape or are too small.
    """
    a, b = check_pair(a, b)
    _check_side(a.shape[0], a.shape[1], minimum=_minimum_side(MS_SSIM_WEIGHTS))
    values = [
        _multi_scale(_plane(a, channel), _plane(b, channel), 255.0, MS_SSIM_WEIGHTS, np)
        for channel in range(a.shape[2])
    ]
    return float(np.mean(values))


def ms_ssim_db(value: float | np.ndarray) -> np.ndarray:
    """MS-SSIM on the scale of the published curves and of BD-rates, `-10 log10(1 - value)`.

    Parameters
    ----------
    value
        MS-SSIM, any shape. For a set of pictures the published curves convert the mean MS-SSIM, not each one.

    Returns
    -------
    np.ndarray
        In dB, same shape, float64; `inf` at 1 (and above, where rounding led there).
    """
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(np.maximum(1.0 - np.asarray(value, np.float64), 0.0))


def _planes(
    a: jax.Array | np.ndarray, b: jax.Array | np.ndarray, *, minimum: int
) -> tuple[jax.Array, jax.Array]:
    """Check the shapes and return both as `[B, C, H, W]`, float32 or better."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"SSIM takes two equal shapes [B, H, W, C], got {a.shape} and {b.shape}")
    _check_side(a.shape[1], a.shape[2], minimum=minimum)
    dtype = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
    return jnp.moveaxis(a.astype(dtype), 3, 1), jnp.moveaxis(b.astype(dtype), 3, 1)


def _plane(picture: np.ndarray, channel: int) -> np.ndarray:
    return picture[:, :, channel].astype(np.float64)


def _minimum_side(weights: tuple[float, ...]) -> int:
    """Shortest side that `pytorch-msssim` takes: there the window fits at the coarsest scale."""
    return (WINDOW_SIZE - 1) * 2 ** (len(weights) - 1) + 1


def _check_side(height: int, width: int, *, minimum: int) -> None:
    if min(height, width) < minimum:
        raise BadImage(
            f"the picture is {height} x {width}; this measure needs at least {minimum} pixels a side "
            f"({WINDOW_SIZE} for SSIM, 161 for five-scale MS-SSIM): use a larger picture, SSIM or PSNR"
        )


def _similarity_and_contrast(a: Array, b: Array, data_range: float, xp: ModuleType) -> tuple[Array, Array]:
    """Mean SSIM and mean contrast-structure of planes `[..., H, W]`, each of shape `[...]`."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # Covariances do not change with a shift; around mid-grey E[x^2] - E[x]^2 loses fewer digits of a float32.
    centre = data_range / 2.0
    a, b = a - centre, b - centre
    mean_a, mean_b, squares, products = _blur([a, b, a * a + b * b, a * b], xp)
    variances = squares - mean_a * mean_a - mean_b * mean_b
    covariance = products - mean_a * mean_b
    contrast = (2.0 * covariance + c2) / (variances + c2)
    mean_a, mean_b = mean_a + centre, mean_b + centre
    luminance = (2.0 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    return xp.mean(luminance * contrast, axis=(-2, -1)), xp.mean(contrast, axis=(-2, -1))


def _multi_scale(a: Array, b: Array, data_range: float, weights: tuple[float, ...], xp: ModuleType) -> Array:
    """MS-SSIM `[...]` of planes `[..., H, W]`: product of contrast**weight, at the last SSIM**weight."""
    product = xp.ones(a.shape[:-2], a.dtype)
    for weight in weights[:-1]:
        _, contrast = _similarity_and_contrast(a, b, data_range, xp)
        product = product * _clamped_power(contrast, weight, xp)
        a, b = _halve(a, xp), _halve(b, xp)
    similarity, _ = _similarity_and_contrast(a, b, data_range, xp)
    return product * _clamped_power(similarity, weights[-1], xp)


def _clamped_power(x: Array, exponent: float, xp: ModuleType) -> Array:
    """`max(x, 0) ** exponent`, exponent at most 1, without the infinite slope at 0."""
    power = xp.maximum(x, _LINEAR_BELOW) ** exponent
    line = xp.maximum(x, 0.0) * _LINEAR_BELOW ** (exponent - 1.0)
    return xp.where(x > _LINEAR_BELOW, power, line)


def _halve(x: Array, xp: ModuleType) -> Array:
    """Average 2 x 2 pixels of `[..., H, W]`; an odd side gets a zero row or column in front."""
    odd = [(0, 0)] * (x.ndim - 2) + [(side % 2, 0) for side in x.shape[-2:]]
    x = xp.pad(x, odd)
    height, width = x.shape[-2:]
    return x.reshape(*x.shape[:-2], height // 2, 2, width // 2, 2).mean(axis=(-3, -1))


def _blur(maps: list[Array], xp: ModuleType) -> list[Array]:
    """Gaussian window over maps `[..., H, W]`, windows inside only: each `[..., H - 10, W - 10]`."""
    if xp is np:
        return [_sum_of_shifts(_sum_of_shifts(x, -2), -1) for x in maps]
    # Products with banded matrices: forward and backward of a Kodak picture on a CPU take a third of the
    # time of shifted sums, a fifth of that of convolutions, and compile four times faster.
    x = jnp.stack(maps)
    rows = jnp.asarray(_band(x.shape[-2]), x.dtype)
    columns = jnp.asarray(_band(x.shape[-1]), x.dtype)
    x = jnp.einsum("ih,...hw->...iw", rows, x, precision="highest")
    x = jnp.einsum("...iw,jw->...ij", x, columns, precision="highest")
    return [x[k] for k in range(len(maps))]


def _band(side: int) -> np.ndarray:
    """`[side - 10, side]`: row i holds the window at columns i to i + 10."""
    band = np.zeros((side - WINDOW_SIZE + 1, side))
    first = np.arange(len(band))
    for offset, weight in enumerate(WINDOW):
        band[first, first + offset] = weight
    return band


def _sum_of_shifts(x: np.ndarray, axis: int) -> np.ndarray:
    x = np.moveaxis(x, axis, 0)
    length = len(x) - WINDOW_SIZE + 1
    middle = WINDOW_SIZE // 2
    total = WINDOW[middle] * x[middle : middle + length]
    for left in range(middle):
        right = WINDOW_SIZE - 1 - left
        total += WINDOW[left] * (x[left : left + length] + x[right : right + length])
    return np.moveaxis(total, 0, axis)
