r"""Measure ComCNN + RecCNN against the codecs that they stand around, at equal bytes, and RecCNN as a restorer.

python -m experiments.compare_comcnn --classics=CLASSIC/grey --photos=BSDS/test --output=results/comcnn.json \
    --bicubic_weights=FILE

Everything is grey. For each picture the files of plain JPEG at QF 5 and QF 10 (optimised tables) give the number of
bytes; every system's PSNR and SSIM there is interpolated between its own files, linearly in the logarithm of the
size, headers counted. Further up, the same differences are averaged at the bytes of higher qualities, and the crossover
is the rate at which the mean falls through 0. A picture where a system has no file on either side of the wanted
bytes is left out for it, and counted ("n").

`--bicubic_weights` are those of the first stage of the training: RecCNN after a plain bicubic reduction. The
restorer is measured on plain JPEG files of the same pictures, from Q 10 to Q 90, where `--codecs` has JPEG.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

from jaxcodec.codecs.comcnn import ComCnnCodec, Restorer, load_restorer
from jaxcodec.codecs.comcnn.coarseness import jpeg_coarseness, luma_table
from jaxcodec.codecs.comcnn.inner import InnerCodec, inner_codec
from jaxcodec.codecs.registry import load
from jaxcodec.data.files import write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.errors import WrongWeights
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.ssim import ssim_uint8

CLASSICS = ("butterfly", "cameraman", "house", "lena", "peppers_512", "leaves", "parrot")
"""The seven pictures of the paper's tables."""

PLAIN = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90)
"""Qualities of the plain codecs, and of those within a system where it was trained for them."""

ANCHORS = (5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80)
"""Qualities of plain JPEG whose bytes are wanted."""

RESTORED = tuple(range(10, 91, 10))

_CLASSICS = flags.DEFINE_string("classics", None, "Folder of the grey classics.", required=True)
_PHOTOS = flags.DEFINE_string("photos", None, "Folder of photos that no network has seen.", required=True)
_COUNT = flags.DEFINE_integer("count", 8, "How many of those, evenly spread.", lower_bound=0)
_CODECS = flags.DEFINE_list("codecs", ["jpeg", "jpeg2000", "hevc"], "The standard codecs.")
_WEIGHTS = flags.DEFINE_list("weights", [], "CODEC=FILE in place of the zoo's weights.")
_RESTORER = flags.DEFINE_string("restorer_weights", None, "In place of the zoo's.")
_BICUBIC = flags.DEFINE_string("bicubic_weights", None, "Weights around JPEG whose ComCNN is untrained.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write; the tables go beside it.")


@dataclass(frozen=True)
class Point:
    """A file and how well it decodes."""

    size: int
    psnr: float
    ssim: float


Curve = list[Point]


def measured(image: np.ndarray, size: int, decoded: np.ndarray) -> Point:
    """The point of a decoded file."""
    return Point(size, psnr_uint8(image, decoded), ssim_uint8(image, decoded))


def curve(files: Sequence[tuple[int, np.ndarray]], image: np.ndarray) -> Curve:
    """Points of files by rising size; of those of equal size the last."""
    points = {size: measured(image, size, decoded) for size, decoded in files}
    return [points[size] for size in sorted(points)]


def at_bytes(points: Curve, size: float) -> tuple[float, float] | None:
    """PSNR and SSIM at so many bytes, linear in the logarithm; None beyond the ends."""
    sizes = np.log([point.size for point in points])
    wanted = np.log(size)
    if not sizes[0] <= wanted <= sizes[-1]:
        return None
    psnr = float(np.interp(wanted, sizes, [point.psnr for point in points]))
    return psnr, float(np.interp(wanted, sizes, [point.ssim for point in points]))


def systems(
    image: np.ndarray, inner: InnerCodec, pairs: dict[str, ComCnnCodec], restorer: Restorer
) -> dict[str, Curve]:
    """The curve of each system around one standard codec."""
    plain = [(quality, inner.encode(image, quality)) for quality in PLAIN]
    found = {inner.name: curve([(len(data), inner.decode(data)) for _, data in plain], image)}
    if inner.name == "jpeg":
        restored = [
            (len(data), restorer.restore_luma(inner.decode(data), jpeg_coarseness(luma_table(quality))))
            for quality, data in plain
            if quality >= 4
        ]
        found["jpeg + RecCNN"] = curve(restored, image)
    for name, codec in pairs.items():
        files = [codec.encode(image, quality=quality) for quality in PLAIN if quality in codec.qualities]
        found[name] = curve([(len(data), codec.decode(data)) for data in files], image)
    return found


def measure_picture(
    image: np.ndarray, codecs: dict[str, dict[str, ComCnnCodec]], restorer: Restorer
) -> dict[str, Any]:
    """PSNR and SSIM of every system at the bytes of plain JPEG, and the restorer's gains."""
    jpeg = inner_codec("jpeg")
    curves = {name: systems(image, inner_codec(name), pairs, restorer) for name, pairs in codecs.items()}
    anchors = {}
    for quality in ANCHORS:
        size = len(jpeg.encode(image, quality))
        anchors[str(quality)] = {
            "bytes": size,
            "bpp": 8.0 * size / image.size,
            "systems": {
                system: at_bytes(points, size) for by in curves.values() for system, points in by.items()
            },
        }
    gains = {}
    for quality in RESTORED if "jpeg" in codecs else ():
        decoded = jpeg.decode(jpeg.encode(image, quality))
        restored = restorer.restore_luma(decoded, jpeg_coarseness(luma_table(quality)))
        gains[str(quality)] = {
            "psnr": [psnr_uint8(image, decoded), psnr_uint8(image, restored)],
            "ssim": [ssim_uint8(image, decoded), ssim_uint8(image, restored)],
        }
    return {"anchors": anchors, "restored": gains}


# --- tables ---


def mean_at(
    rows: Sequence[dict[str, Any]], quality: int, system: str, rival: str
) -> tuple[list[float], int] | None:
    """Mean PSNR, SSIM, and their differences to a rival's, over the pictures where both are known; their number."""
    known = []
    for row in rows:
        found = row["anchors"][str(quality)]["systems"]
        if found.get(system) is not None and found.get(rival) is not None:
            known.append([*found[system], *(a - b for a, b in zip(found[system], found[rival], strict=True))])
    return (np.mean(known, axis=0).tolist(), len(known)) if known else None


def crossover(rows: Sequence[dict[str, Any]], system: str, rival: str) -> str:
    """The mean rate at which the mean gain falls through 0, as text."""
    points = []
    for quality in ANCHORS:
        found = mean_at(rows, quality, system, rival)
        if found is not None and found[1] == len(rows):
            bpp = float(np.mean([row["anchors"][str(quality)]["bpp"] for row in rows]))
            points.append((bpp, found[0][2]))
    for (low, before), (high, after) in itertools.pairwise(points):
        if before >= 0.0 > after:
            share = before / (before - after)
            return f"{np.exp((1 - share) * np.log(low) + share * np.log(high)):.2f} bpp"
    if not points:
        return "unknown"
    return f"above {points[-1][0]:.2f} bpp" if points[-1][1] >= 0 else f"below {points[0][0]:.2f} bpp"


def text_of(content: dict[str, Any]) -> str:
    """The tables of what was measured."""
    lines: list[str] = []
    for name, rows in content["sets"].items():
        if not rows:
            continue
        lines.append(
            f"{name}, {len(rows)} pictures: PSNR in dB and SSIM at the bytes of plain JPEG, and gain"
        )
        for quality in (5, 10):
            bpp = np.mean([row["anchors"][str(quality)]["bpp"] for row in rows])
            lines.append(f"  at the bytes of JPEG QF {quality} ({bpp:.3f} bpp)")
            for by in content["systems"].values():
                for system in by:
                    found = mean_at(rows, quality, system, by[0])
                    if found is None:
                        lines.append(f"    {system:34}   no file of so few bytes")
                        continue
                    psnr, ssim, more, similar = found[0]
                    lines.append(
                        f"    {system:34} {psnr:6.2f}  {ssim:.4f}  {more:+5.2f} dB  {similar:+.4f}  n={found[1]}"
                    )
        lines.append("  gain in dB over the plain codec by rate")
        shown = [f"{np.mean([row['anchors'][str(q)]['bpp'] for row in rows]):6.2f}" for q in ANCHORS]
        lines.append(f"    {'bpp':34} " + " ".join(shown) + "  crossover")
        for by in content["systems"].values():
            for system in by[1:]:
                gains = [mean_at(rows, quality, system, by[0]) for quality in ANCHORS]
                cells = ["   -  " if gain is None else f"{gain[0][2]:+6.2f}" for gain in gains]
                lines.append(f"    {system:34} " + " ".join(cells) + f"  {crossover(rows, system, by[0])}")
        if not rows[0]["restored"]:
            continue
        lines.append("  RecCNN as a restorer of JPEG files: PSNR in dB, SSIM, gains, least gain")
        for quality in RESTORED:
            pairs = np.array([row["restored"][str(quality)]["psnr"] for row in rows])
            similar = np.array([row["restored"][str(quality)]["ssim"] for row in rows])
            gain = pairs[:, 1] - pairs[:, 0]
            lines.append(
                f"    Q {quality}  {pairs[:, 0].mean():6.2f} -> {pairs[:, 1].mean():6.2f}  "
                f"{similar[:, 0].mean():.4f} -> {similar[:, 1].mean():.4f}  {gain.mean():+.2f} dB  "
                f"least {gain.min():+.2f}"
            )
    return "\n".join(lines) + "\n"


def save(content: dict[str, Any]) -> None:
    """Write what there is, if it is to be written."""
    if _OUTPUT.value:
        write_bytes(_OUTPUT.value, (json.dumps(content, indent=1) + "\n").encode(), force=True)
        write_bytes(Path(_OUTPUT.value).with_suffix(".txt"), text_of(content).encode(), force=True)


def grey_pictures(paths: Sequence[Path]) -> list[tuple[str, Callable[[], np.ndarray]]]:
    """Names, and what reads the luma."""

    def reader(path: Path) -> Callable[[], np.ndarray]:
        return lambda: np.asarray(Image.fromarray(read_image(path).pixels).convert("L"))

    return [(path.stem, reader(path)) for path in paths]


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    given = dict(entry.split("=", 1) for entry in _WEIGHTS.value)
    restorer = load_restorer(_RESTORER.value)
    codecs: dict[str, dict[str, ComCnnCodec]] = {}
    for name in _CODECS.value:
        system = "comcnn" if name == "jpeg" else f"comcnn-{name}"
        pairs = codecs.setdefault(name, {})
        if name == "jpeg" and _BICUBIC.value:
            pairs["bicubic + jpeg + RecCNN"] = ComCnnCodec(Path(_BICUBIC.value))
        codec = load(system, weights=given.get(name))
        if not isinstance(codec, ComCnnCodec):
            raise WrongWeights(f"{system} is not of this family")
        pairs[f"ComCNN + {name} + RecCNN"] = codec
    content: dict[str, Any] = {
        "systems": {
            name: [name, *(["jpeg + RecCNN"] if name == "jpeg" else []), *pairs]
            for name, pairs in codecs.items()
        },
        "sets": {"classics": [], "photos": []},
    }
    photos = sorted(path for path in Path(_PHOTOS.value).iterdir() if path.suffix in (".jpg", ".png"))
    places = np.linspace(0, len(photos) - 1, min(_COUNT.value, len(photos)))
    sets = {
        "classics": grey_pictures([Path(_CLASSICS.value, f"{name}.png") for name in CLASSICS]),
        "photos": grey_pictures([photos[round(float(place))] for place in places]),
    }
    for name, pictures in sets.items():
        for title, read in pictures:
            row = measure_picture(read(), codecs, restorer)
            content["sets"][name].append({"image": title, **row})
            save(content)
    print(text_of(content), end="")


if __name__ == "__main__":
    app.run(main)
