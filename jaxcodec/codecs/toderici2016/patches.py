"""The patches of a picture, and the bytes of their stages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jaxcodec.codecs.toderici2016.model import ThumbnailConfig
from jaxcodec.coding.container import Header
from jaxcodec.errors import CorruptFile

_ANOTHER_COPY = "get another copy of the file"


def patch_grid(height: int, width: int, config: ThumbnailConfig) -> tuple[int, int]:
    """Rows and columns of patches."""
    return math.ceil(height / config.patch), math.ceil(width / config.patch)


def cut_patches(pixels: np.ndarray, config: ThumbnailConfig) -> np.ndarray:
    """uint8 `[H, W, 3]` to `[n, P, P, 3]` in raster order; the last row and column are repeated to whole patches."""
    height, width = pixels.shape[:2]
    side = config.patch
    whole = np.pad(pixels, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    rows, columns = patch_grid(height, width, config)
    return whole.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)


def join_patches(patches: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[n, P, P, 3]` to `[H, W, 3]`."""
    side = patches.shape[1]
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    whole = patches.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(whole.reshape(rows * side, columns * side, 3)[:height, :width])


def pack_counts(counts: np.ndarray, config: ThumbnailConfig) -> bytes:
    """How many stages each patch has, `[n]`, less one, in `(stages - 1).bit_length()` bits each."""
    digits = np.arange((config.stages - 1).bit_length())[::-1]
    return np.packbits(((counts[:, None] - 1) >> digits) & 1).tobytes()


def read_chunks(
    chunks: Sequence[bytes], header: Header, config: ThumbnailConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Bits, bool `[K, n, bits]`, and stages of each patch, `[n]`; lengths are checked before bits are unpacked."""
    rows, columns = patch_grid(header.height, header.width, config)
    patches, digits = rows * columns, (config.stages - 1).bit_length()
    first, counted = chunks[0], math.ceil(patches * digits / 8)
    counts = np.full(patches, len(chunks)) if len(first) == math.ceil(patches * config.bits / 8) else None
    if counts is None:
        if len(first) != counted + math.ceil(patches * config.bits / 8):
            raise CorruptFile(
                f"{len(first)} bytes are not the first stage of {patches} patches; {_ANOTHER_COPY}"
            )
        weights = 1 << np.arange(digits)[::-1]
        stored = 1 + _unpack_bits(first[:counted], patches, digits) @ weights
        if stored.max() > config.stages:
            raise CorruptFile(
                f"a patch has {stored.max()} stages, the network {config.stages}; {_ANOTHER_COPY}"
            )
        counts, first = np.minimum(stored, len(chunks)), first[counted:]
    stages = [first, *chunks[1:]]
    active = [counts > stage for stage in range(len(stages))]
    for chunk, reached in zip(stages, active, strict=True):
        if not reached.any() or len(chunk) != math.ceil(np.count_nonzero(reached) * config.bits / 8):
            raise CorruptFile(
                f"{len(chunk)} bytes are not a stage of {np.count_nonzero(reached)} patches; {_ANOTHER_COPY}"
            )
    codes = np.zeros((len(stages), patches, config.bits), bool)
    for code, chunk, reached in zip(codes, stages, active, strict=True):
        code[reached] = _unpack_bits(chunk, int(reached.sum()), config.bits)
    return codes, counts


def _unpack_bits(data: bytes, rows: int, columns: int) -> np.ndarray:
    """Bool `[rows, columns]`."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(bool)
    if bits[rows * columns :].any():
        raise CorruptFile(f"bits follow the last one of a stage; {_ANOTHER_COPY}")
    return bits[: rows * columns].reshape(rows, columns)
