r"""Make a weight file from a training run: float16 parameters and their integer coding tables.

python scripts/export_weights.py --workdir=runs/balle2017_013 --quality=4

writes `<codec>-<hash8>.safetensors`, for `jaxcodec encode --weights FILE` or, with an entry in
jaxcodec/zoo/manifest.json, for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from jaxcodec.codecs.balle2017.export import export
from jaxcodec.codecs.balle2017.model import TransformConfig
from jaxcodec.training.checkpoint import Checkpoints

_WORKDIR = flags.DEFINE_string("workdir", "", "The --workdir of the training run.")
_QUALITY = flags.DEFINE_integer(
    "quality", 0, "The quality number that the weights will serve.", lower_bound=0
)
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")
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
    path = export(Path(_OUTPUT.value), codec=codec, quality=_QUALITY.value, config=config, params=params)
    print(f"{path}  {path.stat().st_size} bytes, step {int(state['step'])}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "quality"])
    app.run(main)
