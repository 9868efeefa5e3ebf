r"""Train ComCNN and RecCNN (Jiang et al., 2017) around a standard codec, in turns; or RecCNN alone as a restorer.

python -m experiments.comcnn --train_data=PHOTOS --workdir=runs/comcnn --codec=jpeg --max_seconds=1800
python -m experiments.comcnn --train_data=PHOTOS --workdir=runs/restorer --restorer --max_seconds=900
python scripts/export_weights.py --workdir=runs/comcnn/2_reccnn

PHOTOS is a folder or a glob of lossless photos; their luma is used, at each of `--scales`. `--stages` lists what is
trained and for which share of `--max_seconds` or `--steps`. Before each turn of RecCNN all photos are reduced by
ComCNN as it is, and coded by the real codec at qualities drawn between `--lowest` and `--inner_quality`. ComCNN learns
through one of three surrogates of the codec (`--surrogate`; jaxcodec/codecs/comcnn/surrogate.py). Each turn has a
folder of its own in the workdir: rerunning the command resumes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from experiments import training_flags
from experiments.comcnn_tasks import (
    PairTask,
    TrainComCnn,
    TrainRecCnn,
    coded_pictures,
    luma_pictures,
    networks_of,
    random_qualities,
    training_picture,
)
from jaxcodec.codecs.comcnn.inner import inner_codec
from jaxcodec.codecs.comcnn.model import ComCnnConfig
from jaxcodec.codecs.comcnn.surrogate import SURROGATES
from jaxcodec.data.crops import random_crops, store_photos
from jaxcodec.data.stream import read_all
from jaxcodec.errors import BadOption
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.training.loop import train
from jaxcodec.training.source import ResidentSource
from jaxcodec.zoo.weights import load_weights

_CODEC = flags.DEFINE_enum("codec", "jpeg", ["jpeg", "jpeg2000", "hevc"], "The standard codec in the middle.")
_RESTORER = flags.DEFINE_bool("restorer", False, "Train RecCNN alone, on full-size pictures of the codec.")
_LOWEST = flags.DEFINE_integer(
    "lowest", 5, "The lowest quality of the codec.", lower_bound=1, upper_bound=100
)
_INNER_QUALITY = flags.DEFINE_integer(
    "inner_quality", 90, "The highest quality of the codec.", lower_bound=1, upper_bound=100
)
_STAGES = flags.DEFINE_list(
    "stages", ["reccnn:2", "comcnn:1", "reccnn:1"], "What is trained in turns, with shares of the run."
)
_SURROGATE = flags.DEFINE_enum("surrogate", "ste_codec", list(SURROGATES), "The gradient of ComCNN.")
_RATE_WEIGHT = flags.DEFINE_float("rate_weight", 0.1, "Price of a bit in squared steps; 0 as in the paper.")
_STEP_POWER = flags.DEFINE_float("step_power", 0.5, "Examples weigh (32 / quantisation step)^this.")
_SCALES = flags.DEFINE_list("scales", ["1", "0.7", "0.45"], "Sizes at which each photo is used.")
_LAYERS = flags.DEFINE_integer("layers", 10, "Of RecCNN; 20 in the paper.", lower_bound=4)
_CHANNELS = flags.DEFINE_integer("channels", 48, "Of RecCNN; 64 in the paper.", lower_bound=1)
_STRIDE = flags.DEFINE_integer("stride", 2, "Pixels a side that RecCNN takes together; 1 in the paper.")
_SKIPS = flags.DEFINE_bool("skips", True, "Add each pair of RecCNN's layers to its input.")
_COMPACT_CHANNELS = flags.DEFINE_integer("compact_channels", 32, "Of ComCNN; 64 in the paper.", lower_bound=1)
_COMCNN_RATE = flags.DEFINE_float("comcnn_rate", 3e-4, "Peak learning rate of ComCNN.")
_INIT_WEIGHTS = flags.DEFINE_string(
    "init_weights",
    None,
    "Weight file to start from, of the same layers; may be a restorer's, or another codec's.",
)


def stages_of(listed: list[str]) -> list[tuple[str, float]]:
    """`["reccnn:2", "comcnn:1"]` to names with their parts of the whole."""
    stages = []
    for entry in listed:
        name, _, share = entry.partition(":")
        try:
            stages.append((name, float(share or 1.0)))
        except ValueError as error:
            raise BadOption(f"--stages: {entry!r} is not NAME:SHARE") from error
        if name not in ("reccnn", "comcnn") or stages[-1][1] <= 0:
            raise BadOption(f"--stages: {entry!r} is neither reccnn nor comcnn with a share above 0")
    whole = sum(share for _, share in stages)
    return [(name, share / whole) for name, share in stages]


def initial_params(task: PairTask) -> Any:
    """Fresh parameters, with those networks of `--init_weights` that fit."""
    params = task.init(jax.random.key(training_flags.SEED.value))
    if _INIT_WEIGHTS.value is None:
        return params
    weights = load_weights(_INIT_WEIGHTS.value)
    started = {name: weights.params.get(name, fresh) for name, fresh in params.items()}
    if weights.config.get("scaled") != task.config.scaled:  # then the last layer's units are others
        last = f"convolution_{task.config.layers - 1}"
        started["reccnn"] = {**started["reccnn"], last: params["reccnn"][last]}
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (started, params)]
    if shapes[0] != shapes[1]:
        raise BadOption(f"{_INIT_WEIGHTS.value} holds networks of other sizes than the flags ask for")
    return started


def _source(task: PairTask, stage: str, params: Any, number: int, lumas: list[np.ndarray]) -> ResidentSource:
    config, codec = task.config, inner_codec(task.config.inner)
    if stage == "comcnn":
        pictures = [training_picture(luma, luma, 0) for luma in lumas]
    else:
        networks = None if task.restorer else networks_of(config, params)
        qualities = random_qualities(config, len(lumas), seed=training_flags.SEED.value + number)
        pictures = list(coded_pictures(lumas, qualities, codec=codec, networks=networks))
    crop, batch = training_flags.CROP_SIZE.value, training_flags.BATCH_SIZE.value

    def draw(store: Any, *, key: jax.Array) -> jax.Array:
        flip = training_flags.FLIP.value
        # Pairs of pixels as the codec will see them, which stand for one of the small picture.
        return random_crops(store, key=key, batch_size=batch, crop_size=crop, flip=flip, grid=2)

    return ResidentSource(store_photos(pictures, crop_size=crop), draw, batch)


def _train() -> None:
    crop = training_flags.CROP_SIZE.value
    if crop % 16:
        raise BadOption(
            f"--crop_size={crop} is not a multiple of 16, as the codec's blocks at half size need"
        )
    try:
        config = ComCnnConfig(
            inner=_CODEC.value,
            lowest=_LOWEST.value,
            highest=_INNER_QUALITY.value,
            compact_channels=_COMPACT_CHANNELS.value,
            layers=_LAYERS.value,
            channels=_CHANNELS.value,
            stride=_STRIDE.value,
            skips=_SKIPS.value,
            scaled=_RESTORER.value,
        )
        scales = [float(scale) for scale in _SCALES.value]
    except ValueError as error:
        raise BadOption(f"--layers, --inner_quality, --scales: {error}") from error
    stages = [("reccnn", 1.0)] if _RESTORER.value else stages_of(_STAGES.value)
    if (
        config.inner != "jpeg"
        and int(training_flags.BATCH_SIZE.value**0.5) ** 2 != training_flags.BATCH_SIZE.value
    ):
        raise BadOption(f"--codec={config.inner}: the batch is coded as one picture; make it a square number")
    shared: dict[str, Any] = {
        "config": config,
        "dtype": jnp.dtype(training_flags.DTYPE.value),
        "step_power": _STEP_POWER.value,
        "restorer": _RESTORER.value,
    }
    surrogate = next(known for known in SURROGATES if known == _SURROGATE.value)
    tasks: dict[str, TrainRecCnn | TrainComCnn] = {
        "reccnn": TrainRecCnn(**shared),
        "comcnn": TrainComCnn(**shared, surrogate=surrogate, rate_weight=_RATE_WEIGHT.value),
    }
    params, loop = initial_params(tasks["reccnn"]), training_flags.loop_config(streaming=False)
    photos = read_all(str(training_flags.TRAIN_DATA.value))
    lumas = [luma for luma in luma_pictures(photos, scales) if min(luma.shape) >= crop]
    name = "comcnn" if config.inner == "jpeg" else f"comcnn-{config.inner}"
    description = {
        "codec": "reccnn" if _RESTORER.value else name,
        "network": config.to_dict(),
        "experiment": "experiments.comcnn",
        "flags": training_flags.resolved_flags(),
    }
    for number, (stage, share) in enumerate(stages):
        workdir = Path(str(training_flags.WORKDIR.value), f"{number}_{stage}")
        logging.info("stage %d: %s, %.0f %% of the run", number, stage, 100 * share)
        whole = loop.steps_per_call
        length = {
            "steps": None if loop.steps is None else max(whole, round(loop.steps * share / whole) * whole),
            "max_seconds": None if loop.max_seconds is None else loop.max_seconds * share,
        }
        schedule = loop.schedule
        if stage == "comcnn":
            schedule = dataclasses.replace(schedule, peak=_COMCNN_RATE.value)
        state = train(
            tasks[stage],
            _source(tasks[stage], stage, params, number, lumas),
            dataclasses.replace(loop, schedule=schedule, **length),
            str(workdir),
            initial_params=params,
            description=description,
        )
        params = jax.tree.map(np.asarray, state.ema_params)
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            logging.info("stage %d ends at step %d", number, checkpoints.latest_step())


if __name__ == "__main__":
    flags.set_default(training_flags.CROP_SIZE, 64)
    flags.set_default(training_flags.BATCH_SIZE, 16)
    flags.set_default(training_flags.LEARNING_RATE, 1e-3)
    flags.set_default(training_flags.EMA_DECAY, 0.995)
    training_flags.main(_train)
