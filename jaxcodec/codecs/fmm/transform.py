"""The modulus transform: samples to multiples of k, and 8x8 blocks to a minimum, a width and residues.

Samples are uint8, planes `[C, H, W]`, blocks `[N, 64]` in raster order within the block, the blocks of a plane in
raster order, one plane after the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 8
"""Pixels per side of a block; fixed by the format."""

_BATCHES = (64, 4096)
"""Numbers of blocks that the transform is compiled for: pictures of all sizes share them."""

Array = TypeVar("Array", np.ndarray, jax.Array)


def symbol_count(modulus: int) -> int:
    """Return the number of multiples of `modulus` that samples become: 52 for 5, `(255 + k // 2) // k + 1`."""
    return (255 + modulus // 2) // modulus + 1


def quantise(samples: Array, modulus: int) -> Array:
    """Return the index of the nearest multiple of `modulus`, the upper one of two equally near.

    Parameters
    ----------
    samples
        uint8, any shape, of numpy or jax.
    modulus
        k, 1..255.

    Returns
    -------
    array
        uint8 `(x + k // 2) // k`, below `symbol_count(k)`.

    Notes
    -----
    Jassim 2012 (arXiv 1211.4591) for k = 5, where the remainders 0, 1, 2, 3, 4 change the sample by 0, -1, -2, +2, +1.
    255 is a multiple of 5, so nothing overflows. The paper on other k (arXiv 1304.6759) does not say what
    happens to ties of even k; half up is this library's choice.
    """
    wide: Any = samples.astype(np.uint16)  # x + k // 2 exceeds uint8
    return ((wide + modulus // 2) // modulus).astype(np.uint8)


def reconstruct(symbols: Array, modulus: int) -> Array:
    """Return the samples of indices, uint8 `min(k q, 255)`; a fixed point of `quantise` and back."""
    wide: Any = symbols.astype(np.uint16)
    return (wide * modulus).clip(0, 255).astype(np.uint8)


@partial(jax.jit, static_argnames="modulus")
def block_transform(blocks: jax.Array, *, modulus: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Quantise blocks and split them.

    Parameters
    ----------
    blocks
        uint8 `[N, 64]`, samples.
    modulus
        k, 1..255.

    Returns
    -------
    minima, widths
        uint8 `[N]`: the smallest index of each block, and the bits of the largest residue, 0..8.
    residues
        uint8 `[N, 64]`: indices less the block's minimum.
    """
    symbols = quantise(blocks, modulus)
    minima = symbols.min(axis=1)
    residues = symbols - minima[:, None]
    widths = 8 - jax.lax.clz(residues.max(axis=1))
    return minima, widths, residues


def transform_blocks(blocks: np.ndarray, modulus: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `block_transform` does of any number of blocks, without compiling it for each number."""
    count = len(blocks)
    minima, widths = np.empty(count, np.uint8), np.empty(count, np.uint8)
    residues = np.empty((count, BLOCK * BLOCK), np.uint8)
    batch = _BATCHES[0] if count <= _BATCHES[0] else _BATCHES[1]
    pending = []
    for start in range(0, count, batch):
        part = blocks[start : start + batch]
        if len(part) < batch:
            part = np.concatenate([part, np.zeros((batch - len(part), BLOCK * BLOCK), np.uint8)])
        pending.append((start, block_transform(jnp.asarray(part), modulus=modulus)))
    for start, results in pending:
        for target, result in zip((minima, widths, residues), results, strict=True):
            piece = target[start : start + batch]
            piece[...] = np.asarray(result)[: len(piece)]
    return minima, widths, residues


def blocks_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return planes, rows of blocks and blocks per row of planes `[C, H, W]`."""
    channels, height, width = shape
    return channels, -(-height // BLOCK), -(-width // BLOCK)


def to_blocks(planes: np.ndarray) -> np.ndarray:
    """Cut uint8 `[C, H, W]` into blocks `[N, 64]`; the last row and column are repeated to fill the last ones."""
    channels, rows, columns = blocks_shape(planes.shape)
    missing = rows * BLOCK - planes.shape[1], columns * BLOCK - planes.shape[2]
    if any(missing):
        planes = np.pad(planes, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
    # A row of a block is one 64-bit word, which makes the transposition eight times shorter.
    words = np.ascontiguousarray(planes).reshape(channels, rows, BLOCK, columns * BLOCK).view(np.uint64)
    return np.ascontiguousarray(words.swapaxes(2, 3)).view(np.uint8).reshape(-1, BLOCK * BLOCK)


def to_planes(blocks: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Undo `to_blocks` for planes of `shape`, `(C, H, W)`."""
    channels, rows, columns = blocks_shape(shape)
    words = np.ascontiguousarray(blocks).view(np.uint64).reshape(channels, rows, columns, BLOCK)
    planes = np.ascontiguousarray(words.swapaxes(2, 3)).view(np.uint8)
    planes = planes.reshape(channels, rows * BLOCK, columns * BLOCK)
    return planes[:, : shape[1], : shape[2]]
