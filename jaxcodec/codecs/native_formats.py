"""What files of other formats say of themselves: which format, whether it is whole, how large."""

from __future__ import annotations

from jaxcodec.errors import CorruptFile, TruncatedFile

# Native format -> the codec that decodes it.
CODEC_OF_FORMAT = {
    "JPEG": "jpeg",
    "JPEG 2000": "jpeg2000",
    "WebP": "webp",
    "AVIF": "avif",
    "HEIC": "hevc",
    "JPEG XL": "jxl",
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_JXL_CODESTREAM, _JXL_CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_J2K_CODESTREAM, _J2K_CONTAINER = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"
_J2K_START_OF_DATA, _J2K_END = b"\xff\x93", b"\xff\xd9"
# Width as a fraction of the height, by the three bits of JPEG XL's size header; 0 means it is written out.
_JXL_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def native_format(data: bytes) -> str | None:
    """Return the key of `CODEC_OF_FORMAT` that the file begins as, or None."""
    head = bytes(data[:64])
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith((_J2K_CONTAINER, _J2K_CODESTREAM)):
        return "JPEG 2000"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((_JXL_CODESTREAM, _JXL_CONTAINER)):
        return "JPEG XL"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12]} | {head[start : start + 4] for start in range(16, end, 4)}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
    return None


def check_complete(data: bytes, file_format: str) -> None:
    """Raise `TruncatedFile` where the file is cut in a way that its decoder would not notice.

    That is JPEG 2000: a file cut between two parts of a tile decodes as one of less quality. Its end marker
    cannot occur within the coded data (ISO/IEC 15444-1, B.10.1).
    """
    whole = 0 <= data.find(_J2K_START_OF_DATA) < data.rfind(_J2K_END)
    if file_format == "JPEG 2000" and not whole:
        raise TruncatedFile("the JPEG 2000 file is cut short; get a complete copy")


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Return the width and height that a JPEG XL file states (ISO/IEC 18181-1, size header).

    Raises
    ------
    CorruptFile
        If there is no codestream in it.
    """
    codestream = data if data.startswith(_JXL_CODESTREAM) else _jxl_codestream(data)
    if len(codestream) < 12 or codestream[:2] != _JXL_CODESTREAM:
        raise CorruptFile("the JPEG XL file holds no codestream; get another copy")
    bits = int.from_bytes(codestream[2:16], "little")

    def read(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def length(in_blocks: int) -> int:
        return 8 * (read(5) + 1) if in_blocks else read((9, 13, 18, 30)[read(2)]) + 1

    in_blocks = read(1)
    height = length(in_blocks)
    ratio = read(3)
    numerator, denominator = _JXL_RATIOS[ratio]
    width = height * numerator // denominator if ratio else length(in_blocks)
    return width, height


def _jxl_codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream in a container of boxes, empty if there is none."""
    position = 0
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        header = 8
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = position + header + (4 if kind == b"jxlp" else 0)  # a part begins with its number
            return data[start : start + 16]
        if size < header:  # 0: to the end of the file
            break
        position += size
    return b""
