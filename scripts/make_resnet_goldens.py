r"""Write tests/golden/resnet.json: logits of torchvision's ResNets with random weights on a random picture.

python scripts/make_resnet_goldens.py --output=tests/golden/resnet.json

Needs torch and torchvision, which nothing else does. Weights and picture are drawn from the names, by `draw`, so that
only logits have to be stored.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PICTURE = (1, 3, 70, 57)
KEPT = 24


def draw(name: str, shape: Sequence[int]) -> np.ndarray:
    """An array as a trained network might have it, float32, that depends on the name and the shape only."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        return rng.uniform(0.5, 1.0, shape).astype(np.float32)
    deviation = math.sqrt(1.0 / math.prod(shape[1:])) if len(shape) > 1 and leaf == "weight" else 0.1
    deviation = 1.0 if name == "picture" else deviation
    return (deviation * rng.standard_normal(shape)).astype(np.float32)


def main() -> None:
    """Compute and write."""
    import torch  # pyrefly: ignore[missing-import]
    import torchvision  # pyrefly: ignore[missing-import]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    origin = (
        f"torchvision {torchvision.__version__}, torch {torch.__version__}, scripts/make_resnet_goldens.py"
    )
    results: dict[str, object] = {"origin": origin}
    for depth, build in ((18, torchvision.models.resnet18), (50, torchvision.models.resnet50)):
        network = build(weights=None).eval()
        state = {
            name: torch.from_numpy(draw(name, tuple(value.shape)))
            for name, value in network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        network.load_state_dict(state, strict=False)
        with torch.no_grad():
            logits = network(torch.from_numpy(draw("picture", PICTURE)))[0].numpy().astype(np.float64)
        results[str(depth)] = {
            "shapes": {name: list(value.shape) for name, value in state.items()},
            "logits": [round(float(value), 6) for value in logits[:KEPT]],
            "mean": float(logits.mean()),
            "deviation": float(logits.std()),
        }
    output.write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
