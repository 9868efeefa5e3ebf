r"""Copy measured averages from a bench file into the zoo's manifest.

python scripts/record_measurements.py --results=results/kodak.json

Every current row whose codec and quality the file has gets `kodak`: bpp, PSNR and MS-SSIM; a row of weights that serve
several qualities gets a list of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from jaxcodec.zoo import manifest

_RESULTS = flags.DEFINE_string("results", "results/kodak.json", "What `jaxcodec bench` wrote.")
_FIGURES = ("bpp", "psnr-rgb", "ms-ssim-rgb")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    codecs = json.loads(Path(_RESULTS.value).read_text(encoding="utf-8"))["codecs"]
    for codec in codecs:
        results = codec["results"]
        for entry in manifest.current(codec["name"]):
            served = entry.details.get("qualities", [entry.quality])
            places = [i for i, quality in enumerate(results["quality"]) if quality in served]
            if not places:
                continue
            measured: dict[str, Any] = {
                name: [round(results[name][i], 5) for i in places] for name in _FIGURES
            }
            if "qualities" in entry.details:
                measured = {"quality": [results["quality"][i] for i in places], **measured}
            else:
                measured = {name: values[0] for name, values in measured.items()}
            row = {
                "file": entry.file.name,
                "codec": entry.codec,
                "quality": entry.quality,
                "current": True,
            }
            details = {key: value for key, value in entry.details.items() if key != "hash"}
            manifest.add({**row, **details, "kodak": measured})
            print(f"{entry.codec} quality {entry.quality}: {measured}")


if __name__ == "__main__":
    app.run(main)
