"""Which weight files a codec works with: those of the zoo, or a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxcodec.errors import BadOption, WrongWeights
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import load_weights

Given = str | Path | Sequence[str | Path] | None


def weight_files(codec: str, given: Given, *, experiment: str | None = None) -> list[Path]:
    """Return the installed files of `codec`, or the given ones.

    Parameters
    ----------
    codec
        Its name.
    given
        A file or several; None for the zoo's.
    experiment
        The one that trains it, where that has another name.

    Raises
    ------
    WrongWeights
        If nothing is installed, or a given file is another codec's or none at all.
    BadOption
        If the list of files is empty.
    """
    if given is None:
        installed = [entry.file for entry in manifest.current(codec)]
        if not installed:
            raise WrongWeights(
                f"no weights of {codec} are installed; train some with experiments/{experiment or codec}.py, "
                "export them with scripts/export_weights.py and give them with --weights FILE"
            )
        return installed
    paths = [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]
    if not paths:
        raise BadOption("the list of weights is empty; give a file, or leave them out")
    for path in paths:
        found = load_weights(path).codec
        if found != codec:
            raise WrongWeights(f"{path} holds weights of {found}, not of {codec}")
    return paths


def single_weight_file(codec: str, given: Given) -> Path:
    """`weight_files` of a codec with one network for all qualities; `BadOption` for several given files."""
    paths = weight_files(codec, given)
    if given is not None and len(paths) != 1:
        raise BadOption(f"{codec} has one network for all qualities; give one weight file, not {len(paths)}")
    return paths[0]
