"""Integer probability tables, the only thing a range coder and its decoder agree on.

A table is a row of counts that sum to 2^16. Entry `i` stands for the symbol `offset + i`, but for the last
entry, the escape, which stands for every symbol outside and is followed (later in the stream) by how far
outside it is.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxcodec.coding.escape import overflow_bits
from jaxcodec.errors import CorruptFile

PRECISION = 16
TOTAL = 1 << PRECISION
MAX_LENGTH = TOTAL - 1  # so that a length fits uint16
_REMEDY = "export the weights again or get another copy of their file"


@dataclass(frozen=True, eq=False)
class CodingTables:
    """One table of integer probabilities per channel.

    Attributes
    ----------
    counts
        `C` arrays, uint32 `[L_c]` with `2 <= L_c <= 65535`, each entry at least 1, each array summing to
        65536. The last entry is the escape. Copied and made read-only.
    offsets
        int32 `[C]`: the symbol of entry 0 of each table.

    Raises
    ------
    CorruptFile
        If anything of the above does not hold, since tables usually come from a file.
    """

    counts: tuple[np.ndarray, ...]
    offsets: np.ndarray

    def __post_init__(self) -> None:
        offsets = np.array(self.offsets)
        if offsets.dtype != np.int32 or offsets.shape != (len(self.counts),):
            raise CorruptFile(
                f"coding tables: offsets must be int32 [{len(self.counts)}], one per table, "
                f"got {offsets.dtype} {list(offsets.shape)}; {_REMEDY}"
            )
        if not self.counts:
            raise CorruptFile(f"coding tables: there is no table at all; {_REMEDY}")
        counts = tuple(_checked_counts(table, channel) for channel, table in enumerate(self.counts))
        sizes = np.array([len(table) - 1 for table in counts], np.int64)
        if (offsets + sizes - 1 > np.iinfo(np.int32).max).any():
            raise CorruptFile(f"coding tables: a table reaches beyond the symbols of int32; {_REMEDY}")
        offsets.setflags(write=False)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "offsets", offsets)

    @property
    def channels(self) -> int:
        """The number of tables."""
        return len(self.counts)

    @property
    def sizes(self) -> np.ndarray:
        """Symbols that each table holds, int32 `[C]`; this is also the index of its escape entry."""
        return np.array([len(table) - 1 for table in self.counts], np.int32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return flat arrays for a safetensors file.

        Returns
        -------
        dict
            `counts` uint16 `[sum L_c]`, `lengths` uint16 `[C]` and `offsets` int32 `[C]`.
        """
        return {
            "counts": np.concatenate(self.counts).astype(np.uint16),
            "lengths": np.array([len(table) for table in self.counts], np.uint16),
            "offsets": np.array(self.offsets),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> CodingTables:
        """Rebuild tables from `to_arrays`; `CorruptFile` if the arrays are not such."""
        for name, dtype in (("counts", np.uint16), ("lengths", np.uint16), ("offsets", np.int32)):
            if name not in arrays:
                raise CorruptFile(f"coding tables: the array '{name}' is missing; {_REMEDY}")
            if arrays[name].dtype != dtype or arrays[name].ndim != 1:
                raise CorruptFile(
                    f"coding tables: '{name}' must be {np.dtype(dtype)} of one dimension, "
                    f"got {arrays[name].dtype} {list(arrays[name].shape)}; {_REMEDY}"
                )
        ends = np.cumsum(arrays["lengths"], dtype=np.int64)
        if not len(ends) or ends[-1] != len(arrays["counts"]):
            raise CorruptFile(f"coding tables: 'lengths' do not add up to the length of 'counts'; {_REMEDY}")
        return cls(tuple(np.split(arrays["counts"].astype(np.uint32), ends[:-1])), arrays["offsets"])

    def to_indices(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the table entry of each symbol, channel by channel.

        Parameters
        ----------
        symbols
            int32 `[h, w, C]`, any values.

        Returns
        -------
        indices
            int32 `[C, h * w]`; the escape entry where a symbol is outside its table.
        overflows
            int64 `[number of escapes]`, in the same order: `symbol - (offset + size)`, 0 or more, above the
            table, and `symbol - offset`, -1 or less, below it.
        """
        if symbols.dtype != np.int32 or symbols.ndim != 3 or symbols.shape[2] != self.channels:
            raise ValueError(
                f"symbols must be int32 [h, w, {self.channels}], got {symbols.dtype} {symbols.shape}"
            )
        planes = np.ascontiguousarray(symbols.reshape(-1, self.channels).T)
        sizes = self.sizes[:, None]
        # Modulo 2^32 a symbol below the table becomes larger than any size: one comparison for both sides.
        distances = planes.view(np.uint32) - self.offsets.view(np.uint32)[:, None]
        indices = np.minimum(distances, sizes.view(np.uint32)).view(np.int32)
        escaped, channel = self._escapes(indices)
        distance = planes.ravel()[escaped].astype(np.int64) - self.offsets[channel]
        return indices, np.where(distance < 0, distance, distance - self.sizes[channel])

    def from_indices(self, indices: np.ndarray, overflows: np.ndarray, height: int, width: int) -> np.ndarray:
        """Undo `to_indices`: int32 `[height, width, C]`; `CorruptFile` if an overflow leaves int32."""
        planes = indices + self.offsets[:, None]
        if len(overflows):
            escaped, channel = self._escapes(indices)
            start = self.offsets[channel] + np.where(overflows < 0, 0, self.sizes[channel]).astype(np.int64)
            symbols = start + overflows
            if (symbols != symbols.astype(np.int32)).any():
                raise CorruptFile("an escaped symbol is outside int32; get another copy of the file")
            planes.ravel()[escaped] = symbols
        return np.ascontiguousarray(planes.T).reshape(height, width, self.channels)

    def _escapes(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where in flat `indices` the escapes are, and in which channels."""
        escaped = np.flatnonzero(indices == self.sizes[:, None])
        return escaped, escaped // indices.shape[1]

    def least_bits(self) -> float:
        """Return the bits of one position, all channels, where each has its likeliest symbol."""
        return float(sum(PRECISION - np.log2(float(counts.max())) for counts in self.counts))

    def ideal_bits(self, symbols: np.ndarray) -> float:
        """Return `sum -log2(count / 65536)` over int32 `[h, w, C]` symbols plus the bits of all overflows."""
        indices, overflows = self.to_indices(symbols)
        bits = float(overflow_bits(overflows))
        for counts, channel in zip(self.counts, indices, strict=True):
            bits += float(np.bincount(channel, minlength=len(counts)) @ (PRECISION - np.log2(counts)))
        return bits


def quantize_probabilities(probabilities: np.ndarray, tail: float) -> np.ndarray:
    """Turn one channel's probabilities into counts of the least code length.

    Parameters
    ----------
    probabilities
        float64 `[L]`, `1 <= L <= 65534`, nonnegative: the probability mass of each symbol of the table.
    tail
        The mass of everything else, for the escape. Mass and tail are scaled to sum to 1.

    Returns
    -------
    np.ndarray
        uint32 `[L + 1]`, the escape last: each at least 1, summing to 65536, with the largest possible
        `sum_i p_i log(count_i)`.

    Notes
    -----
    The sum is concave in each count, so counts are optimal as soon as no single unit is better
    placed elsewhere. Starting from rounded-down counts, units go one by one to (or come from) where they
    matter most. Ties go by index, so the result is deterministic.
    """
    masses = np.append(np.asarray(probabilities, np.float64), np.float64(tail))
    if masses.ndim != 1 or not 2 <= len(masses) <= MAX_LENGTH:
        raise ValueError(
            f"a table holds 1 to {MAX_LENGTH - 1} symbols in one dimension, got {np.shape(probabilities)}"
        )
    if not np.isfinite(masses).all() or (masses < 0).any() or not masses.sum() > 0:
        raise ValueError("probabilities and tail must be finite, nonnegative and not all zero")
    shares = [float(mass) for mass in masses / masses.sum()]
    counts = [max(1, int(share * TOTAL)) for share in shares]

    def gain(i: int, count: int) -> float:  # of going from `count` to `count + 1`
        return shares[i] * math.log1p(1 / count)

    # Each heap has one live entry per symbol; those made stale by a change of count are dropped when met.
    gains = [(-gain(i, count), i, count) for i, count in enumerate(counts)]
    losses = [(gain(i, count - 1), i, count) for i, count in enumerate(counts) if count > 1]
    heapq.heapify(gains)
    heapq.heapify(losses)

    def best(heap: list[tuple[float, int, int]]) -> tuple[float, int]:
        while heap and heap[0][2] != counts[heap[0][1]]:
            heapq.heappop(heap)
        return (heap[0][0], heap[0][1]) if heap else (math.inf, -1)

    def change(i: int, step: int) -> None:
        counts[i] += step
        heapq.heappush(gains, (-gain(i, counts[i]), i, counts[i]))
        if counts[i] > 1:
            heapq.heappush(losses, (gain(i, counts[i] - 1), i, counts[i]))

    spare = TOTAL - sum(counts)
    for _ in range(abs(spare)):
        change(best(gains)[1], 1) if spare > 0 else change(best(losses)[1], -1)
    while -best(gains)[0] > best(losses)[0]:
        giver, taker = best(losses)[1], best(gains)[1]
        change(giver, -1)
        change(taker, 1)
    return np.array(counts, np.uint32)


def _checked_counts(table: np.ndarray, channel: int) -> np.ndarray:
    """Return a read-only copy of a valid table; `CorruptFile` for any other."""
    counts = np.array(table)
    where = f"coding tables, channel {channel}"
    if counts.dtype != np.uint32 or counts.ndim != 1 or not 2 <= len(counts) <= MAX_LENGTH:
        raise CorruptFile(
            f"{where}: counts must be uint32 of one dimension with 2 to {MAX_LENGTH} entries, "
            f"got {counts.dtype} {list(counts.shape)}; {_REMEDY}"
        )
    if counts.min() < 1:
        raise CorruptFile(f"{where}: entry {int(counts.argmin())} has no probability; {_REMEDY}")
    total = int(counts.sum(dtype=np.uint64))
    if total != TOTAL:
        raise CorruptFile(f"{where}: the counts sum to {total}, not {TOTAL}; {_REMEDY}")
    counts.setflags(write=False)
    return counts
