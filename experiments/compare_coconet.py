r"""Measure CocoNet beside classical filters: denoising, enlarging, filling holes; and its compact codec beside JPEG.

python -m experiments.compare_coconet --tuning_images=VALID --test_images=data/kodak --output=results/coconet.json

Every parameter, CocoNet's number of steps included, is chosen on the tuning pictures and measured on the test
pictures. Tables are written one by one, and those that the output holds are not measured again: `--tables` says which
are wanted. The text of all of them goes beside the JSON as .txt.

Pictures of n x n pixels are centres of photos of 128 x 128 pixels (64: of 256 x 256) averaged over blocks, for
enlarging the centre itself. Networks are fitted to all pictures of a table at once, with all pixels in every step.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from experiments.coconet_rivals import FILLERS, RESAMPLERS, denoisers, enlarge, shrink
from experiments.coconet_text import text_of
from jaxcodec.codecs.coconet import FitSettings, NetworkConfig, fit, load_coconet, render
from jaxcodec.codecs.registry import load
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.metrics.psnr import psnr_uint8

_TUNING = flags.DEFINE_string("tuning_images", None, "Photos to choose parameters on.", required=True)
_TEST = flags.DEFINE_string("test_images", "data/kodak", "Photos to report on.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file; continued where it exists.", required=True)
_TABLES = flags.DEFINE_list("tables", None, "Names of tables; by default all, see TABLES.")
_TUNING_COUNT = flags.DEFINE_integer("tuning_count", 8, "Tuning pictures.", lower_bound=1)
_TEST_COUNT = flags.DEFINE_integer("test_count", 16, "Test pictures.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 32, "Units of a layer, but for the tables of 10x100.", lower_bound=1)
_DEPTH = flags.DEFINE_integer("depth", 10, "Hidden layers.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "steps", 1500, "Steps of a fit; the best number up to it is chosen.", lower_bound=1
)
_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Adam's.")
_CODEC_COUNT = flags.DEFINE_integer("codec_count", 3, "Crops for the rate table.", lower_bound=1)
_CODEC_SIDE = flags.DEFINE_integer("codec_side", 256, "Their side.", lower_bound=1)

SIGMAS = (10, 20, 40)
SHARES = np.arange(0.6, 1.21, 0.02)
HOLE = (slice(12, 20), slice(12, 20))
SEGMENT = 50


def centres(folder: str, count: int, side: int, block: int) -> tuple[list[str], np.ndarray]:
    """Return names and uint8 `[n, side, side, 3]`: evenly spaced files' centres, averaged over blocks."""
    paths = list_images(folder)
    chosen = [paths[k * len(paths) // count] for k in range(min(count, len(paths)))]
    crops = []
    for path in chosen:
        pixels = read_image(path).pixels
        top, left = ((n - side * block) // 2 for n in pixels.shape[:2])
        crop = np.ascontiguousarray(pixels[top : top + side * block, left : left + side * block])
        crops.append(shrink(crop, block) if block > 1 else crop)
    return [path.name for path in chosen], np.stack(crops)


class Pictures:
    """Tuning pictures, then test pictures."""

    def __init__(self, side: int, block: int) -> None:
        tuning_names, tuning = centres(_TUNING.value, _TUNING_COUNT.value, side, block)
        self.names, test = centres(_TEST.value, _TEST_COUNT.value, side, block)
        self.all, self.tuning = np.concatenate([tuning, test]), len(tuning)
        self.about = {"tuning": tuning_names, "test": self.names, "side": side}

    def tuned(self, values: np.ndarray) -> np.ndarray:
        """Of an array whose last axis are the pictures, the tuning ones."""
        return values[..., : self.tuning]

    def tested(self, values: np.ndarray) -> np.ndarray:
        """The test ones."""
        return values[..., self.tuning :]


def fit_curve(
    pictures: np.ndarray,
    config: NetworkConfig,
    evaluate: Callable[[int, Any], Mapping[str, float]],
    *,
    known: np.ndarray | None = None,
) -> dict[str, Any]:
    """Fit to all pictures; what `evaluate(picture's number, its parameters)` says after every segment.

    Returns `steps` `[S]`, `[S, n]` for each name, and `seconds`, those of fitting (compiling left out).
    """
    steps: list[int] = []
    rows: list[list[Mapping[str, float]]] = []
    seconds: list[float] = []
    settings = FitSettings(steps=_STEPS.value, learning_rate=_RATE.value, segment=SEGMENT)
    last = time.process_time()

    def watch(done: int, params: Any) -> bool:
        nonlocal last
        seconds.append(time.process_time() - last)
        each = [jax.tree.map(lambda leaf, k=k: leaf[k], params) for k in range(len(pictures))]
        rows.append([evaluate(k, one) for k, one in enumerate(each)])
        steps.append(done)
        logging.info("%d steps, %.0f s", done, sum(seconds))
        last = time.process_time()
        return False

    fit(pictures, config, settings, known=known, watch=watch)
    names = rows[0][0]
    curves = {name: np.array([[cell[name] for cell in row] for row in rows]) for name in names}
    per_step = float(np.median(seconds)) / SEGMENT / len(pictures)
    return {"steps": np.array(steps), "seconds_per_step_and_picture": per_step, **curves}


def network(faithful: bool) -> NetworkConfig:
    return NetworkConfig() if faithful else NetworkConfig(width=_WIDTH.value, depth=_DEPTH.value)


def described(config: NetworkConfig, curve: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader has to know of a fit."""
    return {
        "network": f"{config.depth}x{config.width} {config.activation}, inputs {config.inputs}",
        "weights": config.parameter_count,
        "steps": int(curve["steps"][-1]),
        "learning_rate": _RATE.value,
        "cpu_ms_per_step_and_picture": 1e3 * curve["seconds_per_step_and_picture"],
        "machine": f"{os.cpu_count()} CPUs ({platform.machine()}), shared",
    }


def denoise_table(sigma: int, *, side: int, faithful: bool = False) -> dict[str, Any]:
    """CocoNet's two stopping rules, the best stop of each picture, and filters, in PSNR to the clean picture."""
    pictures = Pictures(side, 128 // 32 if side == 32 else 256 // 64)
    clean, config = pictures.all, network(faithful)
    rng = np.random.default_rng([2018, sigma, side])
    noisy = np.clip(np.rint(clean + rng.normal(0, sigma, clean.shape)), 0, 255).astype(np.uint8)

    def evaluate(k: int, params: Any) -> dict[str, float]:
        held = render(params, side, side, config)
        return {"clean": psnr_uint8(clean[k], held), "noisy": psnr_uint8(noisy[k], held)}

    curve = fit_curve(noisy, config, evaluate)
    best = int(pictures.tuned(curve["clean"]).mean(axis=1).argmax())
    left = 255.0 * 10 ** (-curve["noisy"] / 20) / sigma  # root mean square, as a share of the noise's

    def stopped(share: float) -> np.ndarray:
        """Where each picture's fit ends: the first segment that leaves at most this, or the last."""
        below = left <= share
        where = np.where(below.any(axis=0), below.argmax(axis=0), len(below) - 1)
        return curve["clean"][where, np.arange(len(clean))]

    share = max(SHARES, key=lambda share: pictures.tuned(stopped(share)).mean())
    methods: dict[str, Any] = {
        "CocoNet, steps": (curve["clean"][best], {"steps": int(curve["steps"][best])}),
        "CocoNet, share": (stopped(share), {"share": float(share)}),
        "CocoNet, clean known": (curve["clean"].max(axis=0), {}),
        "CocoNet, to the end": (curve["clean"][-1], {}),
        "noisy": (np.array([psnr_uint8(a, b) for a, b in zip(clean, noisy, strict=True)]), {}),
    }
    for name, grid in denoisers(sigma).items():
        methods[name] = _tuned_filter(grid, clean, noisy, pictures)
    curve_means = {
        name: pictures.tested(curve[name]).mean(axis=1).round(3).tolist() for name in ("clean", "noisy")
    }
    return {
        "kind": "denoise",
        "sigma": sigma,
        **pictures.about,
        **described(config, curve),
        "curve": {"steps": curve["steps"].tolist(), **curve_means},
        "methods": _rows(methods, pictures),
        "ours": "CocoNet, steps",
    }


def _tuned_filter(
    grid: Sequence[tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]],
    clean: np.ndarray,
    noisy: np.ndarray,
    pictures: Pictures,
) -> tuple[np.ndarray, dict[str, Any]]:
    """PSNR of all pictures with the parameters that are best on the tuning ones."""

    def psnrs(function: Callable[[np.ndarray], np.ndarray], some: slice) -> np.ndarray:
        return np.array([psnr_uint8(a, function(b)) for a, b in zip(clean[some], noisy[some], strict=True)])

    tuning = slice(0, pictures.tuning)
    parameters, function = max(grid, key=lambda row: psnrs(row[1], tuning).mean())
    return psnrs(function, slice(None)), parameters


def _rows(methods: Mapping[str, tuple[np.ndarray, dict[str, Any]]], pictures: Pictures) -> dict[str, Any]:
    return {
        name: {
            "psnr": pictures.tested(values).round(3).tolist(),
            "tuning_psnr": round(float(pictures.tuned(values).mean()), 3),
            "parameters": parameters,
        }
        for name, (values, parameters) in methods.items()
    }


def upsample_table() -> dict[str, Any]:
    """Centres of 128 x 128 pixels, averaged to 32 x 32: enlarged twice and four times, both grids, beside Pillow."""
    pictures, config = Pictures(128, 1), network(faithful=False)
    low = np.stack([shrink(picture, 4) for picture in pictures.all])
    truth = {2: np.stack([shrink(picture, 2) for picture in pictures.all]), 4: pictures.all}

    def evaluate(k: int, params: Any) -> dict[str, float]:
        found = {"fit": psnr_uint8(low[k], render(params, 32, 32, config))}
        for factor, high in truth.items():
            for aligned, name in ((True, "aligned"), (False, "original")):
                held = render(params, 32, 32, config, factor=factor, aligned=aligned)
                found[f"x{factor} {name}"] = psnr_uint8(high[k], held)
        return found

    curve = fit_curve(low, config, evaluate)
    methods: dict[str, Any] = {}
    for factor, high in truth.items():
        best = int(pictures.tuned(curve[f"x{factor} aligned"]).mean(axis=1).argmax())
        steps = {"steps": int(curve["steps"][best])}
        methods[f"x{factor} CocoNet"] = curve[f"x{factor} aligned"][best], steps
        methods[f"x{factor} CocoNet, original grid"] = curve[f"x{factor} original"][best], steps
        for rival in RESAMPLERS:
            enlarged = [enlarge(picture, factor, rival) for picture in low]
            psnrs = [psnr_uint8(a, b) for a, b in zip(high, enlarged, strict=True)]
            methods[f"x{factor} {rival}"] = np.array(psnrs), {}
    return {
        "kind": "upsample",
        **pictures.about,
        **described(config, curve),
        "fit_psnr_at_the_end": round(float(pictures.tested(curve["fit"])[-1].mean()), 3),
        "methods": _rows(methods, pictures),
    }


def complete_table() -> dict[str, Any]:
    """A hole of 8 x 8 in the middle of 32 x 32 pixels: PSNR within the hole."""
    pictures, config = Pictures(32, 4), network(faithful=False)
    hole = np.zeros((32, 32), bool)
    hole[HOLE] = True

    def evaluate(k: int, params: Any) -> dict[str, float]:
        held = render(params, 32, 32, config)
        return {"hole": psnr_uint8(pictures.all[k][HOLE], held[HOLE])}

    known = np.broadcast_to(~hole, (len(pictures.all), 32, 32))
    curve = fit_curve(pictures.all, config, evaluate, known=known)
    best = int(pictures.tuned(curve["hole"]).mean(axis=1).argmax())
    methods: dict[str, Any] = {"CocoNet": (curve["hole"][best], {"steps": int(curve["steps"][best])})}
    methods["CocoNet, to the end"] = curve["hole"][-1], {}
    for name, filler in FILLERS.items():
        psnrs = [psnr_uint8(picture[HOLE], filler(picture, hole)[HOLE]) for picture in pictures.all]
        methods[name] = np.array(psnrs), {}
    return {
        "kind": "complete",
        **pictures.about,
        **described(config, curve),
        "methods": _rows(methods, pictures),
        "ours": "CocoNet",
    }


def rate_table() -> dict[str, Any]:
    """Files of the codec at its ladder, beside the largest JPEG of at most their bytes; decoded files."""
    side = _CODEC_SIDE.value
    names, crops = centres(_TEST.value, _CODEC_COUNT.value, side, 1)
    codec, jpeg = load_coconet(), load("jpeg")
    rows = []
    for name, crop in zip(names, crops, strict=True):
        files = [jpeg.encode(crop, quality=quality) for quality in jpeg.qualities]
        for quality in codec.ladder:
            start = time.process_time()
            data = codec.encode(crop, quality=quality)
            seconds = time.process_time() - start
            fitting = [file for file in files if len(file) <= len(data)]
            rows.append(
                {
                    "image": name,
                    "quality": quality,
                    "bytes": len(data),
                    "bpp": 8 * len(data) / side**2,
                    "psnr": psnr_uint8(crop, codec.decode(data)),
                    "cpu_seconds": seconds,
                    "jpeg_bytes": len(max(fitting, key=len)) if fitting else None,
                    "jpeg_psnr": psnr_uint8(crop, jpeg.decode(max(fitting, key=len))) if fitting else None,
                    "smallest_jpeg_bytes": len(files[0]),
                }
            )
            logging.info("%s", rows[-1])
    return {"kind": "rate", "side": side, "rows": rows}


TABLES: Mapping[str, Callable[[], dict[str, Any]]] = {
    **{f"denoise32_{sigma}": lambda sigma=sigma: denoise_table(sigma, side=32) for sigma in SIGMAS},
    "upsample": upsample_table,
    "complete": complete_table,
    "rate": rate_table,
    **{
        f"denoise32_{sigma}_10x100": lambda sigma=sigma: denoise_table(sigma, side=32, faithful=True)
        for sigma in (20, 40, 10)
    },
    **{f"denoise64_{sigma}": lambda sigma=sigma: denoise_table(sigma, side=64) for sigma in (20, 40, 10)},
}


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    unknown = set(_TABLES.value or ()) - set(TABLES)
    if unknown:
        raise app.UsageError(f"no table {sorted(unknown)}; there are {', '.join(TABLES)}")
    output = Path(_OUTPUT.value)
    done = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    for name in _TABLES.value or TABLES:
        if name in done:
            continue
        logging.info("table %s", name)
        done[name] = TABLES[name]()
        write_bytes(output, (json.dumps(done, indent=1) + "\n").encode(), force=True)
        write_bytes(output.with_suffix(".txt"), text_of(done).encode(), force=True)
    print(text_of(done), end="")


if __name__ == "__main__":
    app.run(main)
