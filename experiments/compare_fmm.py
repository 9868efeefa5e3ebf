r"""Measure the modulus transform (`fmm`) beside PNG, JPEG and a near-lossless rival of the same error bound.

python -m experiments.compare_fmm --images=data/kodak --output=results/fmm.json

For every modulus: PSNR, largest error and bits per sample of the four stages, each decoded and compared; JPEG (4:4:4,
since chroma at half size ends below 40 dB) at the same bytes and at the same PSNR; the coder of
`experiments/near_lossless.py` with the same error bound. PNG of the pictures and of their multiples of 5. Speed
at modulus 5, after a warm-up. All sizes are of whole files. The table is printed, and written beside the JSON as .txt.

Pillow does not offer WebP's near-lossless mode, so it is not in the table.
"""

from __future__ import annotations

import bisect
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

from experiments import near_lossless
from jaxcodec.codecs.classical import jpeg444
from jaxcodec.codecs.fmm import FMMOptions, load_fmm
from jaxcodec.codecs.fmm.stream import STAGES
from jaxcodec.codecs.fmm.transform import quantise, reconstruct
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.metrics.psnr import psnr_uint8

MODULI = (2, 3, 5, 7, 10, 16)
HEADER_BYTES = 24  # what the rival's file would have besides its tables and coded bytes, as `.jxc` has

_IMAGES = flags.DEFINE_string("images", "data/kodak", "Folder of lossless pictures, or a pattern.")
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many pictures.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Times each picture is coded for the speed.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write; the table goes beside it.")


class Jpeg:
    """JPEG 4:4:4 files of one picture, each made once."""

    def __init__(self, image: np.ndarray) -> None:
        codec = jpeg444()
        self._file = cache(lambda quality: codec.encode(image, quality=quality))
        self._psnr = cache(lambda quality: psnr_uint8(image, codec.decode(self._file(quality))))

    def of_bytes(self, size: int) -> dict[str, Any] | None:
        """The largest file of at most `size` bytes; None if all are larger."""
        above = bisect.bisect_right(range(1, 101), size, key=lambda quality: len(self._file(quality)))
        return self._row(above) if above else None

    def of_psnr(self, psnr: float) -> dict[str, Any] | None:
        """The smallest file of at least `psnr` dB; None if none has."""
        quality = 1 + bisect.bisect_left(range(1, 101), psnr, key=self._psnr)
        return self._row(quality) if quality <= 100 else None

    def _row(self, quality: int) -> dict[str, Any]:
        return {"quality": quality, "bytes": len(self._file(quality)), "psnr": self._psnr(quality)}


def png_bytes(image: np.ndarray) -> int:
    """Return the size of a picture as an optimised PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.tell()


def largest_error(a: np.ndarray, b: np.ndarray) -> int:
    """Return the largest difference of two uint8 pictures."""
    return int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max())


def measure_modulus(image: np.ndarray, modulus: int, jpeg: Jpeg) -> dict[str, Any]:
    """Return a picture's figures for one modulus; `AssertionError` where a stage does not decode exactly."""
    codec = load_fmm()
    multiples = reconstruct(quantise(image, modulus), modulus)
    sizes = {}
    for stage in STAGES:
        data = codec.encode(image, options=FMMOptions(modulus, stage))
        np.testing.assert_array_equal(codec.decode(data), multiples)
        sizes[stage] = len(data)
    psnr, bound = psnr_uint8(image, multiples), modulus // 2
    planes = image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))
    coded, decoded = near_lossless.encode(planes, bound)
    return {
        "psnr": psnr,
        "max_error": largest_error(image, multiples),
        "bytes": sizes,
        "near_lossless": {
            "bound": bound,
            "bytes": len(coded) + HEADER_BYTES,
            "psnr": psnr_uint8(planes.transpose(1, 2, 0), decoded.transpose(1, 2, 0)),
            "max_error": largest_error(planes, decoded),
        },
        "jpeg_at_bytes_of_block": jpeg.of_bytes(sizes["block"]),
        "jpeg_at_bytes_of_predictive": jpeg.of_bytes(sizes["predictive"]),
        "jpeg_at_psnr": jpeg.of_psnr(psnr),
    }


def measure_picture(path: Path, image: np.ndarray) -> dict[str, Any]:
    """Return all figures of a picture but its speed."""
    jpeg = Jpeg(image)
    multiples = reconstruct(quantise(image, 5), 5)
    inner = (image > 0) & (image < 255)
    return {
        "image": path.name,
        "width": image.shape[1],
        "height": image.shape[0],
        "samples": image.size,
        "share_of_0_and_255": 1.0 - float(inner.mean()),
        "psnr_without_0_and_255": psnr_uint8(image[inner][:, None], multiples[inner][:, None]),
        "png_bytes": png_bytes(image),
        "png_of_multiples_of_5_bytes": png_bytes(multiples),
        "moduli": {str(modulus): measure_modulus(image, modulus, jpeg) for modulus in MODULI},
    }


def measure_speed(images: Sequence[np.ndarray], rounds: int) -> dict[str, dict[str, float]]:
    """Return megapixels a second by stage, at modulus 5: all pixels by the sum of each picture's median time."""
    codec, speeds = load_fmm(), {}
    pixels = sum(image.shape[0] * image.shape[1] for image in images) / 1e6
    for stage in STAGES:
        options = FMMOptions(stage=stage)
        codec.decode(codec.encode(images[0], options=options))
        seconds = np.zeros(2)
        for image in images:
            trials = []
            for _ in range(rounds):
                start = time.perf_counter()
                data = codec.encode(image, options=options)
                middle = time.perf_counter()
                codec.decode(data)
                trials.append((middle - start, time.perf_counter() - middle))
            seconds += np.median(trials, axis=0)
        speeds[stage] = {"encode": pixels / seconds[0], "decode": pixels / seconds[1]}
    return speeds


def table(rows: Sequence[dict[str, Any]], speeds: dict[str, dict[str, float]]) -> str:
    """Return the table as text: means over the pictures."""

    def mean(value: Callable[[dict[str, Any]], float | None]) -> str:
        """The mean where there is a value, and how many have it if not all."""
        values = [found for row in rows if (found := value(row)) is not None]
        if not values:
            return "-"
        missing = f" ({len(values)})" if len(values) < len(rows) else ""
        return f"{statistics.fmean(values):.2f}{missing}"

    def bits(row: dict[str, Any], size: int) -> float:
        return 8 * size / row["samples"]

    header = ["k", "PSNR", "max", *STAGES, "NEAR=k//2", "PSNR", "JPEG: PSNR at block's bytes"]
    header += ["at predictive's bytes", "bits at equal PSNR"]
    cells = [header]
    for modulus in map(str, MODULI):

        def of(row: dict[str, Any], modulus: str = modulus) -> dict[str, Any]:
            return row["moduli"][modulus]

        def jpeg(row: dict[str, Any], at: str, field: str, of: Any = of) -> Any:
            found = of(row)[f"jpeg_at_{at}"]
            return found and found[field]

        def jpeg_bits(row: dict[str, Any], jpeg: Any = jpeg) -> float | None:
            size = jpeg(row, "psnr", "bytes")
            return size and bits(row, size)

        cells.append(
            [
                modulus,
                mean(lambda row, of=of: of(row)["psnr"]),
                str(max(of(row)["max_error"] for row in rows)),
                *(
                    mean(lambda row, of=of, stage=stage: bits(row, of(row)["bytes"][stage]))
                    for stage in STAGES
                ),
                mean(lambda row, of=of: bits(row, of(row)["near_lossless"]["bytes"])),
                mean(lambda row, of=of: of(row)["near_lossless"]["psnr"]),
                mean(lambda row, jpeg=jpeg: jpeg(row, "bytes_of_block", "psnr")),
                mean(lambda row, jpeg=jpeg: jpeg(row, "bytes_of_predictive", "psnr")),
                mean(jpeg_bits),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)) for line in cells]
    psnrs = {row["image"]: row["moduli"]["5"]["psnr"] for row in rows}
    apart = [f"{name} {psnr:.2f}" for name, psnr in psnrs.items() if abs(psnr - 45.1) > 0.3]
    inner = [row["psnr_without_0_and_255"] for row in rows]
    lines += [
        f"PNG: {mean(lambda row: bits(row, row['png_bytes']))}; of the multiples of 5: "
        f"{mean(lambda row: bits(row, row['png_of_multiples_of_5_bytes']))}",
        f"k = 5: PSNR {min(psnrs.values()):.2f}..{max(psnrs.values()):.2f}; outside 45.1 +- 0.3: "
        f"{', '.join(apart) or 'none'}; without samples of 0 and 255, which are exact: "
        f"{min(inner):.2f}..{max(inner):.2f}",
        *(
            f"{stage}: {speed['encode']:.1f} Mpixel/s encoding, {speed['decode']:.1f} decoding (k = 5)"
            for stage, speed in speeds.items()
        ),
    ]
    return "\n".join(lines)


DEFINITION = (
    "means over the pictures; bits per sample = 8 * bytes of the file / (width * height * channels), (n) = only n "
    "pictures reach it; NEAR=k//2 is experiments/near_lossless.py with that error bound, which is not JPEG-LS; JPEG is "
    "4:4:4 with optimised tables, the nearest file below these bytes, the smallest file of at least this PSNR"
)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    paths = list_images(_IMAGES.value)[: _LIMIT.value]
    images = [read_image(path).pixels for path in paths]
    speeds = measure_speed(images, _ROUNDS.value)
    rows = [measure_picture(path, image) for path, image in zip(paths, images, strict=True)]
    text = f"{len(rows)} pictures of {_IMAGES.value}; {DEFINITION}\n{table(rows, speeds)}\n"
    print(text, end="")
    if _OUTPUT.value:
        content = {
            "definition": DEFINITION,
            "speed_megapixels_per_second": speeds,
            "speed_definition": f"modulus 5, after a warm-up, median of {_ROUNDS.value} runs of each picture, on "
            f"{os.cpu_count()} CPUs ({platform.machine()}) that were shared with other work",
            "images": rows,
        }
        write_bytes(_OUTPUT.value, (json.dumps(content, indent=1) + "\n").encode(), force=True)
        write_bytes(Path(_OUTPUT.value).with_suffix(".txt"), text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
