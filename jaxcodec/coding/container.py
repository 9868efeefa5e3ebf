r"""The `.jxc` file: a header that says how to decode, then one or several chunks of coded bytes, all checked.

    8A 4A 58 0A   magic: a byte that is no text, "JX", and a newline that careless transfers change
    1 byte        high half: format version, 1; low half: bit 0 colour, bit 1 several chunks, bits 2-3 zero
                  (for 8 bits a sample)
    1 byte        codec (codec_ids.py)
    1 byte        range coder (range_coder.py)
    4 bytes       hash of the weights and tables
    varints       width, height, quality; if several chunks, their number; the length of each chunk
    one chunk:       the chunk, CRC-32 of everything before
    several chunks:  CRC-32 of everything before, then each chunk followed by the CRC-32 of the header and all
                     chunks so far (without the checksums between): none can be swapped or borrowed

Checksums are little-endian. For a photo all of it but the chunk takes 22 to 24 bytes. Varints are canonical
and nothing may follow the end, so each content has one file. A progressive codec writes a chunk per
iteration: the whole chunks before a cut still decode, when asked for.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from jaxcodec.coding.varint import MAX_VALUE, decode_varint, encode_varint
from jaxcodec.errors import BadOption, CorruptFile, NotAJxcFile, TooLarge, TruncatedFile, UnknownCodec
from jaxcodec.version import __version__

MAGIC = b"\x8aJX\n"
FORMAT_VERSION = 1
_COLOUR, _SEVERAL, _DEPTH_SHIFT = 1, 2, 2
_CRC_BYTES = 4
_ANOTHER_COPY = "get another copy of the file"
# What is left of the magic when newlines, the high bit or the character set were converted on the way.
_MANGLED = (b"\x8aJX\r", b"\nJX", b"\xc2\x8aJX", b"\xef\xbf\xbdJX", b"\xc5\xa0JX", b"?JX\n")


@dataclass(frozen=True)
class Header:
    """What a decoder has to know before it decodes.

    Attributes
    ----------
    codec_id, coder_id
        Numbers of the codec and of its range coder, 0..255; looked up with `codec_name` and `get_coder`.
    weights_hash
        4 bytes; zeros for a codec without weights.
    width, height
        Of the picture, in pixels, at least 1.
    channels
        1 for grey, 3 for sRGB.
    bit_depth
        Bits per sample: 8.
    quality
        The codec's own number, at least 0.

    Raises
    ------
    CorruptFile
        If a field is outside of this.
    """

    codec_id: int
    coder_id: int
    weights_hash: bytes
    width: int
    height: int
    channels: int
    bit_depth: int
    quality: int

    def __post_init__(self) -> None:
        for field, valid in (
            ("codec_id", 0 <= self.codec_id <= 255),
            ("coder_id", 0 <= self.coder_id <= 255),
            ("weights_hash", len(self.weights_hash) == 4),
            ("width", 1 <= self.width <= MAX_VALUE),
            ("height", 1 <= self.height <= MAX_VALUE),
            ("channels", self.channels in (1, 3)),
            ("bit_depth", self.bit_depth == 8),
            ("quality", 0 <= self.quality <= MAX_VALUE),
        ):
            if not valid:
                raise CorruptFile(
                    f"header field '{field}' cannot be {getattr(self, field)!r}; {_ANOTHER_COPY}"
                )


@dataclass(frozen=True)
class Limits:
    """What a reader agrees to: beyond it, `TooLarge`, before anything is allocated.

    Attributes
    ----------
    max_pixels
        Width times height. The default, 134 megapixels, is 1.6 GB as float32 sRGB.
    max_file_bytes
        Length of the whole file.
    max_chunks
        Chunks, thus iterations of a progressive codec.
    """

    max_pixels: int = 1 << 27
    max_file_bytes: int = 1 << 29
    max_chunks: int = 1024


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class _Layout:
    """A header as it stands in the file, not yet trusted, and where the chunks are."""

    flags: int
    codec_id: int
    coder_id: int
    weights_hash: bytes
    width: int
    height: int
    quality: int
    lengths: tuple[int, ...]
    end: int  # of all this; for several chunks, the header's checksum stands here

    @property
    def several(self) -> bool:
        return bool(self.flags & _SEVERAL)

    @property
    def file_end(self) -> int:
        return self.end + sum(self.lengths) + _CRC_BYTES * (len(self.lengths) + self.several)


def is_jxc(data: bytes) -> bool:
    """Return whether `data` begins as a `.jxc` file."""
    return data[: len(MAGIC)] == MAGIC


def pack(header: Header, chunks: Sequence[bytes]) -> bytes:
    """Return the file of a header and its chunks, at least one; `BadOption` if there is none."""
    if not chunks:
        raise BadOption("a .jxc file has at least one chunk")
    several = len(chunks) > 1
    # The code for a depth of 8 bits is 0.
    flags = (_COLOUR if header.channels == 3 else 0) | (_SEVERAL if several else 0)
    numbers = [header.width, header.height, header.quality]
    numbers += [len(chunks)] if several else []
    numbers += [len(chunk) for chunk in chunks]
    head = MAGIC + bytes([FORMAT_VERSION << 4 | flags, header.codec_id, header.coder_id])
    head += header.weights_hash + b"".join(encode_varint(number) for number in numbers)
    checksum = zlib.crc32(head)
    parts = [head, _crc_bytes(checksum)] if several else [head]
    for chunk in chunks:
        checksum = zlib.crc32(chunk, checksum)
        parts += [chunk, _crc_bytes(checksum)]
    return b"".join(parts)


def unpack(
    data: bytes, *, limits: Limits = DEFAULT_LIMITS, allow_truncated: bool = False
) -> tuple[Header, list[bytes]]:
    """Read a file, all of it checked.

    Parameters
    ----------
    data
        The whole file.
    limits
        What to refuse.
    allow_truncated
        Return the whole chunks before a cut, at least one, instead of raising `TruncatedFile`. A file of one
        chunk has nothing to give.

    Returns
    -------
    tuple
        The header and its chunks.

    Raises
    ------
    NotAJxcFile, TruncatedFile, CorruptFile, UnknownCodec, TooLarge
        `UnknownCodec` for a format that is newer than this version; the numbers of codec and coder are not
        looked up.
    """
    view = memoryview(data)
    layout = _read_layout(view, limits)
    position, checksum = layout.end, zlib.crc32(view[: layout.end])
    if layout.several:
        position = _checked_end(view, layout, position, checksum, "header")
    if len(view) > layout.file_end:
        raise CorruptFile(f"{len(view) - layout.file_end} bytes follow the end of the file; {_ANOTHER_COPY}")
    chunks: list[bytes] = []
    for number, length in enumerate(layout.lengths, 1):
        chunk_end = position + length
        if allow_truncated and chunks and len(view) < chunk_end + _CRC_BYTES:
            break
        checksum = zlib.crc32(view[position:chunk_end], checksum)
        what = f"chunk {number} of {len(layout.lengths)}" if layout.several else "file"
        following = _checked_end(view, layout, chunk_end, checksum, what)
        chunks.append(bytes(view[position:chunk_end]))
        position = following
    return _to_header(layout, limits), chunks


def read_header(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Read and check the header.

    As in `unpack`, and with its errors, but the chunks of a file of several may be missing or damaged. A file
    of one chunk has one checksum for all, so it has to be whole.
    """
    view = memoryview(data)
    layout = _read_layout(view, limits)
    if not layout.several:
        return unpack(data, limits=limits)[0]
    _checked_end(view, layout, layout.end, zlib.crc32(view[: layout.end]), "header")
    return _to_header(layout, limits)


def _read_layout(view: memoryview, limits: Limits) -> _Layout:
    """Read the fields; allocates nothing but the lengths, of which there are at most `limits.max_chunks`."""
    start = bytes(view[: len(MAGIC)])
    if start != MAGIC:
        if not start:
            raise TruncatedFile("the file is empty; get a complete copy")
        if any(bytes(view[: len(mangled)]) == mangled for mangled in _MANGLED):
            raise NotAJxcFile("the file was a .jxc before it was transferred as text; transfer it as binary")
        if MAGIC.startswith(start):
            raise TruncatedFile(f"the file ends after {len(start)} bytes; get a complete copy")
        raise NotAJxcFile("the file does not begin as a .jxc file; decode takes what jaxcodec encode wrote")
    if len(view) > limits.max_file_bytes:
        raise TooLarge(
            f"the file has {len(view)} bytes, over the limit of {limits.max_file_bytes} (max_file_bytes)"
        )
    fixed = len(MAGIC) + 7
    if len(view) > len(MAGIC) and view[len(MAGIC)] >> 4 != FORMAT_VERSION:
        raise UnknownCodec(
            f"the file has .jxc format {view[len(MAGIC)] >> 4}, which jaxcodec {__version__} does not know; "
            "upgrade jaxcodec to read it"
        )
    if len(view) < fixed:
        raise TruncatedFile("the file ends inside its header; get a complete copy")
    flags, codec_id, coder_id = view[4] & 0x0F, view[5], view[6]
    position = fixed
    numbers: list[int] = []
    for field in ("width", "height", "quality"):
        number, position = decode_varint(view, position, field)
        numbers.append(number)
    count = 1
    if flags & _SEVERAL:
        count, position = decode_varint(view, position, "number of chunks")
        if count < 2:
            raise CorruptFile(f"a file of several chunks cannot have {count}; {_ANOTHER_COPY}")
        if count > limits.max_chunks:
            raise TooLarge(f"the file has {count} chunks, over the limit of {limits.max_chunks} (max_chunks)")
    lengths: list[int] = []
    for _ in range(count):
        length, position = decode_varint(view, position, "chunk length")
        lengths.append(length)
    width, height, quality = numbers
    return _Layout(
        flags, codec_id, coder_id, bytes(view[7:fixed]), width, height, quality, tuple(lengths), position
    )


def _checked_end(view: memoryview, layout: _Layout, position: int, checksum: int, what: str) -> int:
    """Return the position after the checksum that stands at `position`, if it is there and right."""
    end = position + _CRC_BYTES
    if len(view) < end:
        raise TruncatedFile(
            f"the file ends after {len(view)} of {layout.file_end} bytes, in its {what}; get a complete copy"
        )
    if bytes(view[position:end]) != _crc_bytes(checksum):
        raise CorruptFile(f"the checksum of the {what} does not match; {_ANOTHER_COPY}")
    return end


def _to_header(layout: _Layout, limits: Limits) -> Header:
    """Return the header, once the checksum has shown that its bytes are right."""
    if layout.flags >> _DEPTH_SHIFT:
        raise UnknownCodec(
            f"the file has samples of a depth that jaxcodec {__version__} does not know; "
            "upgrade jaxcodec to read it"
        )
    header = Header(
        codec_id=layout.codec_id,
        coder_id=layout.coder_id,
        weights_hash=layout.weights_hash,
        width=layout.width,
        height=layout.height,
        channels=3 if layout.flags & _COLOUR else 1,
        bit_depth=8,
        quality=layout.quality,
    )
    if header.width * header.height > limits.max_pixels:
        raise TooLarge(
            f"the picture has {header.width} x {header.height} pixels, over the limit of {limits.max_pixels} "
            "(max_pixels)"
        )
    return header


def _crc_bytes(checksum: int) -> bytes:
    return struct.pack("<I", checksum)
