"""Rate, distortion and time of a codec over pictures, in the schema of the published Kodak curves.

Rate is file bytes * 8 / pixels; PSNR and MS-SSIM compare the 8-bit decoded picture with the original, per
picture, and are averaged over the pictures. Times are of one picture at a time, from pixels to the bytes of a
file and back, in seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcodec.codecs.base import Codec
from jaxcodec.codecs.checks import check_quality
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.rate import bits_per_pixel
from jaxcodec.metrics.ssim import ms_ssim_uint8

SMALLEST_SIDE_FOR_MS_SSIM = 161
MEASURES = ("bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time")
"""The lists in `results`, one entry per quality, and, but for the lists, the fields of a row of `images`."""


def measure_picture(codec: Codec, pixels: np.ndarray, *, quality: float) -> dict[str, Any]:
    """Code one picture to a file, decode the file, and measure both.

    Parameters
    ----------
    codec
        What to measure.
    pixels
        uint8 `[H, W, 3]` or `[H, W]`.
    quality
        One of the codec's.

    Returns
    -------
    dict
        `quality`, `width`, `height`, `bytes` and `MEASURES`. `psnr-rgb` is None where the file is lossless,
        `ms-ssim-rgb` where a side is under 161 pixels.
    """
    start = time.perf_counter()
    data = codec.encode(pixels, quality=quality)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    done = time.perf_counter()
    height, width = pixels.shape[:2]
    if pixels.ndim == 2 and decoded.ndim == 3:  # a format without grey
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    psnr = psnr_uint8(pixels, decoded)
    large_enough = min(height, width) >= SMALLEST_SIDE_FOR_MS_SSIM
    return {
        "quality": quality,
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": bits_per_pixel(len(data), height, width),
        "psnr-rgb": psnr if math.isfinite(psnr) else None,
        "ms-ssim-rgb": ms_ssim_uint8(pixels, decoded) if large_enough else None,
        "encoding_time": encoded - start,
        "decoding_time": done - encoded,
    }


def bench_codec(
    codec: Codec,
    pictures: Sequence[Path],
    *,
    read: Callable[[Path], np.ndarray],
    qualities: Sequence[float] | None = None,
    description: str = "",
    warm_up: bool = False,
    on_measured: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Measure a codec over pictures.

    Parameters
    ----------
    codec
        What to measure.
    pictures
        Files, at least one; each is read once and named in the rows by its file name.
    read
        Gives the pixels of a file, uint8 `[H, W, 3]` or `[H, W]`.
    qualities
        Those to measure, by default the codec's ladder.
    description
        A sentence on the codec and the machine, kept in the result.
    warm_up
        Whether to code the first picture once at each quality before anything is timed, so that reading
        weights and compiling are not; the description says so.
    on_measured
        Called after each picture and quality.

    Returns
    -------
    dict
        `{name, description, results: {quality, bpp, psnr-rgb, ...}, images: [...]}`: `results` has a list per
        measure, one entry per quality, None where no picture has it; `images` a row per picture and quality.

    Raises
    ------
    JaxcodecError
        `BadOption` for a quality the codec does not offer; whatever reading, encoding or decoding raise.
    ValueError
        If there are no pictures.
    """
    if not pictures:
        raise ValueError("bench_codec needs at least one picture")
    chosen = sorted({check_quality(quality, codec) for quality in qualities or codec.ladder})
    if warm_up:
        first = read(pictures[0])
        for quality in chosen:
            codec.decode(codec.encode(first, quality=quality))
        description = f"{description} Not timed: a first picture at each quality, for compilation.".strip()
    rows: list[dict[str, Any]] = []
    for path in pictures:
        pixels = read(path)
        for quality in chosen:
            rows.append({"file": path.name, **measure_picture(codec, pixels, quality=quality)})
            on_measured()
    rows.sort(key=lambda row: row["quality"])  # stable: within a quality, in the order of the pictures
    results: dict[str, list[Any]] = {"quality": chosen}
    for measure in MEASURES:
        results[measure] = [
            _mean([row[measure] for row in rows if row["quality"] == quality]) for quality in chosen
        ]
    return {"name": codec.name, "description": description, "results": results, "images": rows}


def missing_values(record: Mapping[str, Any]) -> list[str]:
    """Sentences on what is left out of the averages of a `bench_codec` result; empty if nothing is."""
    rows, name = record["images"], record["name"]
    sentences = []
    small = {row["file"] for row in rows if row["ms-ssim-rgb"] is None}
    if small:
        count = len({row["file"] for row in rows})
        sentences.append(
            f"{name}: {len(small)} of {count} pictures have a side under {SMALLEST_SIDE_FOR_MS_SSIM} pixels "
            "and so no MS-SSIM; its average leaves them out"
        )
    exact = sum(row["psnr-rgb"] is None for row in rows)
    if exact:
        sentences.append(
            f"{name}: {exact} of {len(rows)} files are lossless and so have no finite PSNR; "
            "its average leaves them out"
        )
    return sentences


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
