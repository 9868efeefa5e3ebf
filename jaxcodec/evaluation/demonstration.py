"""One photo, coded by a codec and by JPEG to at least the same number of bytes, and a picture of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxcodec.codecs.base import Codec
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.rate import bits_per_pixel
from jaxcodec.metrics.ssim import ms_ssim_uint8

_GAP, _CAPTION_HEIGHT = 12, 56


@dataclass(frozen=True)
class Coded:
    """A file and what it decodes to.

    Attributes
    ----------
    codec, quality
        Who wrote it.
    data
        The file.
    decoded
        uint8, the shape of the photo.
    bpp, psnr, ms_ssim
        Bits per pixel, dB, and MS-SSIM in `[0, 1]`.
    """

    codec: str
    quality: float
    data: bytes
    decoded: np.ndarray
    bpp: float
    psnr: float
    ms_ssim: float


def code(codec: Codec, photo: np.ndarray, quality: float) -> Coded:
    """Code a photo, uint8 `[H, W, 3]` with sides over 160 pixels, and measure the file."""
    data = codec.encode(photo, quality=quality)
    decoded = codec.decode(data)
    height, width = photo.shape[:2]
    return Coded(
        codec.name,
        quality,
        data,
        decoded,
        bits_per_pixel(len(data), height, width),
        psnr_uint8(photo, decoded),
        ms_ssim_uint8(photo, decoded),
    )


def quality_of_size(codec: Codec, photo: np.ndarray, at_least: int) -> float:
    """Return the smallest quality whose file has `at_least` bytes; the largest of all if none has.

    By bisection, as a file grows with its quality, but for a byte here and there.
    """
    low, high = 0, len(codec.qualities) - 1
    while low < high:
        middle = (low + high) // 2
        if len(codec.encode(photo, quality=codec.qualities[middle])) >= at_least:
            high = middle
        else:
            low = middle + 1
    return codec.qualities[low]


def spread(qualities: Sequence[float], count: int) -> list[float]:
    """Return up to `count` of the qualities, evenly spread from the first to the last."""
    places = np.linspace(0, len(qualities) - 1, min(count, len(qualities)))
    return [qualities[round(float(place))] for place in places]


def side_by_side(
    photo: np.ndarray, contenders: Sequence[Coded], *, crop: tuple[int, int, int, int]
) -> np.ndarray:
    """Return a picture of the photo and its decoded files: a column each, the whole above an enlarged part.

    Parameters
    ----------
    photo
        uint8 `[H, W, 3]`.
    contenders
        What to show beside it.
    crop
        Left, top, right and bottom of the part, in pixels.
    """
    height, width = photo.shape[:2]
    raw = f"Original\n{photo.size:,} bytes as pixels"
    columns = [(raw, photo)] + [(_caption(coded), coded.decoded) for coded in contenders]
    left, top, right, bottom = crop
    cell = 2 * (right - left)
    whole_height = round(cell * height / width)
    part_height = 2 * (bottom - top)
    canvas = Image.new(
        "RGB",
        (
            len(columns) * (cell + _GAP) + _GAP,
            _CAPTION_HEIGHT + whole_height + part_height + 2 * _GAP,
        ),
        "white",
    )
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=18)
    for number, (caption, pixels) in enumerate(columns):
        x = _GAP + number * (cell + _GAP)
        picture = Image.fromarray(pixels)
        pen.multiline_text((x, 8), caption, fill="black", font=font)
        canvas.paste(picture.resize((cell, whole_height), Image.Resampling.LANCZOS), (x, _CAPTION_HEIGHT))
        # nearest: every coded pixel is seen as it is
        part = picture.crop(crop).resize((cell, part_height), Image.Resampling.NEAREST)
        canvas.paste(part, (x, _CAPTION_HEIGHT + whole_height + _GAP))
    return np.asarray(canvas)


def _caption(coded: Coded) -> str:
    psnr = f"{coded.psnr:.2f} dB" if math.isfinite(coded.psnr) else "lossless"
    return (
        f"{coded.codec}, quality {coded.quality}: {len(coded.data):,} bytes\n"
        f"{coded.bpp:.3f} bits per pixel, PSNR {psnr}, MS-SSIM {coded.ms_ssim:.4f}"
    )
