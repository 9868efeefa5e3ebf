r"""Give a codec that has a network per quality a ladder of fractional ones.

python scripts/make_ladder.py --codec=balle2017 --train_data=PHOTOS --output=weights
python scripts/make_ladder.py --codec=balle2017 --train_data=PHOTOS --zoo

For each network of the codec (those of the zoo, or `--weights FILE,FILE,...`) the latents of the middles of the photos
are quantised with steps around the one it was trained for, and coding tables are made for each. The new files hold
tables only and stand beside the files with the parameters. At a whole quality the step is the trained one. Between
two networks both serve: each reaches `--overlap` hundredths beyond the middle, so that a rate that falls between
them on some picture is found on one side. `--whole` makes no rungs but those of the whole qualities: a small file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from tqdm import tqdm

from jaxcodec.codecs.balle2017.codec import TransformCodec
from jaxcodec.codecs.balle2017.model import STRIDE
from jaxcodec.codecs.ladders import LadderConfig, network_ladder, single_rung
from jaxcodec.coding.ladder import Ladder
from jaxcodec.data.crops import centre_crops
from jaxcodec.data.stream import read_all
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import Weights, has_ladder, load_weights, save_weights

_CODEC = flags.DEFINE_enum(
    "codec", "balle2017", ["balle2017", "balle2017-pq", "bmshj2018"], "Whose networks."
)
_WEIGHTS = flags.DEFINE_list("weights", None, "Weight files; those of the zoo when not given.")
_TRAIN_DATA = flags.DEFINE_string("train_data", None, "Photos: a folder, a glob or records.", required=True)
_CROP = flags.DEFINE_integer("crop", 256, "Pixels per side of the middles.", lower_bound=64)
_CLASSES = flags.DEFINE_integer("classes", 16, "Classes of coding tables.", lower_bound=1)
_BLOCK = flags.DEFINE_integer("block", 1, "Side of a block of one class, in latents.", lower_bound=1)
_SPACING = flags.DEFINE_integer("spacing", 4, "Hundredths of quality between rungs.", lower_bound=1)
_OVERLAP = flags.DEFINE_integer("overlap", 12, "Hundredths beyond the middle.", lower_bound=0)
_DISTORTION_WEIGHT = flags.DEFINE_float("distortion_weight", 16.0, "Bits per squared step, for the encoder.")
_WHOLE = flags.DEFINE_boolean("whole", False, "Only the whole qualities.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder; that of the weights when not given.")
_ZOO = flags.DEFINE_boolean("zoo", False, "Supersede the codec's rows in the zoo's manifest.")


def _networks() -> list[Weights]:
    given = _WEIGHTS.value or [entry.file for entry in manifest.current(_CODEC.value)]
    read = []
    for path in map(Path, given):
        weights = load_weights(path)
        if has_ladder(path):  # its parameters' own file is what new tables go with
            raise app.UsageError(f"{path} has a ladder; give the file that it takes its parameters from")
        read.append(weights)
    return sorted(read, key=lambda weights: weights.quality)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    networks = _networks()
    crops = centre_crops(read_all(_TRAIN_DATA.value), size=_CROP.value)
    codec = TransformCodec(_CODEC.value, {})
    analysed = [codec.analyse(codec.build(weights), crops) for weights in tqdm(networks, disable=None)]
    config = LadderConfig(_CLASSES.value, _BLOCK.value, _SPACING.value, _DISTORTION_WEIGHT.value)
    shared: dict[str, Any] = {"pixels_per_position": STRIDE**2, "config": config}
    if _WHOLE.value:
        pairs = zip(analysed, networks, strict=True)
        ladders = [single_rung(latents, weights.quality, **shared) for latents, weights in pairs]
    else:
        qualities = [weights.quality for weights in networks]
        ladders = network_ladder(analysed, qualities, overlap=_OVERLAP.value, **shared)
    for weights, ladder in zip(networks, ladders, strict=True):
        folder = weights.path.parent if _OUTPUT.value is None else Path(_OUTPUT.value)
        path = save_weights(
            folder,
            codec=weights.codec,
            quality=weights.quality,
            config=weights.config,
            params=weights,
            tables=ladder.to_arrays(),
        )
        print(f"{path}  {path.stat().st_size} bytes, qualities {_shown(ladder)}")
        if _ZOO.value:
            manifest.add(_row(weights, path, ladder))


def _shown(ladder: Ladder) -> str:
    first, last = (int(ladder.qualities[i]) / 100 for i in (0, -1))
    return f"{first}..{last}, {ladder.bpp[0]:.3f}..{ladder.bpp[-1]:.3f} bpp"


def _row(weights: Weights, path: Path, ladder: Ladder) -> dict[str, Any]:
    (old,) = [entry for entry in manifest.entries() if entry.file.name == weights.path.name]
    return {
        "file": path.name,
        "codec": _CODEC.value,
        "quality": weights.quality,
        "current": True,
        "qualities": [int(quality) / 100 for quality in ladder.qualities],
        "network": old.details["network"],
        "params_of": weights.path.name,
        "training": old.details["training"],
        **{name: old.details[name] for name in ("quantised",) if name in old.details},
        "ladder": f"python scripts/make_ladder.py --codec={_CODEC.value} --train_data=PHOTOS "
        + " ".join(f"--{flag.name}={flag.value}" for flag in (_CROP, _CLASSES, _BLOCK, _SPACING, _OVERLAP))
        + f" --distortion_weight={_DISTORTION_WEIGHT.value:g}"
        + (" --whole" if _WHOLE.value else ""),
    }


if __name__ == "__main__":
    app.run(main)
