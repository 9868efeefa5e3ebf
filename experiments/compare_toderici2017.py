r"""Short trainings of toderici2017 against each other: units and frameworks, with several seeds.

python -m experiments.compare_toderici2017 --train_data=PHOTOS --workdir=runs/variants \
  --output=results/toderici2017_variants.json

Every variant takes `--steps` updates of the same tiles. Reported is what training logs over its last `--log_every`
updates (tiles that were not trained on before, but for repetition): the loss, which is the mean absolute error over
all iterations, and the PSNR after the first, the middle and the last one. Finished trainings are not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from tqdm import tqdm

from experiments.short_training import train
from jaxcodec.data.files import write_bytes

_TRAIN_DATA = flags.DEFINE_string("train_data", None, "Training photos.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Gets a folder per training.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The JSON file.", required=True)
_VARIANTS = flags.DEFINE_list(
    "variants",
    ["lstm/one_shot", "lstm/additive", "associative_lstm/additive", "residual_gru/residual_scaling"],
    "Unit/framework.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Seeds of the trainings.")
_STEPS = flags.DEFINE_integer("steps", 300, "Updates.", lower_bound=1)
_WIDTH = flags.DEFINE_float("width", 0.125, "Share of the paper's channels.")
_ITERATIONS = flags.DEFINE_integer("iterations", 8, "Unrolled.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Tiles per update.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 3e-3, "Peak learning rate.")
_LOG_EVERY = flags.DEFINE_integer("log_every", 100, "Updates that are averaged.", lower_bound=1)

_REPORTED = ("loss", "psnr_first", "psnr_middle", "psnr_last", "elapsed")


def _run(variant: str, seed: str) -> dict[str, Any]:
    unit, framework = variant.split("/")
    folder = Path(_WORKDIR.value) / f"{unit}_{framework}_{seed}"
    last = train(
        "toderici2017",
        folder,
        *(
            f"--train_data={_TRAIN_DATA.value}",
            f"--unit={unit}",
            f"--framework={framework}",
            f"--seed={seed}",
        ),
        *(
            f"--width={_WIDTH.value}",
            f"--iterations={_ITERATIONS.value}",
            f"--batch_size={_BATCH_SIZE.value}",
        ),
        *(f"--learning_rate={_RATE.value}", f"--log_every={_LOG_EVERY.value}"),
        steps=_STEPS.value,
    )
    return {
        "unit": unit,
        "framework": framework,
        "seed": int(seed),
        **{name: last[name] for name in _REPORTED},
    }


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    rows = []
    for variant in tqdm(_VARIANTS.value, disable=None, unit="variant"):
        for seed in _SEEDS.value:
            rows.append(_run(variant, seed))
            tqdm.write(json.dumps(rows[-1]))
    names = ("steps", "width", "iterations", "batch_size", "learning_rate", "log_every")
    settings = {name: flags.FLAGS[name].value for name in names}
    text = json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n"
    write_bytes(_OUTPUT.value, text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
