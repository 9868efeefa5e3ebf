"""The four ways in which the multiples of k become bytes, each richer than the one before.

`M = symbol_count(k)`, `b` the bits of `M - 1` (6 for k = 5), samples of one plane after the other:

flat
    b bits per sample, in raster order, without padding to blocks: exactly 8:6 for k = 5.
block
    b bits for the minimum of each 8x8 block, then the bits of b (3) for the width of each, both filled up to a byte;
    then the residues of the blocks of width 1, those of width 2, ..., 64 w bits each, raster order within a block.
    Every block is a whole number of bytes, and the blocks of one width are packed at once.
block_entropy
    The same minima, widths and residues, order-0 coded (`jaxcodec.coding.symbol_counts`). Plane by plane first
    all tables: of minima, of widths, and of the residues of each width that occurs; then one range coder's bytes.
predictive
    The whole plane of multiples, less its MED prediction, modulo M: a table per plane, then one range coder's bytes.

All numbers have the most significant bit first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxcodec.codecs.fmm.prediction import from_residuals, residuals
from jaxcodec.codecs.fmm.transform import (
    BLOCK,
    blocks_shape,
    quantise,
    reconstruct,
    symbol_count,
    to_blocks,
    to_planes,
    transform_blocks,
)
from jaxcodec.coding.bit_fields import pack_fields, packed_size, unpack_fields
from jaxcodec.coding.range_coder import RangeCoder
from jaxcodec.coding.symbol_counts import SymbolCounts
from jaxcodec.errors import CorruptFile

Stage = Literal["flat", "block", "block_entropy", "predictive"]
STAGES: tuple[Stage, ...] = ("flat", "block", "block_entropy", "predictive")
"""A stage's number in a file is its position here; append only."""
ENTROPY_CODED: frozenset[Stage] = frozenset({"block_entropy", "predictive"})

_SAMPLES = BLOCK * BLOCK
_COPY = "get another copy of the file"
Shape = tuple[int, int, int]


def encode_planes(planes: np.ndarray, *, modulus: int, stage: Stage, coder: RangeCoder) -> bytes:
    """Quantise uint8 `[C, H, W]` samples and code them."""
    if stage == "block":
        return _encode_blocks(planes, modulus)
    if stage == "block_entropy":
        return _encode_blocks_by_counts(planes, modulus, coder)
    symbols = np.take(quantise(np.arange(256, dtype=np.uint8), modulus), planes)
    if stage == "flat":
        return pack_fields(symbols.ravel(), _bits(modulus))
    return _encode_predictive(symbols, symbol_count(modulus), coder)


def decode_planes(data: bytes, shape: Shape, *, modulus: int, stage: Stage, coder: RangeCoder) -> np.ndarray:
    """Decode to multiples of `modulus`, uint8 `[C, H, W]` of a `shape` that is within the limits.

    Raises
    ------
    CorruptFile, TruncatedFile
        If the bytes are not such a picture; their number is checked before anything is allocated where it follows
        from the shape.
    """
    if stage == "flat":
        symbols = unpack_fields(data, int(np.prod(shape)), _bits(modulus)).reshape(shape)
    elif stage == "block":
        symbols = _decode_blocks(data, shape, modulus)
    elif stage == "block_entropy":
        symbols = _decode_blocks_by_counts(data, shape, modulus, coder)
    else:
        symbols = _decode_predictive(data, shape, symbol_count(modulus), coder)
    size = symbol_count(modulus)
    if stage == "flat" and symbols.max() >= size:
        raise CorruptFile(f"a sample is not one of {size} multiples of {modulus}; {_COPY}")
    return np.take(reconstruct(np.arange(256, dtype=np.uint8), modulus), symbols)


def _bits(modulus: int) -> int:
    return (symbol_count(modulus) - 1).bit_length()


def _block_count(shape: Shape) -> int:
    channels, rows, columns = blocks_shape(shape)
    return channels * rows * columns


# --- minimum, width and residues, packed ---


def _encode_blocks(planes: np.ndarray, modulus: int) -> bytes:
    minima, widths, blocks = transform_blocks(to_blocks(planes), modulus)
    bits = _bits(modulus)
    parts = [pack_fields(minima, bits), pack_fields(widths, bits.bit_length())]
    for width in range(1, bits + 1):
        parts.append(pack_fields(blocks[widths == width].ravel(), width))
    return b"".join(parts)


def _decode_blocks(data: bytes, shape: Shape, modulus: int) -> np.ndarray:
    count, bits = _block_count(shape), _bits(modulus)
    view = memoryview(data)
    end_of_minima = packed_size(count, bits)
    start = end_of_minima + packed_size(count, bits.bit_length())
    if len(view) < start:
        raise CorruptFile(f"{len(view)} bytes cannot hold {count} blocks; {_COPY}")
    widths = unpack_fields(view[end_of_minima:start], count, bits.bit_length())
    each = np.bincount(widths, minlength=bits + 1)
    payload = int(each @ np.arange(len(each))) * _SAMPLES // 8
    if len(each) > bits + 1 or len(view) != start + payload:
        raise CorruptFile(f"the widths of the blocks do not fit the {len(view)} bytes; {_COPY}")
    minima = unpack_fields(view[:end_of_minima], count, bits)
    blocks = []
    for width in range(1, bits + 1):
        end = start + int(each[width]) * width * _SAMPLES // 8
        blocks.append(unpack_fields(view[start:end], int(each[width]) * _SAMPLES, width))
        start = end
    return to_planes(_joined(minima, widths, blocks, symbol_count(modulus)), shape)


def _joined(minima: np.ndarray, widths: np.ndarray, groups: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return blocks of symbols, uint8 `[N, 64]`, from residues by width 1, 2, ..., or raise `CorruptFile`."""
    blocks = np.zeros((len(widths), _SAMPLES), np.uint8)
    largest = np.zeros(len(widths), np.uint8)
    for width, group in enumerate(groups, 1):
        if not len(group):
            continue
        group = group.reshape(-1, _SAMPLES)
        where = np.flatnonzero(widths == width)
        blocks[where] = group
        largest[where] = top = group.max(axis=1)
        # An encoder writes the smallest width and minimum: a file of another one is damaged.
        if group.min(axis=1).any() or (top < 1 << (width - 1)).any():
            raise CorruptFile(f"the residues of a block do not fit its minimum and width; {_COPY}")
    if (largest.astype(np.uint16) + minima >= size).any():
        raise CorruptFile(f"a block exceeds the {size} symbols there are; {_COPY}")
    blocks += minima[:, None]
    return blocks


# --- minimum, width and residues, order-0 coded ---


def _encode_blocks_by_counts(planes: np.ndarray, modulus: int, coder: RangeCoder) -> bytes:
    size, bits = symbol_count(modulus), _bits(modulus)
    tables, encoder = [], coder.encoder()
    for plane in planes:
        minima, widths, blocks = transform_blocks(to_blocks(plane[None]), modulus)
        kinds = [(minima, size), (widths, bits + 1)]
        kinds += [(blocks[widths == w].ravel(), min(size, 1 << w)) for w in range(1, bits + 1)]
        for symbols, alphabet in kinds:
            if symbols.size:
                counts = SymbolCounts.measure(symbols, alphabet)
                tables.append(counts.to_bytes())
                counts.encode(symbols, encoder)
    return b"".join(tables) + encoder.finish()


def _decode_blocks_by_counts(data: bytes, shape: Shape, modulus: int, coder: RangeCoder) -> np.ndarray:
    size, bits = symbol_count(modulus), _bits(modulus)
    plane_shape = (1, *shape[1:])
    count = _block_count(plane_shape)
    position = 0
    tables: list[tuple[SymbolCounts, SymbolCounts, dict[int, SymbolCounts]]] = []
    for _ in range(shape[0]):
        of_minima, position = SymbolCounts.read(data, position, size)
        of_widths, position = SymbolCounts.read(data, position, bits + 1)
        of_residues = {}
        for width in map(int, np.flatnonzero(of_widths.counts)):
            if width:
                of_residues[width], position = SymbolCounts.read(data, position, min(size, 1 << width))
        tables.append((of_minima, of_widths, of_residues))
    least = sum(count * (minima.least_bits + widths.least_bits) for minima, widths, _ in tables)
    _check_room(len(data) - position, least)
    decoder = coder.decoder(data[position:])
    planes = np.empty(shape, np.uint8)
    for plane, (of_minima, of_widths, of_residues) in zip(planes, tables, strict=True):
        minima = of_minima.decode(count, decoder)
        widths = of_widths.decode(count, decoder)
        each = np.bincount(widths, minlength=bits + 1) * _SAMPLES
        least = sum(float(each[width]) * table.least_bits for width, table in of_residues.items())
        _check_room(len(data) - position, least)
        blocks = [
            of_residues[width].decode(int(each[width]), decoder) if each[width] else np.zeros(0, np.uint8)
            for width in range(1, bits + 1)
        ]
        plane[...] = to_planes(_joined(minima, widths, blocks, size), plane_shape)[0]
    decoder.finish()
    return planes


# --- prediction and order-0 coding ---


def _encode_predictive(symbols: np.ndarray, size: int, coder: RangeCoder) -> bytes:
    tables, encoder = [], coder.encoder()
    for plane in residuals(symbols, size).reshape(len(symbols), -1):
        counts = SymbolCounts.measure(plane, size)
        tables.append(counts.to_bytes())
        counts.encode(plane, encoder)
    return b"".join(tables) + encoder.finish()


def _decode_predictive(data: bytes, shape: Shape, size: int, coder: RangeCoder) -> np.ndarray:
    samples, position = shape[1] * shape[2], 0
    tables = []
    for _ in range(shape[0]):
        counts, position = SymbolCounts.read(data, position, size)
        tables.append(counts)
    _check_room(len(data) - position, sum(samples * counts.least_bits for counts in tables))
    decoder = coder.decoder(data[position:])
    planes = np.empty(shape, np.uint8)
    for plane, counts in zip(planes, tables, strict=True):
        plane[...] = counts.decode(samples, decoder).reshape(shape[1:])
    decoder.finish()
    return from_residuals(planes, size)


def _check_room(size: int, least_bits: float) -> None:
    """Refuse what cannot be coded in `size` bytes, before it is allocated."""
    # A range coder may save a little by rounding, and its last bytes may be left out.
    if least_bits > 8 * size * 1.01 + 64:
        raise CorruptFile(f"{size} coded bytes cannot hold so large a picture; {_COPY}")
