"""Seeded tables and symbols for the tests of this folder, and their way to bytes and back. No jax, no hypothesis."""

import numpy as np

from jaxcodec.coding.classes import ClassTables, decode_by_class, encode_by_class
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables, quantize_probabilities


def random_counts(rng: np.random.Generator, length: int, skew: float) -> np.ndarray:
    """Counts of any shape: even for `skew` 0, one entry with nearly everything for a large one."""
    weights = np.exp(skew * rng.standard_normal(length))
    return quantize_probabilities(weights[:-1] / weights.sum(), weights[-1] / weights.sum())


def random_tables(rng: np.random.Generator, channels: int, tail: float = 1e-4) -> CodingTables:
    """Bell-shaped tables of various widths around zero, as a prior over latents gives them."""
    counts, offsets = [], []
    for _ in range(channels):
        scale = float(np.exp(rng.uniform(-1.5, 3)))
        reach = int(rng.integers(0, 1 + round(4 * scale)))
        masses = np.exp(-np.abs(np.arange(-reach, reach + 1)) / scale)
        counts.append(quantize_probabilities((1 - tail) * masses / masses.sum(), tail))
        offsets.append(-reach)
    return CodingTables(tuple(counts), np.array(offsets, np.int32))


def draw_symbols(
    rng: np.random.Generator, tables: CodingTables, height: int, width: int, outside: float = 0.0
) -> np.ndarray:
    """Symbols `[height, width, C]` with the tables' own frequencies, and a part of them anywhere in int32."""
    symbols = np.empty((height, width, tables.channels), np.int32)
    for channel, (counts, offset) in enumerate(zip(tables.counts, tables.offsets, strict=True)):
        weights = counts[:-1] / counts[:-1].sum()
        symbols[..., channel] = offset + rng.choice(len(weights), (height, width), p=weights)
    far = rng.integers(-(2**31), 2**31, symbols.shape).astype(np.int32)
    # As many small distances as large ones.
    far = (far >> rng.integers(0, 32, symbols.shape)).astype(np.int32)
    return np.where(rng.random(symbols.shape) < outside, far, symbols)


def two_classes(
    block: int = 1, map_counts: object = ((60000, 5536), (30000, 35536), (40000, 25536))
) -> ClassTables:
    """One channel: class 0 is nearly always 0, class 1 is -1, 0 or 1."""
    quiet = CodingTables((np.array([65000, 536], np.uint32),), np.zeros(1, np.int32))
    busy = CodingTables((np.array([20000, 20000, 20000, 5536], np.uint32),), np.array([-1], np.int32))
    return ClassTables((quiet, busy), block, np.array(map_counts, np.uint32))


def round_trip(symbols: np.ndarray, tables: ClassTables) -> bytes:
    """The bytes of int32 `[h, w, C]` symbols, which are checked to come back from them."""
    data = encode_by_class(symbols, tables, get_coder())
    decoded = decode_by_class(data, symbols.shape, tables, get_coder())
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)
    return data
