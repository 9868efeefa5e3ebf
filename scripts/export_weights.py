r"""Make a weight file from a training run: float16 parameters and their integer coding tables.

python scripts/export_weights.py --workdir=runs/balle2017_013 --quality=4
python scripts/export_weights.py --workdir=runs/toderici2017 --coder_workdir=runs/binary_rnn
python scripts/export_weights.py --workdir=runs/theis2017 --train_data=PHOTOS

writes `<codec>-<hash8>.safetensors`, for `jaxcodec encode --weights FILE`; with `--zoo` it becomes the weights
that everybody encodes with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from jaxcodec.codecs.balle2017 import export as balle2017
from jaxcodec.codecs.balle2017.model import TransformConfig
from jaxcodec.codecs.comcnn import export as comcnn
from jaxcodec.codecs.comcnn.model import ComCnnConfig
from jaxcodec.codecs.ladders import LadderConfig
from jaxcodec.codecs.theis2017 import export as theis2017
from jaxcodec.codecs.theis2017.model import AutoencoderConfig
from jaxcodec.codecs.toderici2016 import export as toderici2016
from jaxcodec.codecs.toderici2016.model import ThumbnailConfig
from jaxcodec.codecs.toderici2017 import export as toderici2017
from jaxcodec.codecs.toderici2017.model import RecurrentConfig
from jaxcodec.data.crops import centre_crops
from jaxcodec.data.stream import read_all
from jaxcodec.entropy.binary_rnn import BinaryRNNConfig
from jaxcodec.entropy.binary_rnn_export import integer_arrays
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.zoo import manifest

_WORKDIR = flags.DEFINE_string("workdir", None, "The --workdir of the training run.", required=True)
_CODER_WORKDIR = flags.DEFINE_string(
    "coder_workdir",
    None,
    "For toderici2017: that of experiments/binary_rnn.py; without it files hold raw bits.",
)
_QUALITY = flags.DEFINE_integer(
    "quality", None, "For a codec with a network per quality: the number this one will serve.", lower_bound=1
)
_TRAIN_DATA = flags.DEFINE_string(
    "train_data", None, "For theis2017: photos from whose middles the coding tables are made."
)
_CLASSES = flags.DEFINE_integer(
    "classes", 16, "For theis2017: classes of coding tables; 1 for the paper's histograms.", lower_bound=1
)
_CROP = flags.DEFINE_integer("crop", 96, "For theis2017: pixels per side of these middles.", lower_bound=64)
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")
_ZOO = flags.DEFINE_boolean(
    "zoo", False, "Install the file in the zoo and its manifest instead, superseding the same quality."
)
_DATA = flags.DEFINE_string("data", "", "With --zoo: what it was trained on, and the licence.")
_DEVICE = flags.DEFINE_string("device_time", "", "With --zoo: on what and for how long.")
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
        ladder=LadderConfig(classes=_CLASSES.value),
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
    # orbax tells each of its steps.
    logging.set_verbosity(logging.ERROR)
    state, stored = _read(_WORKDIR.value)
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
