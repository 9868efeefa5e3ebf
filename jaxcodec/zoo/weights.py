"""Weight files: a trained network, its coding tables, and the hash that names both.

A file is safetensors: float16 parameters under `params/...`, integer coding tables under `tables/...`, and in
the header's metadata the codec, the quality and the network's configuration. The first four bytes of the
SHA-256 of the *whole file* are its hash; `.jxc` files carry it, so a file is decoded by exactly the weights
that wrote it or not at all. Files are never changed: a retrained network is a new file. New tables for an old
network are a new file too, without parameters: it names the file in the same folder that has them.

That file may be a quantised network, `<codec>-<hash8>.pq` (`jaxcodec.pq.artefact`): parameters only, and no tables.
Whoever reads it gets dense parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxcodec.errors import JaxcodecError, WrongWeights
from jaxcodec.pq.artefact import Artefact, read_artefact, write_artefact

_FORMAT = "1"
_QUANTISED = ".pq"


@dataclass(frozen=True)
class Weights:
    """A weight file, read.

    Attributes
    ----------
    codec, quality
        What it is for; quality 0 where it has none yet.
    config
        The network's configuration, plain values.
    params
        Nested dictionary of float32 arrays, as `module.apply({"params": params}, ...)` takes it.
    tables
        Flat dictionary of integer arrays, as `jaxcodec.coding.tables` takes it.
    hash
        Four bytes.
    path
        Where it was read.
    """

    codec: str
    quality: int
    config: dict[str, Any]
    params: dict[str, Any]
    tables: dict[str, np.ndarray]
    hash: bytes
    path: Path


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """`{"a": {"b": x}}` to `{"a/b": x}`, sorted by name."""
    flat: dict[str, np.ndarray] = {}
    for name in sorted(tree):
        value = tree[name]
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = np.asarray(value)
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `flatten`; `ValueError` if a name is both a leaf and a folder."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} lies inside another array")
        if leaf in node:
            raise ValueError(f"{name!r} is both an array and a folder of arrays")
        node[leaf] = value
    return tree


def round_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a weight file holds them (float16), back in float32: what must be evaluated."""
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in flatten(params).items()}
    for name, value in rounded.items():
        if not np.isfinite(value).all():
            raise WrongWeights(f"parameter {name} does not fit float16; it cannot be exported")
    return unflatten(rounded)


def hash_of(data: bytes) -> bytes:
    """The four bytes by which `.jxc` files name a weight file."""
    return hashlib.sha256(data).digest()[:4]


def save_weights(
    folder: Path,
    *,
    codec: str,
    quality: int,
    config: Mapping[str, Any],
    params: Mapping[str, Any] | Weights,
    tables: Mapping[str, np.ndarray],
) -> Path:
    """Write `<codec>-<hash8>.safetensors` into `folder` and return its path.

    Parameters
    ----------
    folder
        Gets the file.
    codec, quality, config, tables
        As in `Weights`. The tables must have been made from `round_params(params)`.
    params
        The parameters; or a weight file in the same folder that has them.
    """
    header = {"format": _FORMAT, "codec": codec, "quality": quality, "config": dict(config)}
    arrays: dict[str, np.ndarray] = {}
    if isinstance(params, Weights):
        header["params_of"] = params.hash.hex()
    else:
        arrays |= {f"params/{name}": value.astype(np.float16) for name, value in flatten(params).items()}
    arrays |= {f"tables/{name}": np.ascontiguousarray(value) for name, value in tables.items()}
    # One metadata entry, keys sorted: the same network always gives the same bytes and so the same hash.
    data = safetensors.numpy.save(arrays, {"jaxcodec": json.dumps(header, sort_keys=True)})
    return _write(folder / f"{codec}-{hash_of(data).hex()}.safetensors", data)


def save_quantised(folder: Path, artefact: Artefact) -> Path:
    """Write `<codec>-<hash8>.pq` into `folder` and return its path.

    Parameters
    ----------
    folder
        Gets the file.
    artefact
        Its architecture is the codec; its config has `quality` and `network`, as in `Weights`.
    """
    data = write_artefact(artefact, entropy_coded=True)
    return _write(folder / f"{artefact.architecture}-{hash_of(data).hex()}{_QUANTISED}", data)


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path


def load_weights(path: str | Path) -> Weights:
    """Read a weight file.

    Raises
    ------
    WrongWeights
        If it is missing, is no safetensors file, or was not written by `save_weights`; or the file with its
        parameters is missing or another.
    """
    path = Path(path)
    if path.suffix == _QUANTISED:
        return _load_quantised(path)
    try:
        data = path.read_bytes()
        arrays = safetensors.numpy.load(data)
        with safetensors.safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata["jaxcodec"])
        codec, quality, config = header["codec"], int(header["quality"]), dict(header["config"])
        known = header["format"] == _FORMAT
        flat = {k[7:]: v.astype(np.float32) for k, v in arrays.items() if k.startswith("params/")}
        params = unflatten(flat)
    except OSError as error:
        raise WrongWeights(f"{path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WrongWeights(
            f"{path} is not a jaxcodec weight file; scripts/export_weights.py makes one"
        ) from error
    if not known:
        raise WrongWeights(f"{path} has weight format {header['format']}; this version reads {_FORMAT}")
    tables = {k[7:]: v for k, v in arrays.items() if k.startswith("tables/")}
    if "params_of" in header:
        owner = path.with_name(f"{codec}-{header['params_of']}.safetensors")
        if not owner.exists():
            owner = owner.with_suffix(_QUANTISED)
        if owner == path or not owner.exists():
            owner = owner.with_suffix(".safetensors")
            raise WrongWeights(
                f"{path} holds tables for the network in {owner.name}; put that file beside it"
            )
        # Before it is read: a damaged file might name this one as its owner.
        if hash_of(owner.read_bytes()).hex() != header["params_of"]:
            raise WrongWeights(f"{owner} is damaged: its content does not have the hash in its name")
        params = load_weights(owner).params
    return Weights(codec, quality, config, params, tables, hash_of(data), path)


def _load_quantised(path: Path) -> Weights:
    try:
        data = path.read_bytes()
        artefact = read_artefact(data, name=str(path))
        params = unflatten(artefact.parameters())
        quality, network = int(artefact.config["quality"]), dict(artefact.config["network"])
    except OSError as error:
        raise WrongWeights(f"{path}: {error.strerror or error}") from error
    except (JaxcodecError, KeyError, ValueError, TypeError) as error:
        raise WrongWeights(f"{path} is no quantised network: {error}") from error
    return Weights(artefact.architecture, quality, network, params, {}, hash_of(data), path)


def read_ladder(path: Path) -> list[tuple[int, float]]:
    """The qualities that a weight file serves, in hundredths, each with its mean rate on training photos in bpp.

    A file without a ladder of them has one, of unknown rate (NaN). Nothing else of the file is read.

    Raises
    ------
    WrongWeights
        As `load_weights`.
    """
    with _opened(path) as file:
        if not _in_ladder(file):
            quality = int(json.loads((file.metadata() or {})["jaxcodec"])["quality"])
            return [(max(1, 100 * quality), float("nan"))]
        qualities = file.get_tensor("tables/ladder_qualities")
        rates = file.get_tensor("tables/ladder_bpp")
        return [(int(quality), float(rate)) for quality, rate in zip(qualities, rates, strict=True)]


def has_ladder(path: Path) -> bool:
    """Whether a weight file serves a ladder of qualities; raises as `read_ladder`."""
    if path.suffix == _QUANTISED:
        return False
    with _opened(path) as file:
        return _in_ladder(file)


def _in_ladder(file: Any) -> bool:
    return "tables/ladder_qualities" in file.keys()  # noqa: SIM118 (it is not a mapping)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open safetensors file; what goes wrong with it is a `WrongWeights`."""
    if path.suffix == _QUANTISED and path.exists():
        raise WrongWeights(
            f"{path} has no coding tables; scripts/make_ladder.py makes the file that goes with it"
        )
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            yield file
    except OSError as error:
        raise WrongWeights(f"{path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WrongWeights(
            f"{path} is not a jaxcodec weight file; scripts/export_weights.py makes one"
        ) from error
