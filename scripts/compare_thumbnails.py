r"""Compare thumbnail networks with headerless JPEG, JPEG 2000 and WebP at 64 and 128 bytes, by SSIM.

python scripts/compare_thumbnails.py --images=VALID,data/kodak --weights=conv_lstm=FILE,lstm=FILE \
    --output=results/thumbnails.json

VALID and data/kodak are folders of photos that nothing was trained on; 1,000 thumbnails are made of them. The table
is printed, and written beside the JSON as .txt. `jaxcodec/evaluation/thumbnails.py` says what is counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.data.thumbnails import CROP_SIDES, make_thumbnails
from jaxcodec.evaluation.thumbnails import CLASSICAL, DEFINITION, Ladder, network_rows, table

_IMAGES = flags.DEFINE_list("images", None, "Folders or globs of held-out photos.", required=True)
_WEIGHTS = flags.DEFINE_list("weights", [], "LABEL=FILE of the networks, exported; by default the zoo's.")
_COUNT = flags.DEFINE_integer("count", 1000, "Thumbnails.", lower_bound=1)
_BYTES = flags.DEFINE_list("bytes", ["64", "128"], "Sizes to compare at.")
_SEED = flags.DEFINE_integer("seed", 2016, "Of the thumbnails.")
_CURVE = flags.DEFINE_boolean("curve", False, "Also measure every stage of the networks.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write; the table goes beside it.")


def _held_out() -> tuple[np.ndarray, list[str]]:
    paths = [path for place in _IMAGES.value for path in list_images(place)]
    photos = [read_image(path).pixels for path in paths]
    made = make_thumbnails(photos, per_photo=math.ceil(_COUNT.value / len(photos)), seed=_SEED.value)
    chosen = np.sort(np.random.default_rng(_SEED.value).permutation(len(made))[: _COUNT.value])
    return made[chosen], [path.name for path in paths]


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    targets = [float(size) for size in _BYTES.value]
    thumbnails, photos = _held_out()
    networks = [(label, Path(file)) for label, _, file in (item.partition("=") for item in _WEIGHTS.value)]
    rows: list[dict[str, Any]] = []
    for label, path in networks or [("zoo", None)]:
        rows += network_rows(label, path, thumbnails, targets, curve=_CURVE.value)
    for codec in CLASSICAL:
        ladder = Ladder(codec, thumbnails)
        rows += [ladder.row(target) for target in targets]
    text = (
        f"{len(thumbnails)} thumbnails of {len(photos)} photos, the whole and squares of {CROP_SIDES} pixels\n"
        f"{DEFINITION}\n{table(rows, targets)}\n"
    )
    print(text, end="")
    if _OUTPUT.value:
        content = {
            "definition": DEFINITION,
            "thumbnails": {"count": len(thumbnails), "seed": _SEED.value, "photos": photos},
            "rows": rows,
        }
        write_bytes(_OUTPUT.value, json.dumps(content, indent=1).encode(), force=True)
        write_bytes(Path(_OUTPUT.value).with_suffix(".txt"), text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
