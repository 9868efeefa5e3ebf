r"""Short trainings of the families of toderici2016, with several seeds, and their SSIM at 64 and 128 bytes.

python -m experiments.compare_toderici2016 --train_data=PHOTOS --images=VALID,data/kodak --workdir=runs/families \
  --output=results/toderici2016_families.json

Every family takes `--steps` updates of as many pixels: `--batch_size` thumbnails of 32x32, or sixteen times as many
patches of 8x8. SSIM is that of scripts/compare_thumbnails.py on held-out thumbnails, with real files. Finished
trainings are not repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from tqdm import tqdm

from experiments.short_training import averaged_params, train
from jaxcodec.codecs.toderici2016.export import export
from jaxcodec.codecs.toderici2016.model import ThumbnailConfig
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.data.thumbnails import make_thumbnails
from jaxcodec.evaluation.thumbnails import network_rows

_TRAIN_DATA = flags.DEFINE_string("train_data", None, "Training photos.", required=True)
_IMAGES = flags.DEFINE_list("images", None, "Folders or globs of other photos.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Gets a folder per training.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The JSON file.", required=True)
_FAMILIES = flags.DEFINE_list(
    "families", ["fc", "fc/distinct", "lstm", "conv", "conv_lstm"], "FAMILY, or FAMILY/distinct."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Seeds of the trainings.")
_STEPS = flags.DEFINE_integer("steps", 250, "Updates.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 128, "Units or channels of the widest layers; 512 in the paper.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Thumbnails' worth of pixels per update.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Peak learning rate.")
_COUNT = flags.DEFINE_integer("count", 1000, "Thumbnails to measure on.", lower_bound=1)

SIZES = (64.0, 128.0)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    photos = [read_image(path).pixels for place in _IMAGES.value for path in list_images(place)]
    thumbnails = make_thumbnails(photos, per_photo=math.ceil(_COUNT.value / len(photos)), seed=2016)
    thumbnails = thumbnails[: _COUNT.value]
    rows = []
    for family, seed in tqdm([(f, s) for f in _FAMILIES.value for s in _SEEDS.value], disable=None):
        name, _, weights = family.partition("/")
        folder = Path(_WORKDIR.value) / f"{name}{weights}_{seed}"
        batch = _BATCH_SIZE.value * (1 if name.startswith("conv") else 16)
        last = train(
            "toderici2016",
            folder,
            *(f"--train_data={_TRAIN_DATA.value}", f"--family={name}", f"--seed={seed}"),
            *(f"--width={_WIDTH.value}", f"--batch_size={batch}", f"--learning_rate={_RATE.value}"),
            *(["--noshared"] if weights else []),
            f"--log_every={_STEPS.value}",
            steps=_STEPS.value,
        )
        network, params, seconds = averaged_params(folder)
        path = export(folder, config=ThumbnailConfig(**network), params=params)
        for row in network_rows(family, path, thumbnails, list(SIZES), curve=False):
            rows.append(
                {"family": family, "seed": int(seed), "loss": last["loss"], "seconds": seconds, **row}
            )
            tqdm.write(json.dumps(rows[-1]))
    names = ("steps", "width", "batch_size", "learning_rate", "count")
    settings = {name: flags.FLAGS[name].value for name in names}
    text = json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n"
    write_bytes(_OUTPUT.value, text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
