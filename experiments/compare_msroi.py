r"""Measure MS-ROI: its maps against eye fixations, and its files against plain JPEG at equal bytes.

python -m experiments.compare_msroi --saliency=SALIENCY --kodak=data/kodak --caltech=CALTECH101 \
    --classifier=weights/efficientnet_lite0-83935164.safetensors --output=results/msroi.json

Test A, maps: AUC-Judd, NSS and CC against the fixations of several people, with and without everybody's first; rivals
are one class activation map, the MS-ROI mixture on the plain ImageNet classifier, a Gaussian around the middle,
spectral residual saliency, noise, and half of the people as a ceiling. Then two or three Caltech photos side by side:
how many of them have a salient place each.

Test B, files: no larger than plain JPEG (4:2:0, optimised tables) at quality 30, 50 and 70. Every figure is the
difference to plain JPEG at the same bytes, interpolated over its qualities in the logarithm of the size: PSNR weighted
by the density of fixations (on Kodak: PSNR of the fifth of the picture that is highest in the network's map), and
whole-picture PSNR, SSIM, MS-SSIM and PSNR-HVS-M. Controls steer by a random map, the inverted map, the centre prior and
the fixations themselves. "is ref" counts the files for which nothing better than plain JPEG was found. Pictures of
either set are spread evenly over it; the saliency photos were JPEGs once, so the two sets have a table each.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

from experiments.saliency_maps import (
    Classifier,
    gaussian_blur,
    noise_map,
    spectral_residual,
)
from experiments.saliency_scores import MapScores, object_recall, score_map
from jaxcodec.codecs import classical
from jaxcodec.codecs.msroi import MsRoiCodec, MsRoiOptions, load_msroi
from jaxcodec.codecs.msroi.codec import centre_prior
from jaxcodec.codecs.msroi.jpeg import plain_jpeg, resize_map
from jaxcodec.codecs.msroi.model import combine
from jaxcodec.data.files import write_bytes
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.psnr_hvs import psnr_hvs_m
from jaxcodec.metrics.ssim import ms_ssim_uint8, ssim_uint8

_SALIENCY = flags.DEFINE_string(
    "saliency", None, "Folder with images/, density/ and fixations.csv.", required=True
)
_KODAK = flags.DEFINE_string("kodak", "data/kodak", "Folder of the Kodak pictures.")
_CALTECH = flags.DEFINE_string("caltech", None, "Folder of Caltech-101, a folder per class; for test A.")
_CLASSIFIER = flags.DEFINE_string(
    "classifier", None, "What scripts/convert_efficientnet.py wrote; for test A."
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Weight file of msroi; the zoo's if not given.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write; the tables go beside it.")
_MAPS = flags.DEFINE_integer("maps", 120, "Photos of test A.", lower_bound=1)
_TILED = flags.DEFINE_integer("tiled", 60, "Tiled pictures of test A.", lower_bound=1)
_PHOTOS = flags.DEFINE_integer("photos", 30, "Saliency photos of test B.", lower_bound=0)
_PICTURES = flags.DEFINE_integer("pictures", 6, "Kodak pictures of test B.", lower_bound=0)
_QUALITIES = flags.DEFINE_list("qualities", ["30", "50", "70"], "Of the references.")
_BACKGROUND = flags.DEFINE_float("background", None, "In place of the codec's.")
_SKIP_A = flags.DEFINE_boolean(
    "skip_maps", False, "Keep test A as the output file has it, and measure files only."
)
_SKIP_METRICS = flags.DEFINE_boolean("psnr_only", False, "Leave out SSIM, MS-SSIM and PSNR-HVS-M.")

MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "psnr": psnr_uint8,
    "ssim": ssim_uint8,
    "ms-ssim": ms_ssim_uint8,
    "psnr-hvs-m": psnr_hvs_m,
}


COMPOSITE_MAPS = ("network and centre", "oracle")


@dataclass(frozen=True)
class Photo:
    """A saliency photo: pixels, the density of fixations, and (subject, index, x, y) of each fixation."""

    name: str
    pixels: np.ndarray
    density: np.ndarray
    fixations: np.ndarray


def read_photos(folder: Path, count: int) -> list[Photo]:
    """Return `count` photos, evenly spread over the folder."""
    if not count:
        return []
    rows: dict[str, list[list[float]]] = {}
    with (folder / "fixations.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = [float(row[key]) for key in ("subject", "index", "x", "y")]
            rows.setdefault(row["file"], []).append(values)
    photos = []
    for name in spread(sorted(rows), count):
        pixels = np.asarray(Image.open(folder / "images" / name).convert("RGB"))
        density = np.asarray(Image.open(folder / "density" / Path(name).with_suffix(".png")).convert("L"))
        photos.append(Photo(name, pixels, density.astype(np.float64), np.array(rows[name])))
    return photos


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return up to `count` of the items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(float(place))] for place in places]


# --- test A ---


def maps_of(photo: Photo, codec: MsRoiCodec, classifier: Classifier, number: int) -> dict[str, np.ndarray]:
    """Return the maps to be scored, `[H, W]` each, by name."""
    height, width = photo.pixels.shape[:2]
    classes = codec.class_maps(photo.pixels)
    clutter = codec.config.clutter
    imagenet = classifier.class_maps(photo.pixels)
    rows, columns = classes.shape[:2]
    maps = {
        "trained head, mixture": combine(classes, clutter=clutter),
        "trained head, threshold": combine(classes, rule="threshold", clutter=clutter),
        "trained head, softmax": combine(classes, rule="softmax", clutter=clutter),
        "trained head, argmax": combine(classes, rule="argmax", clutter=clutter),
        "classifier, mixture": combine(imagenet),
        "classifier, argmax (CAM)": combine(imagenet, rule="argmax"),
        "spectral residual": spectral_residual(photo.pixels),
        "centre": centre_prior(rows, columns),
        "random": noise_map(rows, columns, seed=number),
        "trained head, mixture, and centre": codec.saliency(photo.pixels),
    }
    return {name: resize_map(values, height, width) for name, values in maps.items()}


def measure_maps(photos: Sequence[Photo], codec: MsRoiCodec, classifier: Classifier) -> dict[str, Any]:
    """Return mean scores by map, over all fixations and without everybody's first."""
    scores: dict[str, dict[str, list[MapScores]]] = {"all": {}, "without first": {}}
    for number, photo in enumerate(photos):
        maps = maps_of(photo, codec, classifier, number)
        subjects = np.unique(photo.fixations[:, 0])
        half = np.isin(photo.fixations[:, 0], subjects[::2])
        for which, rows in scores.items():
            kept = (photo.fixations[:, 1] > 1) | (which == "all")
            size, seen = photo.pixels.shape[:2], photo.fixations[kept, 2:]
            density = gaussian_blur(size, seen)
            for name, values in maps.items():
                rows.setdefault(name, []).append(score_map(values, seen, density))
            # The ceiling: what one half looked at, blurred, against the other half.
            seeing = gaussian_blur(size, photo.fixations[half & kept, 2:])
            others = photo.fixations[~half & kept, 2:]
            score = score_map(seeing, others, gaussian_blur(size, others))
            rows.setdefault("half of the observers", []).append(score)
    return {
        which: {
            name: {
                "auc-judd": float(np.mean([score.auc for score in listed])),
                "nss": float(np.mean([score.nss for score in listed])),
                "cc": float(np.mean([score.cc for score in listed])),
            }
            for name, listed in rows.items()
        }
        for which, rows in scores.items()
    }


def measure_objects(
    folder: Path, codec: MsRoiCodec, classifier: Classifier, count: int, side: int = 160
) -> dict[str, Any]:
    """Return the share of objects found in pictures that are tiled from two or three photos of other classes."""
    classes = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("BACKGROUND")
    )
    rng = np.random.default_rng(0)
    found: dict[str, dict[int, list[float]]] = {}
    for number in range(count):
        pieces, tiles = 2 + number % 2, []
        for chosen in rng.choice(len(classes), pieces, replace=False):
            with Image.open(sorted(classes[chosen].glob("*.jpg"))[-1 - number % 3]) as file:
                photo = file.convert("RGB")
            size = min(photo.size)
            left, top = (photo.width - size) // 2, (photo.height - size) // 2
            box = (left, top, left + size, top + size)
            tiles.append(np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, box=box)))
        picture = np.concatenate(tiles, axis=1)
        trained, imagenet, clutter = (
            codec.class_maps(picture),
            classifier.class_maps(picture),
            codec.config.clutter,
        )
        maps = {
            "trained head, mixture": combine(trained, clutter=clutter),
            "trained head, argmax": combine(trained, rule="argmax", clutter=clutter),
            "classifier, mixture": combine(imagenet),
            "classifier, argmax (CAM)": combine(imagenet, rule="argmax"),
        }
        for name, values in maps.items():
            recall = object_recall(resize_map(values, side, side * pieces), pieces)
            found.setdefault(name, {}).setdefault(pieces, []).append(recall)
    return {name: {str(k): float(np.mean(v)) for k, v in by.items()} for name, by in found.items()}


# --- test B ---


def weighted_psnr(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    """Return the PSNR of two uint8 pictures, errors weighted by `[H, W]`, in dB."""
    squares = ((a.astype(np.float64) - b) ** 2).reshape(*a.shape[:2], -1).mean(-1)
    return float(10.0 * np.log10(255.0**2 * weights.sum() / np.sum(squares * weights)))


class PlainCurve:
    """Plain JPEG of one picture at any quality, measured when asked for."""

    def __init__(self, image: np.ndarray, weights: np.ndarray) -> None:
        self._image, self._weights = image, weights
        self._files: dict[int, bytes] = {}
        self._measured: dict[int, dict[str, float]] = {}

    def file(self, quality: int) -> bytes:
        """The file of a quality."""
        if quality not in self._files:
            self._files[quality] = plain_jpeg(self._image, quality, "4:2:0")
        return self._files[quality]

    def measured(self, quality: int) -> dict[str, float]:
        """The figures of a quality."""
        if quality not in self._measured:
            decoded = classical.jpeg().decode(self.file(quality))
            self._measured[quality] = measure(self._image, decoded, self._weights)
        return self._measured[quality]

    def at_bytes(self, size: int, near: int) -> dict[str, float]:
        """Figures at `size` bytes, between the two qualities around it, linear in the logarithm of the size."""
        above = near
        while above < 100 and len(self.file(above)) < size:
            above += 1
        below = above
        while below > 1 and len(self.file(below)) > size:
            below -= 1
        sizes = [len(self.file(below)), len(self.file(above))]
        if sizes[0] == sizes[1]:
            return self.measured(above)
        share = (np.log(size) - np.log(sizes[0])) / (np.log(sizes[1]) - np.log(sizes[0]))
        low, high = self.measured(below), self.measured(above)
        return {name: float((1 - share) * low[name] + share * high[name]) for name in low}


def measure(image: np.ndarray, decoded: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return all figures of a decoded picture."""
    found = {"weighted psnr": weighted_psnr(image, decoded, weights)}
    for name, function in MEASURES.items():
        if name == "psnr" or not _SKIP_METRICS.value:
            found[name] = function(image, decoded)
    return found


def steering_maps(
    image: np.ndarray, codec: MsRoiCodec, *, seed: int, oracle: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return the codec's own map, that of the network alone, and the controls."""
    saliency = codec.saliency(image, options=MsRoiOptions(centre=0.0))
    rows, columns = saliency.shape
    maps = {
        "network and centre": codec.saliency(image),
        "network": saliency,
        "random": noise_map(rows, columns, seed=seed),
        "inverted": 1.0 - saliency,
        "centre": centre_prior(rows, columns),
    }
    if oracle is not None:
        maps["oracle"] = np.clip(resize_map(oracle / oracle.max(), rows, columns), 0.0, 1.0)
    return maps


def measure_picture(
    image: np.ndarray,
    weights: np.ndarray,
    maps: dict[str, np.ndarray],
    codec: MsRoiCodec,
    qualities: Sequence[int],
) -> list[dict[str, Any]]:
    """Return a row per quality, mode and map: differences to plain JPEG at the bytes of the file."""
    curve, rows = PlainCurve(image, weights), []
    background = _BACKGROUND.value or MsRoiOptions().background
    for quality in qualities:
        limit = len(curve.file(quality))
        for mode in ("coefficients", "composite"):
            for name, values in maps.items():
                if mode == "composite" and name not in COMPOSITE_MAPS:
                    continue
                options = MsRoiOptions(mask=values, mode=mode, background=background)
                result = codec.encode_details(image, quality=quality, options=options)
                assert len(result.data) <= limit
                found = measure(image, codec.decode(result.data), weights)
                plain = curve.at_bytes(len(result.data), quality)
                rows.append(
                    {
                        "quality": quality,
                        "mode": mode,
                        "map": name,
                        "bytes": len(result.data),
                        "reference_bytes": limit,
                        "table_quality": result.quality,
                        "is_reference": result.is_reference,
                        "gain": {key: found[key] - plain[key] for key in found},
                    }
                )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return mean gains by quality, mode and map as aligned text."""
    measures = list(rows[0]["gain"])
    lines = [["Q", "mode", "map", "bytes/ref", "is ref", *measures, "worst weighted"]]
    groups = dict.fromkeys((row["quality"], row["mode"], row["map"]) for row in rows)
    for group in groups:
        mine = [row for row in rows if (row["quality"], row["mode"], row["map"]) == group]
        means = [float(np.mean([row["gain"][name] for row in mine])) for name in measures]
        ratio = float(np.mean([row["bytes"] / row["reference_bytes"] for row in mine]))
        same = sum(row["is_reference"] for row in mine)
        worst = min(row["gain"]["weighted psnr"] for row in mine)
        shown = [f"{m:+.4f}" if "ssim" in n else f"{m:+.2f}" for n, m in zip(measures, means, strict=True)]
        lines.append([*map(str, group), f"{ratio:.4f}", f"{same}/{len(mine)}", *shown, f"{worst:+.2f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def text_of(content: dict[str, Any]) -> str:
    """Return the tables of what was measured."""
    lines: list[str] = []
    if "maps" in content:
        scores = content["maps"]["scores"]
        lines.append(
            f"Maps against fixations, {content['maps']['photos']} photos: AUC-Judd, NSS, CC; then the same"
        )
        lines.append("without everybody's first fixation")
        for name in scores["all"]:
            cells = [
                f"{scores[which][name][key]:.3f}" for which in scores for key in ("auc-judd", "nss", "cc")
            ]
            lines.append(f"  {name:34}" + "  ".join(f"{cell:>6}" for cell in cells))
        lines.append(f"Objects found, of {content['tiled']} tiled pictures: of two photos, of three")
        for name, by in content["objects"].items():
            lines.append(f"  {name:34}" + "  ".join(f"{value:6.3f}" for _, value in sorted(by.items())))
    for name, rows in content.get("files", {}).items():
        if rows:
            count = len({row["image"] for row in rows})
            weighting = "density of fixations" if name != "kodak" else "the top fifth of the network's map"
            lines.append(
                f"{name}, {count} pictures: gain over plain JPEG at equal bytes; weighted by {weighting}"
            )
            lines.append(table(rows))
    return "\n".join(lines) + "\n"


def save(content: dict[str, Any]) -> None:
    """Write what there is, if it is to be written."""
    if _OUTPUT.value:
        write_bytes(_OUTPUT.value, (json.dumps(content, indent=1) + "\n").encode(), force=True)
        write_bytes(Path(_OUTPUT.value).with_suffix(".txt"), text_of(content).encode(), force=True)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    codec = load_msroi(_WEIGHTS.value)
    qualities = [int(quality) for quality in _QUALITIES.value]
    content: dict[str, Any] = {}
    if _SKIP_A.value and _OUTPUT.value and Path(_OUTPUT.value).exists():
        content = json.loads(Path(_OUTPUT.value).read_text(encoding="utf-8"))
    content |= {"qualities": qualities, "background": _BACKGROUND.value or MsRoiOptions().background}
    if not _SKIP_A.value:
        if _CALTECH.value is None or _CLASSIFIER.value is None:
            raise app.UsageError("test A needs --caltech and --classifier; give them, or --skip_maps")
        classifier = Classifier(_CLASSIFIER.value)
        photos = read_photos(Path(_SALIENCY.value), _MAPS.value)
        content["maps"] = {"photos": len(photos), "scores": measure_maps(photos, codec, classifier)}
        content["objects"] = measure_objects(Path(_CALTECH.value), codec, classifier, _TILED.value)
        content["tiled"] = _TILED.value
        save(content)
    sets: dict[str, list[dict[str, Any]]] = {"saliency photos": [], "kodak": []}
    content["files"] = sets
    for number, photo in enumerate(read_photos(Path(_SALIENCY.value), _PHOTOS.value)):
        maps = steering_maps(photo.pixels, codec, seed=number, oracle=photo.density)
        for row in measure_picture(photo.pixels, photo.density, maps, codec, qualities):
            sets["saliency photos"].append({"image": photo.name, **row})
        save(content)
    paths = spread(sorted(Path(_KODAK.value).glob("*.png")), _PICTURES.value) if _PICTURES.value else []
    for number, path in enumerate(paths):
        image = np.asarray(Image.open(path).convert("RGB"))
        maps = steering_maps(image, codec, seed=number, oracle=None)
        enlarged = resize_map(maps["network"], *image.shape[:2])
        weights = (enlarged >= np.quantile(enlarged, 0.8)).astype(np.float64)
        for row in measure_picture(image, weights, maps, codec, qualities):
            sets["kodak"].append({"image": path.name, **row})
        save(content)
    print(text_of(content), end="")


if __name__ == "__main__":
    app.run(main)
