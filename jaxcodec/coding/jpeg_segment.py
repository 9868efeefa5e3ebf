"""An APP11 segment in a JPEG file that says what the file is more than a JPEG: any viewer skips it.

    FF EB     APP11
    2 bytes   length from here on, big-endian
    4 bytes   "JXC", 0
    1 byte    codec (codec_ids.py)
    4 bytes   hash of the weights
    varints   width and height of the true picture
    4 bytes   CRC-32 of the file without this segment, then of the segment's fields from the codec on; little-endian

It stands behind the JFIF header, in about 21 bytes. With the checksum a damaged file is told from a whole one, which
JPEG decoders do not do. Only damage to the segment's first bytes makes the file an ordinary JPEG.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from jaxcodec.coding.container import DEFAULT_LIMITS, Limits
from jaxcodec.coding.varint import decode_varint, encode_varint
from jaxcodec.errors import CorruptFile, TooLarge, TruncatedFile

_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP11, _START_OF_SCAN = 0xE0, 0xEB, 0xDA
_IDENTIFIER = b"JXC\0"
_FIXED = 5  # codec and hash
_CRC_BYTES = 4


@dataclass(frozen=True)
class JpegSegment:
    """What the segment holds.

    Attributes
    ----------
    codec_id
        0..255.
    weights_hash
        4 bytes.
    width, height
        Of the true picture, at least 1.
    """

    codec_id: int
    weights_hash: bytes
    width: int
    height: int

    def fields(self) -> bytes:
        """The segment without identifier and checksum."""
        sizes = encode_varint(self.width) + encode_varint(self.height)
        return bytes([self.codec_id]) + self.weights_hash + sizes


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the first scan, as far as they make sense."""
    position = len(_START_OF_IMAGE)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, position, end
        position = max(end, position + 4)


def _find(data: bytes) -> tuple[int, int] | None:
    if data[:2] != _START_OF_IMAGE:
        return None
    for marker, start, end in _segments(data):
        if marker == _APP11 and data[start + 4 : start + 8] == _IDENTIFIER:
            return start, end
    return None


def has_segment(data: bytes) -> bool:
    """Whether a file is a JPEG with such a segment; nothing in it is checked."""
    return _find(data) is not None


def add_segment(jpeg: bytes, segment: JpegSegment) -> bytes:
    """The file with the segment behind its JFIF header."""
    place = len(_START_OF_IMAGE)
    for marker, start, end in _segments(jpeg):
        if marker == _APP0 and start == place:
            place = end
    fields = segment.fields()
    content = _IDENTIFIER + fields + zlib.crc32(fields, zlib.crc32(jpeg)).to_bytes(_CRC_BYTES, "little")
    length = (2 + len(content)).to_bytes(2, "big")
    return jpeg[:place] + bytes([0xFF, _APP11]) + length + content + jpeg[place:]


def split_segment(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[JpegSegment, bytes] | None:
    """The segment and the JPEG file without it, all checked; None where there is no such segment.

    Raises
    ------
    TruncatedFile, CorruptFile
        If the file is cut, or a byte of it is wrong.
    TooLarge
        If the picture has more pixels, or the file more bytes, than the limits allow.
    """
    found = _find(data)
    if found is None:
        return None
    if len(data) > limits.max_file_bytes:
        raise TooLarge(f"the file has {len(data)} bytes, over the limit of {limits.max_file_bytes}")
    start, end = found
    if end > len(data) or data[-2:] != _END_OF_IMAGE:
        raise TruncatedFile("the JPEG file is cut short; get a complete copy")
    content, jpeg = data[start + 8 : end], data[:start] + data[end:]
    fields, stored = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
    if len(fields) < _FIXED or zlib.crc32(fields, zlib.crc32(jpeg)).to_bytes(_CRC_BYTES, "little") != stored:
        raise CorruptFile("the checksum of the JPEG file does not match; get another copy of the file")
    width, position = decode_varint(memoryview(fields), _FIXED, "width")
    height, position = decode_varint(memoryview(fields), position, "height")
    if position != len(fields) or width < 1 or height < 1:
        raise CorruptFile("the JPEG file's segment is not as written; get another copy of the file")
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the picture has {width} x {height} pixels, over the limit of {limits.max_pixels} (max_pixels)"
        )
    return JpegSegment(fields[0], fields[1:_FIXED], width, height), jpeg
