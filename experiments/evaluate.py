r"""Measure a codec of one's own training, or of the zoo, over a folder: `jaxcodec bench` for weights.

python experiments/evaluate.py --weights=runs/q1.safetensors,runs/q2.safetensors --images=data/kodak \
    --output=results.json

Every weight file is one quality. `--anchors=jpeg,webp` measures those codecs as well, so that the table has
something to compare with; `--compare` reads results made earlier or elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import app, flags

from jaxcodec.cli.bench import measure, parse_qualities
from jaxcodec.cli.console import fail, message_of
from jaxcodec.codecs.registry import load
from jaxcodec.errors import BadOption, JaxcodecError
from jaxcodec.zoo.weights import load_weights

_WEIGHTS = flags.DEFINE_list("weights", [], "Weight files of one codec, one per quality.")
_CODEC = flags.DEFINE_string("codec", None, "The codec; by default the one the weights are of.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of pictures, or a pattern.")
_OUTPUT = flags.DEFINE_string("output", None, "Gets the results, JSON.")
_PLOT = flags.DEFINE_string("plot", None, "Gets the rate-distortion plot, .png, .pdf or .svg.")
_QUALITIES = flags.DEFINE_list("qualities", None, "Of the codec and the anchors; by default their ladders.")
_ANCHORS = flags.DEFINE_list("anchors", [], "Other codecs to measure for comparison.")
_COMPARE = flags.DEFINE_list("compare", [], "Result files to compare with.")
_FORCE = flags.DEFINE_bool("force", False, "Overwrite outputs that exist.")


def evaluate() -> int:
    """Measure what the flags say and return the exit code.

    Raises
    ------
    JaxcodecError
        As `jaxcodec bench` does.
    """
    codec = _CODEC.value
    if codec is None:
        if not _WEIGHTS.value:
            raise BadOption("give --weights, --codec or both")
        codec = load_weights(_WEIGHTS.value[0]).codec
    codecs = [load(codec, weights=_WEIGHTS.value or None), *map(load, _ANCHORS.value)]
    qualities = _QUALITIES.value
    assert _IMAGES.value is not None  # required flags
    assert _OUTPUT.value is not None
    return measure(
        codecs,
        _IMAGES.value,
        qualities=parse_qualities(",".join(qualities) if qualities else None),
        compare_with=_COMPARE.value,
        output=_OUTPUT.value,
        plot=_PLOT.value,
        force=_FORCE.value,
    )


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    try:
        code = evaluate()
    except (JaxcodecError, OSError) as error:
        fail(message_of(error))
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    flags.mark_flags_as_required(["images", "output"])
    app.run(main)
