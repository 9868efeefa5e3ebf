"""The weight files of a codec, made ready to run when first needed, and found by the hash that is in its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from jaxcodec.errors import WrongWeights
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import Weights, load_weights

_Model = TypeVar("_Model")


class Models(Generic[_Model]):
    """What a codec makes of weight files: its own, and those that files of others were written with.

    Parameters
    ----------
    paths
        The codec's own weight files.
    build
        Makes a model of a weight file; `WrongWeights` if it is not one of this codec.
    """

    def __init__(self, paths: Sequence[Path], build: Callable[[Weights], _Model]) -> None:
        self._paths = tuple(paths)
        self._build = build
        self._built: dict[Path, tuple[bytes, _Model]] = {}

    @property
    def first(self) -> _Model:
        """The model of the first of the codec's own files."""
        return self.of_path(self._paths[0])

    def of_path(self, path: Path) -> _Model:
        """The model of a weight file; what is raised on reading and building it."""
        return self._read(path)[1]

    def of_hash(self, weights_hash: bytes) -> _Model:
        """The model that wrote a file: one of the codec's own, or installed with the package.

        Raises
        ------
        WrongWeights
            If there is none, or it is damaged.
        """
        path = self._find(weights_hash)
        found, model = self._read(path)
        if found != weights_hash:
            raise WrongWeights(
                f"{path} is damaged: its content does not have the hash in its name; get another copy of it"
            )
        return model

    def _read(self, path: Path) -> tuple[bytes, _Model]:
        if path not in self._built:
            weights = load_weights(path)
            self._built[path] = weights.hash, self._build(weights)
        return self._built[path]

    def _find(self, weights_hash: bytes) -> Path:
        for path in self._paths:
            if path.stem.endswith(weights_hash.hex()):
                return path
        installed = manifest.find(weights_hash)
        if installed is not None and installed.exists():
            return installed
        for path in self._paths:
            if self._read(path)[0] == weights_hash:
                return path
        raise WrongWeights(
            f"the file was written with weights {weights_hash.hex()}, which are not installed; "
            "give them with --weights FILE (weights=... in Python)"
        )


@contextmanager
def describing(weights: Weights, codec: str) -> Iterator[None]:
    """Around the building of a network of a weight file: whatever does not fit is `WrongWeights`.

    Raises
    ------
    WrongWeights
        If the weights are not those of `codec`, or on `TypeError`, `ValueError` and `KeyError` inside.
    """
    if weights.codec != codec:
        raise WrongWeights(f"{weights.path} holds weights of {weights.codec}, not of {codec}")
    try:
        yield
    except (TypeError, ValueError, KeyError) as error:
        raise WrongWeights(f"{weights.path} does not describe a network of this version: {error}") from error
