"""How far outside its table an escaped symbol is: a sign and an exponential-Golomb code, bit by bit.

A distance of 0 or more whose successor has n + 1 binary digits takes n 'more' bits, a stop bit and the lower
n digits of the successor, as in Elias' gamma code. The bits lie in the stream by kind: all signs, then the
first prefix bit of all, then the second of those that go on, ..., then all digits. So a whole picture of
escapes takes a few dozen calls, not one per bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxcodec.errors import CorruptFile

if TYPE_CHECKING:
    from jaxcodec.coding.range_coder import RangeDecoder, RangeEncoder

# Symbols and tables are int32, so a distance + 1 is under 2^32 and has at most 31 lower digits; the 31st
# 'more' needs no stop bit. Corrupt data cannot make a longer one.
MAX_PREFIX = 31
UNIFORM_BIT = np.array([1 << 15, 1 << 15], np.uint32)
UNIFORM_BIT.setflags(write=False)


def encode_overflows(overflows: np.ndarray, encoder: RangeEncoder) -> None:
    """Append the code of int64 `[n]` overflows (as `CodingTables.to_indices` gives them) to a stream."""
    if not len(overflows):
        return
    values, digits = _values_and_digits(overflows)
    _encode_bits(overflows < 0, encoder)
    alive = digits
    for length in range(MAX_PREFIX):
        if not len(alive):
            break
        _encode_bits(alive > length, encoder)
        alive = alive[alive > length]
    owner, shift = _digit_positions(digits)
    _encode_bits((values[owner] >> shift) & 1, encoder)


def decode_overflows(count: int, decoder: RangeDecoder, available_bits: int) -> np.ndarray:
    """Read `count` overflows.

    Parameters
    ----------
    count
        How many symbols escaped.
    decoder
        Stands after the last table entry.
    available_bits
        An upper bound of the bits left. Each bit here costs one, so corrupt data is found out before it costs
        time.

    Returns
    -------
    np.ndarray
        int64 `[count]`.

    Raises
    ------
    CorruptFile
        If more bits are asked for than there are.
    """
    if not count:
        return np.zeros(0, np.int64)

    def bits(n: int) -> np.ndarray:
        nonlocal available_bits
        available_bits -= n
        if available_bits < 0:
            raise CorruptFile(
                "the escaped symbols need more bits than there are; get another copy of the file"
            )
        return decoder.decode(UNIFORM_BIT, n)

    negative = bits(count) == 1
    digits = np.zeros(count, np.int64)
    alive = np.arange(count)
    for _ in range(MAX_PREFIX):
        if not len(alive):
            break
        alive = alive[bits(len(alive)) == 1]
        digits[alive] += 1
    owner, shift = _digit_positions(digits)
    values = np.int64(1) << digits
    np.add.at(values, owner, bits(len(owner)).astype(np.int64) << shift)
    return np.where(negative, -values, values - 1)


def overflow_bits(overflows: np.ndarray) -> int:
    """Return the exact number of bits of int64 `[n]` overflows: signs, prefixes and digits."""
    _, digits = _values_and_digits(overflows)
    return int(len(overflows) + np.minimum(digits + 1, MAX_PREFIX).sum() + digits.sum())


def _values_and_digits(overflows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distance + 1 and the number of its binary digits below the leading one, both int64 `[n]`."""
    values = np.where(overflows < 0, -overflows, overflows + 1)
    return values, np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1  # exact below 2^53


def _digit_positions(digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each lower digit of each value whose it is and where it stands, most significant first."""
    owner = np.repeat(np.arange(len(digits)), digits)
    ends = np.cumsum(digits)
    return owner, ends[owner] - 1 - np.arange(len(owner))


def _encode_bits(bits: np.ndarray, encoder: RangeEncoder) -> None:
    encoder.encode(bits.astype(np.int32), UNIFORM_BIT)
