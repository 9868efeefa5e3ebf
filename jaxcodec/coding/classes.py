"""Forward-adaptive coding of quantised latents: each block of positions names the tables that suit it.

One table per channel is a poor fit wherever a picture has both sky and grass. So there are K sets of
per-channel tables, the classes; the latent plane is cut into blocks, the encoder picks a class for each, and
the map of classes goes first, each block's class coded with a table chosen by the class of the block above.
Classified coding of this kind is as old as transform coding (Chen and Smith, IEEE Trans. Communications,
1977); the decoder still needs integer tables only.

A position is an entry `[h, w]` of the latent plane, all channels. A block is `block x block` positions in
raster order; the last row and column of blocks are cut by the border.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxcodec.coding.escape import UNIFORM_BIT
from jaxcodec.coding.latents import CodeLengths, append_parts, read_parts
from jaxcodec.coding.range_coder import RangeCoder
from jaxcodec.coding.tables import MAX_LENGTH, PRECISION, TOTAL, CodingTables, quantize_probabilities
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
        uint32 `[K + 1, K]`: row `c` codes the class of a block below one of class `c`, row `K` that of a block
        in the top row. Each entry is at least 1, each row sums to 65536. With one class there is no map and
        this is empty, `[0, 1]`. Copied and made read-only.

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
        shape = (number + 1, number) if number > 1 else (0, 1)
        if counts.dtype != np.uint32 or counts.shape != shape:
            raise CorruptFile(
                f"class tables: map_counts must be uint32 {list(shape)}, "
                f"got {counts.dtype} {list(counts.shape)}; {_REMEDY}"
            )
        if not counts.all() or (counts.sum(axis=1, dtype=np.uint64) != TOTAL).any():
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
            uint16 `[(K + 1) K]`, empty for one class; `classes` and `block` uint16 `[1]`.
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
        map_size = (number + 1) * number if number > 1 else 0
        if not number or whole.channels % number or len(arrays["map_counts"]) != map_size:
            raise CorruptFile(
                f"class tables: {whole.channels} tables and {len(arrays['map_counts'])} entries of "
                f"'map_counts' are not those of {number} classes; {_REMEDY}"
            )
        channels = whole.channels // number
        classes = tuple(
            CodingTables(whole.counts[first : first + channels], whole.offsets[first : first + channels])
            for first in range(0, whole.channels, channels)
        )
        map_counts = arrays["map_counts"].astype(np.uint32).reshape(-1, number)
        return cls(classes, int(arrays["block"][0]), map_counts)

    def least_bits(self, height: int, width: int) -> float:
        """Return a lower bound of the bits of any `[height, width, C]` latents. Nothing is allocated.

        A file with fewer is not of that size.
        """
        bits = height * width * min(tables.least_bits() for tables in self.classes)
        if len(self.classes) == 1 or not height or not width:
            return bits
        rows, columns = -(-height // self.block), -(-width // self.block)
        return float(bits + columns * self._map_bits[-1].min() + (rows - 1) * columns * self._map_bits.min())

    def ideal_bits(self, symbols: np.ndarray) -> float:
        """Return the bits of int32 `[h, w, C]` symbols with `choose_classes`, the map and overflows included."""
        block_bits = self._block_bits(symbols)
        classes = _cheapest_map(block_bits, self._map_bits)
        bits = np.take_along_axis(block_bits, classes[..., None], axis=2).sum(dtype=np.float64)
        return float(bits + self._map_bits[_above(classes, len(self.classes)), classes].sum())

    @cached_property
    def _map_bits(self) -> np.ndarray:
        """float64 `[K + 1, K]`; `[2, 1]` zeros for one class."""
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
    """Return the map of classes with the fewest bits, its own included, for int32 `[h, w, C]` symbols.

    As a block's class is coded by that of the block above, each column of blocks is a chain, and the best map
    is found by dynamic programming. Where two are equal the lower class is taken.

    Returns
    -------
    np.ndarray
        intp `[ceil(h / block), ceil(w / block)]`.
    """
    return _cheapest_map(tables._block_bits(symbols), tables._map_bits)


def encode_by_class(symbols: np.ndarray, tables: ClassTables, coder: RangeCoder) -> bytes:
    """Code int32 `[h, w, C]` symbols, any values.

    First the map, row by row, in each row the blocks below class 0, then those below class 1, ...; then the
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
        for above, row in zip(_above(classes, len(tables.classes)), classes, strict=True):
            for context, blocks in _contexts(above, len(tables.classes)):
                encoder.encode(row[blocks].astype(np.int32), tables.map_counts[context])
    flat = symbols.reshape(-1, tables.channels)
    positions = _positions(classes, tables.block, symbols.shape[:2])
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
    decoder = coder.decoder(data, (*all_counts, *tables.map_counts, UNIFORM_BIT))
    classes = np.zeros((rows, columns), np.intp)
    if number > 1:
        above = np.full(columns, number)
        for row in classes:
            for context, blocks in _contexts(above, number):
                row[blocks] = decoder.decode(tables.map_counts[context], len(blocks))
            above = row
    positions = _positions(classes, tables.block, (height, width))
    symbols = np.empty((height * width, channels), np.int32)
    parts = read_parts([(tables.classes[k], len(where)) for k, where in positions], decoder, len(data))
    decoder.finish()
    for (_, where), part in zip(positions, parts, strict=True):
        symbols[where] = part
    return symbols.reshape(shape)


def fit_classes(
    symbols: Sequence[np.ndarray],
    *,
    classes: int,
    block: int,
    rounds: int = 8,
    smoothing: float = 0.3,
    least_occurrences: float = 0.5,
    start: ClassTables | None = None,
) -> ClassTables:
    """Find classes and their tables for pictures like these, by Lloyd's algorithm.

    Each round makes the tables from the blocks of each class and then moves each block to the class in which
    it is cheapest, map included. Deterministic.

    Parameters
    ----------
    symbols
        The quantised latents of training pictures, int32 `[h, w, C]` each.
    classes, block
        How many classes (1 to 255), and the side of a block in positions.
    rounds
        At most so many; fewer if no block moves any more.
    smoothing
        What is added to the number of occurrences of each symbol of a table and of its escape (Laplace's
        add-constant smoothing, as in Theis et al., ICLR 2017).
    least_occurrences
        A table ends where going on would give it entries with fewer occurrences than this on average. What
        is outside goes to the escape.
    start
        Begin with the classes of these tables (of as many classes and channels, and the same block), which
        keeps the order of the classes. By default the blocks, sorted by their bits per position under the
        tables of a single class, are cut into equal groups: class 0 is the quietest.

    Returns
    -------
    ClassTables
        A class that has lost all its blocks keeps the tables it had.
    """
    blocks = _TrainingBlocks(symbols, block)
    if not 1 <= classes <= 255 or rounds < 0 or not smoothing > 0 or least_occurrences < 0:
        raise ValueError(
            "classes must be 1 to 255, rounds at least 0, smoothing above 0, least_occurrences not negative; "
            f"got {classes}, {rounds}, {smoothing}, {least_occurrences}"
        )
    if start is None:
        whole = blocks.masses(np.zeros(len(blocks.sizes), np.intp), [[]], smoothing, least_occurrences)
        masses = whole * classes
        order = np.argsort(blocks.bits(whole)[:, 0] / blocks.sizes, kind="stable")
        assigned = np.empty(len(order), np.intp)
        assigned[order] = np.arange(len(order)) * classes // len(order)
    else:
        if (len(start.classes), start.block, start.channels) != (classes, block, blocks.channels):
            raise ValueError(f"start must have {classes} classes, block {block}, {blocks.channels} channels")
        masses = [
            [(int(o), c / TOTAL) for o, c in zip(t.offsets, t.counts, strict=True)] for t in start.classes
        ]
        assigned = blocks.cheapest(blocks.bits(masses), start._map_bits)
    for _ in range(rounds if classes > 1 else 0):
        masses = blocks.masses(assigned, masses, smoothing, least_occurrences)
        map_bits = -np.log2(blocks.map_masses(assigned, classes, smoothing))
        moved = blocks.cheapest(blocks.bits(masses), map_bits)
        if (moved == assigned).all():
            break
        assigned = moved
    masses = blocks.masses(assigned, masses, smoothing, least_occurrences)
    map_counts = np.zeros((0, 1), np.uint32)
    if classes > 1:
        rows = blocks.map_masses(assigned, classes, smoothing)
        map_counts = np.array([quantize_probabilities(row[:-1], row[-1]) for row in rows])
    return ClassTables(
        tuple(
            CodingTables(
                tuple(quantize_probabilities(mass[:-1], mass[-1]) for _, mass in channels),
                np.array([first for first, _ in channels], np.int32),
            )
            for channels in masses
        ),
        block,
        map_counts,
    )


# The tables of a class while it is fitted: of each channel the first symbol and float64 `[L]` probabilities,
# the escape last.
_Masses = list[tuple[int, np.ndarray]]


def _cheapest_map(block_bits: np.ndarray, map_bits: np.ndarray) -> np.ndarray:
    """Viterbi's algorithm down each column: `[bh, bw, K]` bits of blocks to intp `[bh, bw]` classes."""
    height, width, number = block_bits.shape
    classes = np.zeros((height, width), np.intp)
    if number == 1 or not classes.size:
        return classes
    total = block_bits[0] + map_bits[number]
    came_from = np.zeros((height, width, number), np.intp)
    for row in range(1, height):
        paths = total[:, :, None] + map_bits[:number]  # [bw, class above, class]
        came_from[row] = paths.argmin(axis=1)
        total = paths.min(axis=1) + block_bits[row]
    classes[-1] = total.argmin(axis=1)
    for row in range(height - 1, 0, -1):
        classes[row - 1] = np.take_along_axis(came_from[row], classes[row, :, None], axis=1)[:, 0]
    return classes


def _above(classes: np.ndarray, number: int) -> np.ndarray:
    """The context of each block: the class of the block above, `number` in the top row."""
    return np.concatenate([np.full_like(classes[:1], number), classes[:-1]])


def _contexts(above: np.ndarray, number: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each context that occurs in a row, and the blocks that have it."""
    for context in range(number + 1):
        blocks = np.flatnonzero(above == context)
        if len(blocks):
            yield context, blocks


def _positions(classes: np.ndarray, block: int, shape: tuple[int, ...]) -> list[tuple[int, np.ndarray]]:
    """Each class that occurs, and its positions in raster order."""
    height, width = shape
    plane = np.repeat(np.repeat(classes, block, axis=0)[:height], block, axis=1)[:, :width].ravel()
    numbers = np.flatnonzero(np.bincount(plane)) if plane.size else ()
    return [(int(number), np.flatnonzero(plane == number)) for number in numbers]


class _TrainingBlocks:
    """Symbols of several pictures, block after block, and what `fit_classes` asks of them.

    Parameters
    ----------
    symbols
        int32 `[h, w, C]` each.
    block
        The side of a block.
    """

    REACH = 4096
    """Tables are made within this distance of a channel's median; symbols beyond are always escapes."""

    def __init__(self, symbols: Sequence[np.ndarray], block: int) -> None:
        if (
            block < 1
            or not symbols
            or any(
                s.dtype != np.int32 or s.ndim != 3 or s.shape[2:] != symbols[0].shape[2:] or not s.size
                for s in symbols
            )
        ):
            raise ValueError("symbols must be pictures of int32 [h, w, C] with as many channels, block >= 1")
        self.channels = symbols[0].shape[2]
        self._shapes, sizes, planes = [], [], []
        for picture in symbols:
            height, width, _ = picture.shape
            rows, columns = np.arange(height) // block, np.arange(width) // block
            self._shapes.append((int(rows[-1]) + 1, int(columns[-1]) + 1))
            owner = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
            sizes.append(np.bincount(owner))
            planes.append(picture.reshape(-1, self.channels)[np.argsort(owner, kind="stable")].T)
        self.sizes = np.concatenate(sizes)
        """Positions of each block, `[B]`."""
        values = np.concatenate(planes, axis=1)
        middle = np.median(values, axis=1).astype(np.int64)
        # One more on either side, for all that is beyond.
        self._firsts = np.maximum(values.min(axis=1), middle - self.REACH) - 1
        lasts = np.minimum(values.max(axis=1), middle + self.REACH) + 1
        self._lengths = lasts - self._firsts + 1
        clipped = np.clip(values, self._firsts[:, None], lasts[:, None]) - self._firsts[:, None]
        self._rows = clipped.astype(np.int32)

    def masses(
        self, assigned: np.ndarray, before: Sequence[_Masses], smoothing: float, least: float
    ) -> list[_Masses]:
        """Fit the tables of each class to its blocks; those of a class without blocks are as before."""
        number = len(before)
        used = np.bincount(assigned, minlength=number) > 0
        found = [[] if here else list(old) for here, old in zip(used, before, strict=True)]
        position = np.repeat(assigned, self.sizes)
        for channel, rows in enumerate(self._rows):
            length, first = int(self._lengths[channel]), int(self._firsts[channel])
            flat = np.bincount(position * length + rows, minlength=number * length)
            for k, histogram in enumerate(flat.reshape(number, length)):
                if histogram.any():
                    start, mass = _table(histogram, smoothing, least)
                    found[k].append((first + start, mass))
        return found

    def bits(self, masses: Sequence[_Masses]) -> np.ndarray:
        """Bits of each block in each class, float32 `[B, K]`."""
        offsets = np.array([[first for first, _ in channels] for channels in masses], np.int64)
        # An integer table has no smaller probability than 2^-16.
        tables = [-np.log2(np.maximum(mass, 1 / TOTAL)) for channels in masses for _, mass in channels]
        lookup = CodeLengths(offsets, tables, firsts=self._firsts, sizes=self._lengths)
        return np.add.reduceat(lookup.of_rows(self._rows), np.cumsum(self.sizes) - self.sizes, axis=0)

    def cheapest(self, bits: np.ndarray, map_bits: np.ndarray) -> np.ndarray:
        """The class of each block, intp `[B]`."""
        maps = [_cheapest_map(part, map_bits) for part in self._pictures(bits)]
        return np.concatenate([classes.ravel() for classes in maps])

    def map_masses(self, assigned: np.ndarray, number: int, smoothing: float) -> np.ndarray:
        """Probabilities of a class by context, float64 `[K + 1, K]`."""
        contexts = [_above(classes, number).ravel() for classes in self._pictures(assigned)]
        pairs = np.bincount(np.concatenate(contexts) * number + assigned, minlength=(number + 1) * number)
        smoothed = pairs.reshape(number + 1, number) + smoothing
        return smoothed / smoothed.sum(axis=1, keepdims=True)

    def _pictures(self, of_blocks: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([height * width for height, width in self._shapes])
        parts = np.split(of_blocks, ends[:-1])
        return [p.reshape(*shape, *p.shape[1:]) for p, shape in zip(parts, self._shapes, strict=True)]


def _table(histogram: np.ndarray, smoothing: float, least: float) -> tuple[int, np.ndarray]:
    """Return where a table begins in a histogram, and its probabilities, the escape last.

    The first and last entry stand for all that is beyond and are never in a table.
    """
    inner = histogram[1:-1]
    # The range with the most occurrences, less `least` for each entry: the maximum of a sum over a range.
    sums = np.concatenate([[0.0], np.cumsum(inner - least)])
    end = int((sums[1:] - np.minimum.accumulate(sums)[:-1]).argmax()) + 1
    start = int(sums[:end].argmin())
    inside = inner[start:end]
    mass = np.append(inside, histogram.sum() - inside.sum()) + smoothing
    return start + 1, mass / mass.sum()
