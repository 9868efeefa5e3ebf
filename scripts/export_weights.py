r"""Make a weight file from a training run: float16 parameters and their integer coding tables.

python scripts/export_weights.py --workdir=runs/balle2017_013 --quality=4
python scripts/export_weights.py --workdir=runs/toderici2017 --coder_workdir=runs/binary_rnn
python scripts/export_weights.py --workdir=runs/theis2017 --train_data=PHOTOS
python scripts/export_weights.py --pq --weights=FILE.safetensors,... --lambda=0.013,... --train_data=PHOTOS

writes `<codec>-<hash8>.safetensors`, for `jaxcodec encode --weights FILE`; with `--zoo` it becomes the weights
that everybody encodes with.

`--pq` quantises the networks of a finished weight file of balle2017 or bmshj2018 instead, and writes
`<codec>-<hash8>.pq` (`jaxcodec.pq`): kernels become codebooks and indices, each input and output weighed by what photos
say of its importance; then, for `--steps` updates, codebooks and what is left in float16 are trained on rate and
distortion. Blocks of one weight with range-coded indices are the default: an image codec's kernels are so unequal that
codes of a fixed rate are far too coarse at this size. The prior is left out, since coding has no use for it:
`scripts/make_ladder.py --weights=FILE.pq,...` makes the coding tables, which must be new. With `--zoo` it is the
variant `<codec>-pq`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging

from jaxcodec.codecs.balle2017 import export as balle2017
from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.codecs.comcnn import export as comcnn
from jaxcodec.codecs.comcnn.model import ComCnnConfig
from jaxcodec.codecs.ladders import LadderConfig
from jaxcodec.codecs.theis2017 import export as theis2017
from jaxcodec.codecs.theis2017.model import AutoencoderConfig
from jaxcodec.codecs.toderici2016 import export as toderici2016
from jaxcodec.codecs.toderici2016.model import ThumbnailConfig
from jaxcodec.codecs.toderici2017 import export as toderici2017
from jaxcodec.codecs.toderici2017.model import RecurrentConfig
from jaxcodec.data.crops import PhotoStore, centre_crops, random_crops, store_photos
from jaxcodec.data.stream import read_all
from jaxcodec.entropy.binary_rnn import BinaryRNNConfig
from jaxcodec.entropy.binary_rnn_export import integer_arrays
from jaxcodec.errors import JaxcodecError
from jaxcodec.ops.quantise import additive_uniform_noise
from jaxcodec.pq.activations import output_importance
from jaxcodec.pq.finetune import Tuner
from jaxcodec.pq.parameters import QuantisedParams, to_artefact
from jaxcodec.pq.quantise import Setting, quantise
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import Weights, flatten, load_weights, save_quantised

_WORKDIR = flags.DEFINE_string("workdir", None, "The --workdir of the training run.")
_CODER_WORKDIR = flags.DEFINE_string(
    "coder_workdir",
    None,
    "For toderici2017: that of experiments/binary_rnn.py; without it files hold raw bits.",
)
_QUALITY = flags.DEFINE_integer(
    "quality", None, "For a codec with a network per quality: the number this one will serve.", lower_bound=1
)
_TRAIN_DATA = flags.DEFINE_string(
    "train_data",
    None,
    "For theis2017: photos from whose middles the coding tables are made. With --pq: those that it trains on.",
)
_CLASSES = flags.DEFINE_integer(
    "classes", 16, "For theis2017: classes of coding tables; 1 for the paper's histograms.", lower_bound=1
)
_SPACING = flags.DEFINE_integer(
    "spacing",
    4,
    "For theis2017: hundredths of quality between rate points; 4 is 2.8 % of the rate.",
    lower_bound=1,
)
_CROP = flags.DEFINE_integer("crop", 128, "For theis2017: pixels per side of these middles.", lower_bound=64)
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")
_ZOO = flags.DEFINE_boolean(
    "zoo", False, "Install the file in the zoo and its manifest instead, superseding the same quality."
)
_DATA = flags.DEFINE_string("data", "", "With --zoo: what it was trained on, and the licence.")
_DEVICE = flags.DEFINE_string("device_time", "", "With --zoo: on what and for how long.")
_PQ = flags.DEFINE_boolean("pq", False, "Quantise the networks of --weights.")
_WEIGHTS = flags.DEFINE_list("weights", None, "With --pq: weight files, with parameters and without ladders.")
_LAMBDA = flags.DEFINE_list(
    "lambda", None, "With --pq: for each file, weight of 255^2 * MSE against bits per pixel."
)
_BLOCK = flags.DEFINE_integer(
    "block", 1, "With --pq: weights to a block; 1 is scalar quantisation with entropy-coded indices."
)
_CENTROIDS = flags.DEFINE_integer("centroids", 1024, "With --pq and larger blocks: of a codebook.")
_STEP = flags.DEFINE_float("step", 1e-3, "With --pq and blocks of 1: see jaxcodec.pq.quantise.Setting.")
_STEPS = flags.DEFINE_integer("steps", 200, "With --pq: updates of the codebooks.", lower_bound=0)
_RATE = flags.DEFINE_float("learning_rate", 3e-4, "With --pq: of Adam, at first.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 4, "With --pq: crops of 128x128 to an update.", lower_bound=1
)
_LAST = flags.DEFINE_boolean("last", False, "Export the last weights instead of their moving average.")

Exported = tuple[Path, Sequence[float]]
"""The weight file, and the qualities that it serves."""


def _export_transform(folder: Path, codec: str, network: dict[str, Any], params: Any) -> Exported:
    if _QUALITY.value is None:
        raise app.UsageError(f"{codec} has a network per quality; say which with --quality")
    config = TransformConfig(**network)
    path = balle2017.export(folder, codec=codec, quality=_QUALITY.value, config=config, params=params)
    return path, [_QUALITY.value]


def _export_toderici2016(folder: Path, codec: str, network: dict[str, Any], params: Any) -> Exported:
    del codec
    config = ThumbnailConfig(**network)
    path = toderici2016.export(folder, config=config, params=params)
    return path, list(range(1, config.stages + 1))


def _export_toderici2017(folder: Path, codec: str, network: dict[str, Any], params: Any) -> Exported:
    del codec
    config = RecurrentConfig(**network)
    coder = None
    if _CODER_WORKDIR.value is not None:
        state, stored = _read(_CODER_WORKDIR.value)
        settings = BinaryRNNConfig(**stored["description"]["network"])
        coder = integer_arrays(jax.tree.map(np.asarray, state["ema_params"]), settings)
    path = toderici2017.export(folder, config=config, params=params, coder=coder)
    return path, list(range(1, config.iterations + 1))


def _export_theis2017(folder: Path, codec: str, network: dict[str, Any], params: Any) -> Exported:
    del codec
    if _TRAIN_DATA.value is None:
        raise app.UsageError("theis2017 needs photos for its coding tables; name them with --train_data")
    path, qualities = theis2017.export(
        folder,
        config=AutoencoderConfig(**network),
        params=params,
        crops=centre_crops(read_all(_TRAIN_DATA.value), size=_CROP.value),
        ladder=LadderConfig(classes=_CLASSES.value, spacing=_SPACING.value),
    )
    return path, qualities


def _export_comcnn(folder: Path, codec: str, network: dict[str, Any], params: Any) -> Exported:
    config = ComCnnConfig(**network)
    path = comcnn.export(folder, codec=codec, config=config, params=params)
    return path, list(range(config.lowest, config.highest + 1))


_EXPORTERS: dict[str, Callable[[Path, str, dict[str, Any], Any], Exported]] = {
    "balle2017": _export_transform,
    "bmshj2018": _export_transform,
    "comcnn": _export_comcnn,
    "comcnn-hevc": _export_comcnn,
    "comcnn-jpeg2000": _export_comcnn,
    "reccnn": _export_comcnn,
    "theis2017": _export_theis2017,
    "toderici2016": _export_toderici2016,
    "toderici2017": _export_toderici2017,
}


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    try:
        if _PQ.value:
            _export_quantised()
        elif _WORKDIR.value is not None:
            _export_trained(_WORKDIR.value)
        else:
            raise app.UsageError("say what is to be exported with --workdir, or with --pq and --weights")
    except JaxcodecError as error:
        sys.exit(f"error: {error}")


def _export_trained(workdir: str) -> None:
    # orbax tells each of its steps.
    logging.set_verbosity(logging.ERROR)
    state, stored = _read(workdir)
    description = stored["description"]
    codec, network = description["codec"], description["network"]
    params = jax.tree.map(np.asarray, state["params" if _LAST.value else "ema_params"])
    folder = manifest.ZOO / "weights" if _ZOO.value else Path(_OUTPUT.value)
    path, qualities = _EXPORTERS[codec](folder, codec, network, params)
    print(f"{path}  {path.stat().st_size} bytes, step {int(state['step'])}")
    if _ZOO.value:
        several = {"quality": 0, "qualities": qualities}
        manifest.add(
            {
                "file": path.name,
                "codec": codec,
                **({"quality": qualities[0]} if codec in ("balle2017", "bmshj2018") else several),
                "current": True,
                "network": network,
                "training": {
                    "command": _command(description),
                    "steps": int(state["step"]),
                    "seconds": round(float(state["elapsed"])),
                    "device": _DEVICE.value,
                    "data": _DATA.value,
                },
            }
        )


_CROP_SIZE = 128
_ACTIVATIONS = 16
_ITERATIONS = 20


@functools.cache
def _programs(config: TransformConfig) -> tuple[Callable[[Any, Any], Any], Callable[..., jax.Array], Tuner]:
    """The network as `apply(params, x)`, a probe of what its outputs mind, and the tuner on rate and distortion."""
    coder = TransformCoder(config)

    def rounded(params: Any, x: jax.Array) -> Any:
        return coder.apply({"params": params}, x, quantise=jnp.round)

    def loss(params: Any, batch: Any, *, key: jax.Array) -> jax.Array:
        crops, weight = batch
        x = crops.astype(jnp.float32) / 255.0
        coded: Any = coder.apply({"params": params}, x, quantise=partial(additive_uniform_noise, key=key))
        reconstruction, likelihoods = coded
        bpp = -jnp.log2(likelihoods).sum() / math.prod(x.shape[:3])
        return bpp + weight * 255.0**2 * jnp.mean(jnp.square(reconstruction - x))

    def probe(params: Any, batch: Any) -> jax.Array:
        # With u, v random, the mean squared gradient of u . x^ + v . y along a layer's output e is what errors there do
        # to pixels and latents: |dx^/de|^2 + |dy/de|^2, each in the units of the loss (a bit per squared latent).
        x, weight = batch
        y: Any = coder.apply({"params": params}, x, method=coder.analyse)
        decoded: Any = coder.apply({"params": params}, y, method=coder.synthesise)
        u, v = (jax.random.normal(jax.random.key(i), a.shape) for i, a in ((5, decoded), (6, y)))
        scale = jnp.sqrt(weight * 255.0**2 / config.image_channels)
        return scale * jnp.vdot(u, decoded) + jnp.vdot(v, y)

    return rounded, probe, Tuner(loss, optax.chain(optax.scale_by_adam(), optax.scale(-1.0)))


def _quantised(weights: Weights, weight: float, store: PhotoStore) -> QuantisedParams:
    """Quantise and tune analysis and synthesis; see the module."""
    rounded, probe, tuner = _programs(TransformConfig(**weights.config))
    crops = random_crops(store, key=jax.random.key(1), batch_size=_ACTIVATIONS, crop_size=_CROP_SIZE)
    x = crops.astype(jnp.float32) / 255.0
    names = [name for name in flatten(weights.params) if name.endswith("kernel")]
    pixels = math.prod(crops.shape[:3])
    found = output_importance(probe, weights.params, (x, jnp.float32(weight)), names)
    importance = {name: np.asarray(value) / math.sqrt(pixels) for name, value in found.items()}
    start = quantise(
        rounded,
        weights.params,
        x,
        {
            name: Setting(1, importance=importance[name], step=_STEP.value)
            if _BLOCK.value == 1
            else Setting(_BLOCK.value, _CENTROIDS.value, importance[name])
            for name in names
        },
        key=jax.random.key(0),
        iterations=_ITERATIONS,
    )
    draw = jax.jit(partial(random_crops, batch_size=_BATCH_SIZE.value, crop_size=_CROP_SIZE))
    tuned, losses = tuner.tune(
        start,
        ((draw(store, key=jax.random.key(2 + i)), jnp.float32(weight)) for i in range(_STEPS.value)),
        learning_rate=lambda step: _RATE.value * 0.5 * (1 + math.cos(math.pi * step / _STEPS.value)),
        key=jax.random.key(0),
        train_others=True,
    )
    if losses:
        tenth = max(1, len(losses) // 10)
        shown = [f"{np.mean(losses[i : i + tenth]):.3f}" for i in range(0, len(losses), tenth)]
        print(f"{weights.path.name}: loss {' '.join(shown)}", flush=True)
    others = {name: value for name, value in tuned.others.items() if not name.startswith("prior/")}
    return QuantisedParams(tuned.codes, others)


def _export_quantised() -> None:
    if not _WEIGHTS.value or _TRAIN_DATA.value is None or _LAMBDA.value is None:
        raise app.UsageError("--pq needs --weights, --train_data and --lambda")
    if len(_WEIGHTS.value) != len(_LAMBDA.value):
        raise app.UsageError("--pq needs as many numbers in --lambda as files in --weights")
    try:
        lambdas = [float(number) for number in _LAMBDA.value]
    except ValueError as error:
        raise app.UsageError(f"--lambda wants numbers: {error}") from error
    store = store_photos(read_all(_TRAIN_DATA.value), crop_size=_CROP_SIZE)
    folder = manifest.ZOO / "weights" if _ZOO.value else Path(_OUTPUT.value)
    for file, weight in zip(_WEIGHTS.value, lambdas, strict=True):
        weights = load_weights(file)
        if weights.codec not in ("balle2017", "bmshj2018") or "prior" not in weights.params:
            raise app.UsageError(f"--pq quantises dense weights of balle2017 and bmshj2018, not {file}")
        config = {"quality": weights.quality, "network": weights.config}
        quantised = _quantised(weights, weight, store)
        path = save_quantised(folder, to_artefact(quantised, architecture=weights.codec, config=config))
        parameters = sum(value.size for value in flatten(quantised.dense()).values())
        size = path.stat().st_size
        print(f"{path}  {size} bytes; {4 * parameters / size:.2f} times smaller than in float32", flush=True)
        if _ZOO.value:
            _install_quantised(weights, path, weight, size)


def _install_quantised(weights: Weights, path: Path, weight: float, size: int) -> None:
    (old,) = [entry for entry in manifest.entries() if entry.file.name == weights.path.name]
    shown = " ".join(f"--{flag.name}={flag.value}" for flag in (_BLOCK, _STEP, _STEPS, _RATE, _BATCH_SIZE))
    command = f"python scripts/export_weights.py --pq --weights={weights.path.name} --lambda={weight}"
    manifest.add(
        {
            "file": path.name,
            "codec": f"{weights.codec}-pq",
            "quality": weights.quality,
            "current": True,
            "network": weights.config,
            "training": old.details["training"],
            "quantised": {"command": f"{command} --train_data=PHOTOS {shown}", "bytes": size},
        }
    )


def _read(workdir: str) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(workdir) / "checkpoints"
    if not folder.is_dir():
        raise app.UsageError(f"{folder} does not exist; give the --workdir that the training wrote")
    with Checkpoints(folder) as checkpoints:
        if checkpoints.latest_step() is None:
            raise app.UsageError(f"{folder} holds no checkpoint yet")
        return checkpoints.read()


def _command(description: dict[str, Any]) -> str:
    """The command that trains such weights anew: its flags, paths by their last name only."""
    values = description["flags"]
    shown = {**values, "train_data": "PHOTOS", "workdir": "runs/" + Path(values["workdir"]).name}
    if shown.get("init_weights"):
        shown["init_weights"] = Path(shown["init_weights"]).name
    listed = [f"--{name}={value}" for name, value in sorted(shown.items()) if value is not None]
    return " ".join([f"python -m {description['experiment']}", *listed])


if __name__ == "__main__":
    app.run(main)
