"""PSNR-HVS and PSNR-HVS-M: PSNR on 8 x 8 DCT coefficients weighted by contrast sensitivity; M with masking.

Egiazarian et al., "New full-reference quality metrics based on HVS", VPQM 2006 (PSNR-HVS).
Ponomarenko et al., "On between-coefficient contrast masking of DCT basis functions", VPQM 2007 (PSNR-HVS-M).

Conventions of the authors' reference program:
- a colour picture is measured on its BT.601 luma of studio range, rounded to 8 bits:
  `16 + (65.481 R + 128.553 G + 24.966 B) / 255`; a grey one on its own values, so that a colour picture and
  its grey copy do not measure the same;
- the peak is 255 for both; blocks do not overlap; rows and columns that do not fill a block are left out.
"""

from __future__ import annotations

import math

import numpy as np

from jaxcodec.errors import BadImage
from jaxcodec.metrics.pairs import check_pair

BLOCK = 8

# The two tables are printed in the reference program; row u, column v belong to the DCT coefficient (u, v).
CONTRAST_SENSITIVITY = np.array(
    [
        [1.608443, 2.339554, 2.573509, 1.608443, 1.072295, 0.643377, 0.504610, 0.421887],
        [2.144591, 2.144591, 1.838221, 1.354478, 0.989811, 0.443708, 0.428918, 0.467911],
        [1.838221, 1.979622, 1.608443, 1.072295, 0.643377, 0.451493, 0.372972, 0.459555],
        [1.838221, 1.513829, 1.169777, 0.887417, 0.504610, 0.295806, 0.321689, 0.415082],
        [1.429727, 1.169777, 0.695543, 0.459555, 0.378457, 0.236102, 0.249855, 0.334222],
        [1.072295, 0.735288, 0.467911, 0.402111, 0.317717, 0.247453, 0.227744, 0.279729],
        [0.525206, 0.402111, 0.329937, 0.295806, 0.249855, 0.212687, 0.214459, 0.254803],
        [0.357432, 0.279729, 0.270896, 0.262603, 0.229778, 0.257351, 0.249855, 0.259950],
    ]
)
MASKING = np.array(
    [
        [0.390625, 0.826446, 1.000000, 0.390625, 0.173611, 0.062500, 0.038447, 0.026874],
        [0.694444, 0.694444, 0.510204, 0.277008, 0.147929, 0.029727, 0.027778, 0.033058],
        [0.510204, 0.591716, 0.390625, 0.173611, 0.062500, 0.030779, 0.021004, 0.031888],
        [0.510204, 0.346021, 0.206612, 0.118906, 0.038447, 0.013212, 0.015625, 0.026015],
        [0.308642, 0.206612, 0.073046, 0.031888, 0.021626, 0.008417, 0.009426, 0.016866],
        [0.173611, 0.081633, 0.033058, 0.024414, 0.015242, 0.009246, 0.007831, 0.011815],
        [0.041649, 0.024414, 0.016437, 0.013212, 0.009426, 0.006830, 0.006944, 0.009803],
        [0.019290, 0.011815, 0.011080, 0.010412, 0.007972, 0.010000, 0.009426, 0.010203],
    ]
)

_frequency, _position = np.mgrid[:BLOCK, :BLOCK]
_DCT = np.sqrt(2.0 / BLOCK) * np.cos(np.pi * (2 * _position + 1) * _frequency / (2 * BLOCK))
_DCT[0] /= np.sqrt(2.0)


def psnr_hvs(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR-HVS of two 8-bit pictures, on luma.

    Parameters
    ----------
    a, b
        uint8, `[H, W, 3]` (sRGB) or `[H, W]` (grey), at least 8 pixels a side.

    Returns
    -------
    float
        In dB, `inf` for equal luma.

    Raises
    ------
    BadImage
        If the pictures are not uint8, differ in shape, are too small, or have other than 1 or 3 channels.
    """
    blocks_a, blocks_b = _luma_blocks(a, b)
    error = (_transform(blocks_a) - _transform(blocks_b)) * CONTRAST_SENSITIVITY
    return _decibels(np.mean(error * error))


def psnr_hvs_m(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR-HVS-M of two 8-bit pictures, on luma: differences that the block's own contrast hides count less.

    Parameters
    ----------
    a, b
        uint8, `[H, W, 3]` (sRGB) or `[H, W]` (grey), at least 8 pixels a side.

    Returns
    -------
    float
        In dB, never below `psnr_hvs` of the same pictures; `inf` where masking hides every difference.

    Raises
    ------
    BadImage
        If the pictures are not uint8, differ in shape, are too small, or have other than 1 or 3 channels.
    """
    blocks_a, blocks_b = _luma_blocks(a, b)
    dct_a, dct_b = _transform(blocks_a), _transform(blocks_b)
    strength = np.maximum(_masking_strength(blocks_a, dct_a), _masking_strength(blocks_b, dct_b))
    threshold = strength[:, None, None] / MASKING
    threshold[:, 0, 0] = 0.0  # the mean of a block is not masked
    error = np.maximum(np.abs(dct_a - dct_b) - threshold, 0.0) * CONTRAST_SENSITIVITY
    return _decibels(np.mean(error * error))


def luma_bt601(picture: np.ndarray) -> np.ndarray:
    """BT.601 luma of studio range, rounded to 8 bits (the values 16 to 235), float64 `[H, W]`.

    Parameters
    ----------
    picture
        uint8, `[H, W, 3]`, sRGB.
    """
    red, green, blue = np.moveaxis(picture, -1, 0).astype(np.float64)
    return np.round(16.0 + 65.481 * red / 255.0 + 128.553 * green / 255.0 + 24.966 * blue / 255.0)


def _luma_blocks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures as luma blocks `[N, 8, 8]`."""
    a, b = check_pair(a, b)
    height, width, channels = a.shape
    if channels not in (1, 3):
        raise BadImage(f"PSNR-HVS measures sRGB or grey, got {channels} channels; drop or compose the others")
    if min(height, width) < BLOCK:
        raise BadImage(
            f"the picture is {height} x {width}; PSNR-HVS needs at least 8 pixels a side: use PSNR"
        )
    blocks = []
    for picture in (a, b):
        luma = luma_bt601(picture) if channels == 3 else picture[:, :, 0].astype(np.float64)
        rows, columns = height // BLOCK, width // BLOCK
        grid = luma[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
        blocks.append(grid.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK))
    return blocks[0], blocks[1]


def _transform(blocks: np.ndarray) -> np.ndarray:
    """Orthonormal 8 x 8 DCT-II of blocks `[N, 8, 8]`."""
    return _DCT @ blocks @ _DCT.T


def _masking_strength(blocks: np.ndarray, dct: np.ndarray) -> np.ndarray:
    """Masking effect `[N]`: the weighted AC energy, less where the quarters of a block are flat and differ.

    `sqrt(energy * (sum of the quarters' variances) / (variance of the block)) / 32`, where each "variance" is
    the sample variance times the number of pixels, as in the reference program.
    """
    energy = np.sum(dct**2 * MASKING, axis=(1, 2)) - dct[:, 0, 0] ** 2 * MASKING[0, 0]
    whole = np.var(blocks, axis=(1, 2), ddof=1) * BLOCK**2
    half = BLOCK // 2
    quarters = blocks.reshape(-1, 2, half, 2, half)
    parts = np.sum(np.var(quarters, axis=(2, 4), ddof=1) * half**2, axis=(1, 2))
    ratio = np.divide(parts, whole, out=np.zeros_like(whole), where=whole > 0.0)
    return np.sqrt(np.maximum(energy, 0.0) * ratio) / 32.0


def _decibels(mean_square: np.floating) -> float:
    return math.inf if mean_square == 0.0 else 10.0 * math.log10(255.0**2 / float(mean_square))
