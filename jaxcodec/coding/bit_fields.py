"""Many small numbers of one width to bytes and back: most significant bit first, eight at a time.

Eight fields of `w` bits are exactly `w` bytes. They are moved together as lanes of one 64-bit word, pairs first, then
pairs of pairs, then the two halves, so a whole array takes a dozen operations and no loop over bits.
"""

from __future__ import annotations

import numpy as np

from jaxcodec.errors import CorruptFile

# Of each pair of neighbouring lanes, the lower one.
_LOWER = {
    8: np.uint64(0x00FF00FF00FF00FF),
    16: np.uint64(0x0000FFFF0000FFFF),
    32: np.uint64(0x00000000FFFFFFFF),
}


def packed_size(count: int, width: int) -> int:
    """Return the bytes that `count` fields of `width` bits take, `ceil(count * width / 8)`."""
    return (count * width + 7) // 8


def pack_fields(values: np.ndarray, width: int) -> bytes:
    """Pack numbers of `width` bits.

    Parameters
    ----------
    values
        uint8 `[n]`, each below `2**width`.
    width
        0..8; fields of 0 bits are no bytes.

    Returns
    -------
    bytes
        `packed_size(n, width)` of them: the fields in order, the most significant bit first, zeros to fill the
        last byte.
    """
    if width == 0 or not values.size:
        return b""
    eights = np.zeros(-(-values.size // 8) * 8, np.uint8)
    eights[: values.size] = values
    words = eights.view(">u8").astype(np.uint64)
    for lane, lower in _LOWER.items():
        # The first of two neighbours is the higher lane; it moves down to the bits that the other one uses.
        first = (words >> np.uint64(lane)) & lower
        words = (words & lower) | (first << np.uint64(width * lane // 8))
    packed = words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]
    return packed.tobytes()[: packed_size(values.size, width)]


def unpack_fields(data: bytes | memoryview, count: int, width: int) -> np.ndarray:
    """Undo `pack_fields`.

    Parameters
    ----------
    data
        `packed_size(count, width)` bytes.
    count, width
        How many fields of how many bits, 0..8.

    Returns
    -------
    np.ndarray
        uint8 `[count]`.

    Raises
    ------
    CorruptFile
        If there are fewer or more bytes, or a bit is set in what fills the last byte.
    """
    size = packed_size(count, width)
    if len(data) != size:
        raise CorruptFile(
            f"{len(data)} bytes hold no {count} numbers of {width} bits; get another copy of the file"
        )
    if width == 0 or not count:
        return np.zeros(count, np.uint8)
    groups = -(-count // 8)
    packed = np.zeros(groups * width, np.uint8)
    packed[:size] = np.frombuffer(data, np.uint8)
    eights = np.zeros((groups, 8), np.uint8)
    eights[:, 8 - width :] = packed.reshape(groups, width)
    words = eights.view(">u8").astype(np.uint64)
    for lane in reversed(_LOWER):
        used = width * lane // 8
        mask = _low_bits(lane, used)
        words = (words & mask) | (((words >> np.uint64(used)) & mask) << np.uint64(lane))
    fields = words.astype(">u8").view(np.uint8).ravel()
    if fields[count:].any():
        raise CorruptFile("bits are set after the last packed number; get another copy of the file")
    return fields[:count]


def _low_bits(lane: int, used: int) -> np.uint64:
    """The lowest `used` bits of every second lane."""
    return np.uint64(sum(((1 << used) - 1) << start for start in range(0, 64, 2 * lane)))
