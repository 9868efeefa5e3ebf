"""Finding classes of blocks, and their coding tables, for pictures like those at hand.

`jaxcodec.coding.classes` says what they are and codes with them; nothing here is needed to decode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcodec.coding.class_map import cheapest_map, neighbours
from jaxcodec.coding.classes import ClassTables
from jaxcodec.coding.latents import CodeLengths
from jaxcodec.coding.tables import TOTAL, CodingTables, quantize_probabilities

# The tables of a class while it is fitted: of each channel the first symbol and float64 `[L]` probabilities,
# the escape last.
_Masses = list[tuple[int, np.ndarray]]


def fit_classes(
    symbols: Sequence[np.ndarray],
    *,
    classes: int,
    block: int,
    rounds: int = 8,
    smoothing: float = 0.3,
    least_occurrences: float = 0.5,
    start: ClassTables | None = None,
    keep_map: bool = False,
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
    keep_map
        Take the tables of the map from `start` as well, and have the classes go by them.

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
        assigned = blocks.cheapest(blocks.bits(masses), start.map_bits)
    kept = start if keep_map else None
    for _ in range(rounds if classes > 1 else 0):
        masses = blocks.masses(assigned, masses, smoothing, least_occurrences)
        map_bits = kept.map_bits if kept else -np.log2(blocks.map_masses(assigned, classes, smoothing))
        moved = blocks.cheapest(blocks.bits(masses), map_bits)
        if (moved == assigned).all():
            break
        assigned = moved
    masses = blocks.masses(assigned, masses, smoothing, least_occurrences)
    map_counts = kept.map_counts if kept else np.zeros((0, 1), np.uint32)
    if classes > 1 and not kept:
        rows = blocks.map_masses(assigned, classes, smoothing)
        flat = [quantize_probabilities(row[:-1], row[-1]) for row in rows.reshape(-1, classes)]
        map_counts = np.array(flat).reshape(rows.shape)
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

    TRUST = 6.0
    """What the frequencies of a wider context count in a narrower one, in occurrences."""

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
        maps = [cheapest_map(part, map_bits) for part in self._pictures(bits)]
        return np.concatenate([classes.ravel() for classes in maps])

    def map_masses(self, assigned: np.ndarray, number: int, smoothing: float) -> np.ndarray:
        """Probabilities of a class by those above and to the left, float64 `[K + 1, K + 1, K]`.

        Of some thousand contexts many are rare: each begins with `TRUST` occurrences at the frequencies of the class
        above alone.
        """
        contexts = [neighbours(classes, number) for classes in self._pictures(assigned)]
        above, left = (np.concatenate([pair[i].ravel() for pair in contexts]) for i in range(2))
        index = (above * (number + 1) + left) * number + assigned
        triples = np.bincount(index, minlength=(number + 1) ** 2 * number).reshape(
            number + 1, number + 1, number
        )
        pairs = triples.sum(axis=1, keepdims=True) + smoothing
        smoothed = triples + self.TRUST * pairs / pairs.sum(axis=2, keepdims=True)
        return smoothed / smoothed.sum(axis=2, keepdims=True)

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
