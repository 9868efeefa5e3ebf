"""Order-0 entropy coding of small numbers with counts that are measured on the picture and sent with it.

The counts of a table sum to 65536, as the range coder wants them. They are stored as varints, a run of numbers that
do not occur as a 0 and the length of the run less one, so a table costs a byte or two per number that occurs. A number
that is the only one costs nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxcodec.coding.range_coder import RangeDecoder, RangeEncoder
from jaxcodec.coding.tables import PRECISION, TOTAL, quantize_probabilities
from jaxcodec.coding.varint import decode_varint, encode_varint
from jaxcodec.errors import CorruptFile

_COPY = "get another copy of the file"


@dataclass(frozen=True, eq=False)
class SymbolCounts:
    """How often each of the numbers 0 to L - 1 occurs, of 65536.

    Attributes
    ----------
    counts
        uint32 `[L]`, `1 <= L <= 256`, summing to 65536; 0 for numbers that do not occur.
    """

    counts: np.ndarray

    @classmethod
    def measure(cls, symbols: np.ndarray, size: int) -> SymbolCounts:
        """Count uint8 `[n]` symbols, `n >= 1`, all below `size` (L)."""
        occurring = np.bincount(symbols, minlength=size)
        used = np.flatnonzero(occurring)
        counts = np.zeros(size, np.uint32)
        if len(used) == 1:
            counts[used] = TOTAL
        else:
            frequencies = occurring[used].astype(np.float64)
            counts[used] = quantize_probabilities(frequencies[:-1], frequencies[-1])
        return cls(counts)

    @property
    def least_bits(self) -> float:
        """Bits of the likeliest symbol."""
        return PRECISION - float(np.log2(self.counts.max()))

    def to_bytes(self) -> bytes:
        """Return the table as it stands in a file; L is not part of it."""
        parts, position = [], 0
        while position < len(self.counts):
            count = int(self.counts[position])
            parts.append(encode_varint(count))
            following = position + 1
            if count == 0:
                while following < len(self.counts) and self.counts[following] == 0:
                    following += 1
                parts.append(encode_varint(following - position - 1))
            position = following
        return b"".join(parts)

    @classmethod
    def read(cls, data: bytes | memoryview, position: int, size: int) -> tuple[SymbolCounts, int]:
        """Read a table of `size` numbers.

        Returns
        -------
        tuple
            The table and the position after it.

        Raises
        ------
        CorruptFile, TruncatedFile
            If there is no such table, or one that `to_bytes` would have written otherwise.
        """
        counts = np.zeros(size, np.uint32)
        symbol, total, after_run = 0, 0, False
        while symbol < size:
            count, position = decode_varint(data, position, "count of a symbol")
            if count == 0:
                more, position = decode_varint(data, position, "length of a run of unused symbols")
                if after_run or more >= size - symbol:
                    raise CorruptFile(f"a table of counts has a run of unused symbols too many; {_COPY}")
                symbol += more + 1
            else:
                total += count
                if total > TOTAL:
                    break
                counts[symbol] = count
                symbol += 1
            after_run = count == 0
        if total != TOTAL:
            raise CorruptFile(f"the counts of a table do not sum to {TOTAL}; {_COPY}")
        return cls(counts), position

    def encode(self, symbols: np.ndarray, encoder: RangeEncoder) -> None:
        """Append uint8 `[n]` symbols, which all have to occur in the table."""
        used = self.counts > 0
        if np.count_nonzero(used) > 1:
            indices = np.cumsum(used, dtype=np.int32) - 1
            encoder.encode(np.take(indices, symbols), self.counts[used])

    def decode(self, count: int, decoder: RangeDecoder) -> np.ndarray:
        """Read `count` symbols, uint8 `[count]`; `CorruptFile` if the bytes cannot be such."""
        used = np.flatnonzero(self.counts).astype(np.uint8)
        if len(used) == 1:
            return np.full(count, used[0], np.uint8)
        return np.take(used, decoder.decode(self.counts[self.counts > 0], count))
