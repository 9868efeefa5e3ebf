"""Forward-adaptive coding of quantised latents: each block of positions names the tables that suit it.

One table per channel is a poor fit wherever a picture has both sky and grass. So there are K sets of
per-channel tables, the classes; the latent plane is cut into blocks, the encoder picks a class for each, and
the map of classes goes first (`class_map.py`), each block's class coded with a table chosen by its neighbours'.
Classified coding of this kind is as old as transform coding (Chen and Smith, IEEE Trans. Communications,
1977); the decoder still needs integer tables only.

A position is an entry `[h, w]` of the latent plane, all channels. A block is `block x block` positions in
raster order; the last row and column of blocks are cut by the border.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxcodec.coding.class_map import bits_of_map, cheapest_map, decode_map, encode_map
from jaxcodec.coding.escape import UNIFORM_BIT
from jaxcodec.coding.latents import CodeLengths, append_parts, read_parts
from jaxcodec.coding.range_coder import RangeCoder
from jaxcodec.coding.tables import MAX_LENGTH, PRECISION, TOTAL, CodingTables
from jaxcodec.errors import CorruptFile

_REMEDY = "export the weights again or get another copy of their file"


@dataclass(frozen=True, eq=False)
class ClassTables:
    """Coding tables of several classes of blocks, and of the map that says which block is of which class.

    Attributes
    ----------
    classes
        `K` sets of tables, 1 to 255, all for the same number of channels.
    block
        The side of a block in positions, 1 to 65535.
    map_counts
        uint32 `[K + 1, K + 1, K]`: row `a, b` codes the class of a block below one of class `a` and to the right
        of one of class `b`, K standing for the outside. Or `[K + 1, K]`, by the block above alone. Each entry is
        at least 1, each row sums to 65536. With one class there is no map and this is empty, `[0, 1]`. Copied
        and made read-only.

    Raises
    ------
    CorruptFile
        If anything of the above does not hold, since tables usually come from a file.
    """

    classes: tuple[CodingTables, ...]
    block: int
    map_counts: np.ndarray

    def __post_init__(self) -> None:
        number, counts = len(self.classes), np.array(self.map_counts)
        if not 1 <= number <= 255 or len({tables.channels for tables in self.classes}) != 1:
            raise CorruptFile(
                f"class tables: classes must be 1 to 255 of as many channels each, got {number} of "
                f"{[tables.channels for tables in self.classes][:8]}; {_REMEDY}"
            )
        if not 1 <= self.block <= MAX_LENGTH:
            raise CorruptFile(f"class tables: block must be 1 to {MAX_LENGTH}, got {self.block}; {_REMEDY}")
        shapes = _map_shapes(number)
        if counts.dtype != np.uint32 or counts.shape not in shapes:
            raise CorruptFile(
                f"class tables: map_counts must be uint32 {' or '.join(str(list(shape)) for shape in shapes)}, "
                f"got {counts.dtype} {list(counts.shape)}; {_REMEDY}"
            )
        if not counts.all() or (counts.sum(axis=-1, dtype=np.uint64) != TOTAL).any():
            raise CorruptFile(
                f"class tables: each row of map_counts needs entries of at least 1 that sum to {TOTAL}; {_REMEDY}"
            )
        counts.setflags(write=False)
        object.__setattr__(self, "map_counts", counts)

    @property
    def channels(self) -> int:
        """The number of channels of each class."""
        return self.classes[0].channels

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return flat arrays for a safetensors file.

        Returns
        -------
        dict
            `counts`, `lengths` and `offsets` of `CodingTables.to_arrays`, class after class; `map_counts`
            uint16, its rows one after the other, empty for one class; `classes` and `block` uint16 `[1]`.
        """
        parts = [tables.to_arrays() for tables in self.classes]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return arrays | {
            "map_counts": self.map_counts.astype(np.uint16).ravel(),
            "classes": np.array([len(self.classes)], np.uint16),
            "block": np.array([self.block], np.uint16),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ClassTables:
        """Rebuild tables from `to_arrays`; `CorruptFile` if the arrays are not such."""
        for name, length in (("map_counts", None), ("classes", 1), ("block", 1)):
            if name not in arrays:
                raise CorruptFile(f"class tables: the array '{name}' is missing; {_REMEDY}")
            array = arrays[name]
            if array.dtype != np.uint16 or array.ndim != 1 or length not in (None, len(array)):
                raise CorruptFile(
                    f"class tables: '{name}' must be uint16 [{length or 'n'}], "
                    f"got {array.dtype} {list(array.shape)}; {_REMEDY}"
                )
        whole, number = CodingTables.from_arrays(arrays), int(arrays["classes"][0])
        shapes = {math.prod(shape): shape for shape in _map_shapes(number)}
        if not number or whole.channels % number or len(arrays["map_counts"]) not in shapes:
            raise CorruptFile(
                f"class tables: {whole.channels} tables and {len(arrays['map_counts'])} entries of "
                f"'map_counts' are not those of {number} classes; {_REMEDY}"
            )
        channels = whole.channels // number
        classes = tuple(
            CodingTables(whole.counts[first : first + channels], whole.offsets[first : first + channels])
            for first in range(0, whole.channels, channels)
        )
        map_counts = arrays["map_counts"].astype(np.uint32).reshape(shapes[len(arrays["map_counts"])])
        return cls(classes, int(arrays["block"][0]), map_counts)

    def least_bits(self, height: int, width: int) -> float:
        """Return a lower bound of the bits of any `[height, width, C]` latents. Nothing is allocated.

        A file with fewer is not of that size.
        """
        bits = height * width * min(tables.least_bits() for tables in self.classes)
        if len(self.classes) == 1 or not height or not width:
            return bits
        rows, columns = -(-height // self.block), -(-width // self.block)
        return float(bits + columns * self.map_bits[-1].min() + (rows - 1) * columns * self.map_bits.min())

    def ideal_bits(self, symbols: np.ndarray) -> float:
        """Return the bits of int32 `[h, w, C]` symbols with `choose_classes`, the map and overflows included."""
        block_bits = self._block_bits(symbols)
        classes = cheapest_map(block_bits, self.map_bits)
        bits = np.take_along_axis(block_bits, classes[..., None], axis=2).sum(dtype=np.float64)
        return float(bits) + bits_of_map(classes, self.map_bits)

    def symbol_bits(self, symbols: np.ndarray, channels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Bits, float32 `[n]`, of `[n]` symbols of these channels in these classes, overflows included."""
        return self._lookup.of_symbols(symbols, channels, numbers)

    @cached_property
    def map_bits(self) -> np.ndarray:
        """Bits that the entries of `map_counts` stand for, float64; `[2, 1]` zeros for one class."""
        return PRECISION - np.log2(self.map_counts) if len(self.classes) > 1 else np.zeros((2, 1))

    @cached_property
    def _lookup(self) -> CodeLengths:
        offsets = np.array([tables.offsets for tables in self.classes], np.int64)
        counts = [counts for tables in self.classes for counts in tables.counts]
        return CodeLengths(offsets, [PRECISION - np.log2(table) for table in counts])

    def _block_bits(self, symbols: np.ndarray) -> np.ndarray:
        """Bits of each block in each class, float32 `[bh, bw, K]`; exact but for float32."""
        if symbols.dtype != np.int32 or symbols.ndim != 3 or symbols.shape[2] != self.channels:
            raise ValueError(
                f"symbols must be int32 [h, w, {self.channels}], got {symbols.dtype} {symbols.shape}"
            )
        height, width, channels = symbols.shape
        tops, lefts = np.arange(0, height, self.block), np.arange(0, width, self.block)
        if not symbols.size:
            return np.zeros((len(tops), len(lefts), len(self.classes)), np.float32)
        bits = self._lookup.of_positions(np.ascontiguousarray(symbols.reshape(-1, channels).T))
        bits = np.add.reduceat(bits.reshape(height, width, -1), tops, axis=0)
        return np.add.reduceat(bits, lefts, axis=1)


def choose_classes(symbols: np.ndarray, tables: ClassTables) -> np.ndarray:
    """Return the cheapest map of classes, its own bits included, for int32 `[h, w, C]` symbols; see `class_map.py`.

    Returns
    -------
    np.ndarray
        intp `[ceil(h / block), ceil(w / block)]`.
    """
    return cheapest_map(tables._block_bits(symbols), tables.map_bits)


def encode_by_class(symbols: np.ndarray, tables: ClassTables, coder: RangeCoder) -> bytes:
    """Code int32 `[h, w, C]` symbols, any values.

    First the map, as `encode_map` orders it; then the
    symbols, all of class 0 as in `encode_latents`, those of class 1, ...; then all overflows.

    Returns
    -------
    bytes
        `tables.ideal_bits(symbols) / 8` of them, within 0.1 % and 8 bytes. With one class the very bytes of
        `encode_latents`.
    """
    classes = choose_classes(symbols, tables)
    encoder = coder.encoder()
    if len(tables.classes) > 1:
        encode_map(classes, tables.map_counts, encoder)
    flat = symbols.reshape(-1, tables.channels)
    positions = class_positions(classes, tables.block, symbols.shape[:2])
    append_parts([(tables.classes[number], flat[where][:, None]) for number, where in positions], encoder)
    return encoder.finish()


def decode_by_class(
    data: bytes, shape: tuple[int, int, int], tables: ClassTables, coder: RangeCoder
) -> np.ndarray:
    """Decode what `encode_by_class` made of symbols of this `shape`, `(h, w, C)`.

    The caller has checked the shape against its limits and the bytes against `tables.least_bits`.

    Returns
    -------
    np.ndarray
        int32 `[h, w, C]`.

    Raises
    ------
    CorruptFile
        If the bytes cannot come from `encode_by_class`, as in `decode_latents`.
    """
    height, width, channels = shape
    if channels != tables.channels or height < 0 or width < 0:
        raise ValueError(f"shape must be (h, w, {tables.channels}), got {shape}")
    number = len(tables.classes)
    rows, columns = -(-height // tables.block), -(-width // tables.block)
    all_counts = [counts for each in tables.classes for counts in each.counts]
    map_rows = tables.map_counts.reshape(-1, number)
    decoder = coder.decoder(data, (*all_counts, *map_rows, UNIFORM_BIT))
    classes = np.zeros((rows, columns), np.intp)
    if number > 1:
        classes = decode_map((rows, columns), tables.map_counts, decoder)
    positions = class_positions(classes, tables.block, (height, width))
    symbols = np.empty((height * width, channels), np.int32)
    parts = read_parts([(tables.classes[k], len(where)) for k, where in positions], decoder, len(data))
    decoder.finish()
    for (_, where), part in zip(positions, parts, strict=True):
        symbols[where] = part
    return symbols.reshape(shape)


def class_positions(classes: np.ndarray, block: int, shape: tuple[int, ...]) -> list[tuple[int, np.ndarray]]:
    """Each class that occurs, and its positions in raster order."""
    height, width = shape
    plane = np.repeat(np.repeat(classes, block, axis=0)[:height], block, axis=1)[:, :width].ravel()
    numbers = np.flatnonzero(np.bincount(plane)) if plane.size else ()
    return [(int(number), np.flatnonzero(plane == number)) for number in numbers]


def _map_shapes(number: int) -> tuple[tuple[int, ...], ...]:
    """The shapes that the tables of a map of `number` classes may have."""
    return ((number + 1, number + 1, number), (number + 1, number)) if number > 1 else ((0, 1),)
