r"""Turn a ResNet-18 or ResNet-50 with torchvision's names into a weight file.

python scripts/convert_resnet.py --weights=resnet50.safetensors --depth=50

The input is a .safetensors or a .npz file with arrays named `conv1.weight`, `layer1.0.bn1.running_mean`, ...; PyTorch
is not needed. The file has float16 arrays `params/...` and `batch_stats/...`, which `ResNet(depth).apply(variables, x)`
takes and `jaxcodec.zoo.weights.load_weights(path).params` reads them. No weights are shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from absl import app, flags

from jaxcodec.layers.resnet import from_torchvision
from jaxcodec.zoo.weights import save_weights

_WEIGHTS = flags.DEFINE_string("weights", None, "The .safetensors or .npz file.", required=True)
_DEPTH = flags.DEFINE_enum("depth", "50", ["18", "50"], "Which network it is.")
_OUTPUT = flags.DEFINE_string("output", "weights", "Folder for the weight file.")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors or .npz file by name."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    return safetensors.numpy.load_file(path)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    variables = from_torchvision(read_arrays(Path(_WEIGHTS.value)), depth=18 if _DEPTH.value == "18" else 50)
    name = f"resnet{_DEPTH.value}"
    path = save_weights(Path(_OUTPUT.value), codec=name, quality=0, config={}, params=variables, tables={})
    print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    app.run(main)
