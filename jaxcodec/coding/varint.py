"""Unsigned integers of variable length: seven bits a byte, low ones first, with a high bit while more follow.

Each value has exactly one form, so that a file has exactly one reading: longer forms of a value are refused.
"""

from __future__ import annotations

from jaxcodec.errors import BadOption, CorruptFile, TruncatedFile

MAX_VALUE = 2**64 - 1
_MAX_BYTES = 10  # ceil(64 / 7)


def encode_varint(value: int) -> bytes:
    """Return the one to ten bytes of `value`.

    Raises
    ------
    BadOption
        If `value` is outside 0..2^64 - 1.
    """
    if not 0 <= value <= MAX_VALUE:
        raise BadOption(f"{value} cannot be stored; a varint holds 0..{MAX_VALUE}")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | (value & 0x7F))
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes | memoryview, position: int, field: str) -> tuple[int, int]:
    """Read one varint.

    Parameters
    ----------
    data, position
        The bytes and where the number begins in them.
    field
        What the number is, for the error messages.

    Returns
    -------
    tuple of int
        `(value, position after it)`.

    Raises
    ------
    TruncatedFile
        If `data` ends inside the number.
    CorruptFile
        If the number is over 64 bits or written longer than it has to be.
    """
    value = 0
    for n in range(_MAX_BYTES):
        if position + n >= len(data):
            raise TruncatedFile(f"the file ends inside its field '{field}'; get a complete copy")
        byte = data[position + n]
        value |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            if byte == 0 and n > 0:
                raise CorruptFile(
                    f"field '{field}' is written longer than it has to be; get another copy of the file"
                )
            break
    else:
        value = MAX_VALUE + 1
    if value > MAX_VALUE:
        raise CorruptFile(f"field '{field}' is over 64 bits; get another copy of the file")
    return value, position + n + 1
