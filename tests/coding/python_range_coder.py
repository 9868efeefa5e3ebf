"""A range coder in plain Python integers: the definition of the bytes that the default coder writes.

An interval `[low, low + range)` of 64-bit integers shrinks to a part of `count / 65536` of itself with each
symbol; whenever its length falls below 2^32, both ends gain 32 bits. The stream is the shortest number of
32-bit words, of which the first are the leading words of `low`, that lies in the interval whatever follows.
`low` grows without bound, so no carry is ever to be propagated: Python does it.
"""

from collections.abc import Sequence

WORD, STATE, PRECISION = 32, 64, 24
SHIFT = PRECISION - 16  # the default coder counts in 2^-24, our tables in 2^-16
FULL = (1 << STATE) - 1


class PythonRangeEncoder:
    def __init__(self) -> None:
        self.low, self.range, self.words = 0, FULL, 1

    def encode(self, index: int, counts: Sequence[int]) -> None:
        unit = self.range >> PRECISION
        self.low += unit * (sum(counts[:index]) << SHIFT)
        self.range = unit * (counts[index] << SHIFT)
        if self.range < 1 << (STATE - WORD):
            self.low <<= WORD
            self.range <<= WORD
            self.words += 1

    def finish(self) -> bytes:
        if self.range == FULL:  # nothing was encoded
            return b""
        point = (self.low + (1 << WORD) - 1) >> WORD
        stream = [(point >> WORD * n) % (1 << WORD) for n in reversed(range(self.words))]
        if (self.low + self.range) >> WORD == point:  # then not every number that begins so is inside
            stream.append(0)
        return b"".join(word.to_bytes(4, "little") for word in stream)


class PythonRangeDecoder:
    def __init__(self, data: bytes) -> None:
        self.words = [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]
        self.distance, self.range = 0, FULL  # of the stream's number from `low`
        for _ in range(STATE // WORD):
            self.distance = (self.distance << WORD) + self._next()

    def decode(self, counts: Sequence[int]) -> int:
        unit = self.range >> PRECISION
        index, start = 0, 0
        while self.distance // unit >= (start + counts[index]) << SHIFT:
            start += counts[index]
            index += 1  # an IndexError says that no encoder wrote this
        self.distance -= unit * (start << SHIFT)
        self.range = unit * (counts[index] << SHIFT)
        if self.range < 1 << (STATE - WORD):
            self.range <<= WORD
            self.distance = (self.distance << WORD) + self._next()
        return index

    def _next(self) -> int:
        return self.words.pop(0) if self.words else 0
