r"""Make a weight file from a training run: float16 parameters and their integer coding tables.

python scripts/export_weights.py --workdir=runs/balle2017_013 --quality=4

writes `<codec>-<hash8>.safetensors`, for `jaxcodec encode --weights FILE`; with `--zoo` it becomes the weights
that everybody encodes with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from jaxcodec.codecs.balle2017.export import export
from jaxcodec.codecs.balle2017.model import TransformConfig
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.zoo import manifest

_WORKDIR = flags.DEFINE_string("workdir", None, "The --workdir of the training run.", required=True)
_QUALITY = flags.DEFINE_integer(
    "quality", None, "The quality number that the weights will serve.", lower_bound=1, required=True
)
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")
_ZOO = flags.DEFINE_boolean(
    "zoo", False, "Install the file in the zoo and its manifest instead, superseding the same quality."
)
_DATA = flags.DEFINE_string("data", "", "With --zoo: what it was trained on, and the licence.")
_DEVICE = flags.DEFINE_string("device_time", "", "With --zoo: on what and for how long.")
_LAST = flags.DEFINE_boolean("last", False, "Export the last weights instead of their moving average.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    folder = Path(_WORKDIR.value) / "checkpoints"
    if not folder.is_dir():
        raise app.UsageError(f"{folder} does not exist; --workdir is the folder that the training wrote")
    with Checkpoints(folder) as checkpoints:
        if checkpoints.latest_step() is None:
            raise app.UsageError(f"{folder} holds no checkpoint yet")
        state, stored = checkpoints.read()
    config = TransformConfig(**stored["description"]["network"])
    params = jax.tree.map(np.asarray, state["params" if _LAST.value else "ema_params"])
    codec = "bmshj2018" if config.transform == "bmshj2018" else "balle2017"
    output = manifest.ZOO / "weights" if _ZOO.value else Path(_OUTPUT.value)
    path = export(output, codec=codec, quality=_QUALITY.value, config=config, params=params)
    print(f"{path}  {path.stat().st_size} bytes, step {int(state['step'])}")
    if _ZOO.value:
        manifest.add(
            {
                "file": path.name,
                "codec": codec,
                "quality": _QUALITY.value,
                "current": True,
                "network": config.to_dict(),
                "training": {
                    "command": _command(stored["description"]["flags"]),
                    "steps": int(state["step"]),
                    "seconds": round(float(state["elapsed"])),
                    "device": _DEVICE.value,
                    "data": _DATA.value,
                },
            }
        )


def _command(values: dict[str, Any]) -> str:
    """The command that trains such weights anew: its flags, paths by their last name only."""
    places = {"train_data": "PHOTOS", "workdir": "runs/" + Path(values["workdir"]).name}
    shown = {**values, **places}
    if shown["init_weights"]:
        shown["init_weights"] = Path(shown["init_weights"]).name
    listed = [f"--{name}={value}" for name, value in sorted(shown.items()) if value is not None]
    return " ".join(["python -m experiments.balle2017", *listed])


if __name__ == "__main__":
    app.run(main)
