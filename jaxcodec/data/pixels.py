"""A decoded Pillow picture of any mode -> uint8 `[H, W, 3]` (sRGB) or `[H, W]` (grey), with notes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from jaxcodec.data.colour import to_srgb
from jaxcodec.errors import BadImage


def to_pixels(
    picture: Image.Image, *, profile: bytes | None, bits: int, fills_16_bits: bool, notes: list[str]
) -> np.ndarray:
    """Return the pixels of an upright picture.

    Parameters
    ----------
    picture
        Any mode, with or without transparency.
    profile
        The embedded ICC profile, if any.
    bits
        Bits per sample of the file; Pillow has reduced colour to 8 by itself, grey not.
    fills_16_bits
        Whether grey samples of more than 8 bits come scaled to 0..65535, rather than as they lie in the file.
    notes
        One sentence is appended for each conversion.

    Raises
    ------
    BadImage
        If the samples are floats, or integers of more than 16 bits or with a sign.
    """
    alpha = None
    if picture.has_transparency_data:
        picture, alpha = _split_alpha(picture, bits)
    if picture.mode == "F":
        raise BadImage("holds floating-point samples; convert it to 8 or 16 bits first")
    if picture.mode.startswith("I"):
        picture = _to_8_bits(picture, 65535 if fills_16_bits else 2**bits - 1)
    if bits > 8:
        notes.append(f"The samples were reduced from {bits} to 8 bits.")
    picture, colour_notes = to_srgb(picture, profile)
    notes += colour_notes
    pixels = np.array(picture)
    return pixels if alpha is None else _over_white(pixels, alpha, notes)


def _split_alpha(picture: Image.Image, bits: int) -> tuple[Image.Image, np.ndarray]:
    """Return the picture without its transparency, and that as uint8 `[H, W]`, 255 opaque."""
    if picture.mode.startswith("I"):  # one grey value stands for "transparent"; Pillow cannot convert this
        samples = np.asarray(picture)
        alpha = np.where(samples == picture.info.get("transparency"), 0, 255).astype(np.uint8)
        return picture, alpha
    if bits > 8 and isinstance(picture.info.get("transparency"), tuple):
        raise BadImage(
            "marks a 16-bit colour as transparent, which is lost in 8 bits; give it an alpha channel"
        )
    grey = picture.mode in ("1", "L", "LA", "La")
    whole = picture.convert("LA" if grey else "RGBA")
    return whole.convert("L" if grey else "RGB"), np.array(whole.getchannel("A"))


def _to_8_bits(picture: Image.Image, maximum: int) -> Image.Image:
    samples = np.asarray(picture).astype(np.int64)
    if maximum > 65535 or samples.min() < 0 or samples.max() > maximum:
        raise BadImage("holds integers beyond 16 bits or below zero; convert it to 8 or 16 bits first")
    return Image.fromarray(((samples * 255 * 2 + maximum) // (2 * maximum)).astype(np.uint8))  # rounded


def _over_white(pixels: np.ndarray, alpha: np.ndarray, notes: list[str]) -> np.ndarray:
    if alpha.min() == 255:
        notes.append("The alpha channel, opaque everywhere, was dropped.")
        return pixels
    notes.append("The transparent parts were composed over white.")
    opacity = alpha.astype(np.uint16)
    if pixels.ndim == 3:
        opacity = opacity[..., None]
    return ((pixels * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
