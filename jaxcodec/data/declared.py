"""What a file says and Pillow keeps back: bits per sample, colours stated without ICC, a missing end."""

from __future__ import annotations

import re
import struct

from PIL import Image

_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM_HEADER = re.compile(rb"P[2356]" + _GAP + rb"\d+" + _GAP + rb"\d+" + _GAP + rb"(\d+)\s")
# Code points of ITU-T H.273: primaries and transfer curves that are sRGB's, near enough, or unstated.
_SRGB_PRIMARIES = (1, 2)
_SRGB_TRANSFERS = (1, 2, 6, 13, 14, 15)
_SRGB_GAMMA = 1 / 2.2


def is_cut(label: str, data: bytes) -> bool:
    """Return whether the file ends too early in a way that decoding it would not show.

    A JPEG 2000 file cut between two parts of a tile decodes as one of less quality; its end marker cannot
    occur within the coded data (ISO/IEC 15444-1, B.10.1).
    """
    return label == "JPEG 2000" and not 0 <= data.find(b"\xff\x93") < data.rfind(b"\xff\xd9")


def stored_bits(label: str, picture: Image.Image, data: bytes) -> int:
    """Return the bits per sample of the file: of the widest sample, and 8 where the format has no others."""
    if label == "PNG":
        return data[24]  # IHDR comes first and has them here
    if label == "TIFF":
        return max(picture.tag_v2.get(258, (1,)))  # pyrefly: ignore  # TIFF only: BitsPerSample
    if label == "HEIC":
        return int(picture.info.get("bit_depth", 8))
    if label == "PPM":
        header = _PNM_HEADER.match(data)
        return int(header[1]).bit_length() if header else 8
    if label == "JPEG 2000":
        start = data.find(b"\xff\x4f\xff\x51")  # the codestream's SIZ; 42 bytes on, its first component
        return (data[start + 42] & 0x7F) + 1 if 0 <= start < len(data) - 42 else 8
    if label == "AVIF":
        start = data.find(b"pixi")  # the box of bits per channel
        return data[start + 9] if 0 <= start < len(data) - 9 else 8
    return 8


def colour_note(label: str, picture: Image.Image, data: bytes) -> list[str]:
    """Return a sentence if the file states colours other than sRGB in a way that is not followed."""
    taken = "it was ignored, and the colours were taken as sRGB."
    codes = None
    if label == "PNG":
        head = data[: data.find(b"IDAT")]
        start = head.find(b"cICP")
        codes = tuple(head[start + 4 : start + 6]) if 0 <= start < len(head) - 5 else None
    elif label in ("AVIF", "HEIC"):
        start = data.find(b"colrnclx")
        codes = struct.unpack_from(">HH", data, start + 8) if 0 <= start < len(data) - 11 else None
    if codes and not (codes[0] in _SRGB_PRIMARIES and codes[1] in _SRGB_TRANSFERS):
        return [f"The file states colours of primaries {codes[0]} and transfer {codes[1]} (H.273); {taken}"]
    gamma = picture.info.get("gamma")
    if (
        label == "PNG"
        and not codes
        and gamma
        and "srgb" not in picture.info
        and abs(gamma - _SRGB_GAMMA) > 0.01
    ):
        return [f"The file states a gamma of {gamma:.3g} rather than sRGB's; {taken}"]
    return []
