"""Write tests/golden/metrics.json: SSIM and MS-SSIM of some picture pairs as pytorch-msssim computes them.

    python3.11 -m venv reference
    reference/bin/pip install torch pytorch-msssim pillow numpy absl-py
    reference/bin/python scripts/make_metric_goldens.py

The pairs are crops of the Kodak pictures and distortions in integer arithmetic, so that every machine gets
the same ones; the tests build them with `picture_pair`.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """A crop of a Kodak picture and what is done to it.

    Attributes
    ----------
    picture
        File name in data/kodak.
    crop
        Top, left, height and width in pixels.
    distortion
        One of the names in `picture_pair`.
    """

    picture: str
    crop: tuple[int, int, int, int]
    distortion: str


CASES = {
    "whole picture, 16 levels": Case("kodim23.png", (0, 0, 512, 768), "posterise16"),
    "256 x 256, 8 levels": Case("kodim05.png", (100, 200, 256, 256), "posterise8"),
    "256 x 320, 2 x 2 means": Case("kodim13.png", (64, 32, 256, 320), "halved"),
    "odd sides at every scale, 4 x 4 means": Case("kodim19.png", (11, 13, 177, 209), "quartered"),
    "odd height, noise": Case("kodim08.png", (0, 0, 255, 192), "noise"),
    "smallest size, shifted by a pixel": Case("kodim21.png", (150, 300, 161, 161), "shifted"),
    "darker": Case("kodim16.png", (40, 40, 200, 200), "darker"),
    "negative": Case("kodim01.png", (0, 0, 200, 240), "negative"),
    "grey, 8 levels": Case("kodim22.png", (30, 60, 222, 174), "grey posterise8"),
}


def picture_pair(case: Case, folder: Path = ROOT / "data" / "kodak") -> tuple[np.ndarray, np.ndarray]:
    """Return the crop and its distorted copy, uint8 `[H, W, 3]`, or `[H, W]` for "grey ..."."""
    top, left, height, width = case.crop
    with Image.open(folder / case.picture) as opened:
        picture = np.asarray(opened.convert("RGB"))[top : top + height, left : left + width].astype(np.int64)
    distortion = case.distortion
    if distortion.startswith("grey "):
        picture, distortion = picture.sum(axis=2) // 3, distortion.removeprefix("grey ")
    rows, columns = np.arange(picture.shape[0]), np.arange(picture.shape[1])
    if distortion.startswith("posterise"):
        step = 256 // int(distortion.removeprefix("posterise"))
        distorted = picture // step * step + step // 2
    elif distortion in ("halved", "quartered"):
        size = 2 if distortion == "halved" else 4
        # The mean of each block's corners, repeated over the block; blocks at the edge may be cut.
        far_rows = np.minimum(rows // size * size + size - 1, rows[-1])
        far_columns = np.minimum(columns // size * size + size - 1, columns[-1])
        near = picture[rows // size * size][:, columns // size * size]
        distorted = (near + picture[far_rows][:, far_columns]) // 2
    elif distortion == "noise":
        # A multiplicative hash of the position: no library's generator needs to stay the same.
        position = np.arange(picture.size, dtype=np.uint64).reshape(picture.shape)
        mixed = (position * np.uint64(2654435761)) % np.uint64(2**32)
        distorted = picture + (mixed // np.uint64(2**16) % np.uint64(61)).astype(np.int64) - 30
    elif distortion == "shifted":
        distorted = np.roll(picture, 1, axis=1)
    elif distortion == "darker":
        distorted = picture * 3 // 5
    elif distortion == "negative":
        distorted = 255 - picture
    else:
        raise ValueError(f"no distortion {case.distortion!r}")
    return picture.astype(np.uint8), np.clip(distorted, 0, 255).astype(np.uint8)


def measure(reference: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """SSIM, MS-SSIM and the norm of the latter's gradient by the test picture, in float64 on `[0, 255]`."""
    import pytorch_msssim  # pyrefly: ignore[missing-import]
    import torch  # pyrefly: ignore[missing-import]

    def planes(picture: np.ndarray) -> torch.Tensor:
        channels = picture[:, :, None] if picture.ndim == 2 else picture
        return torch.tensor(channels.transpose(2, 0, 1)[None].astype(np.float64))

    a, b = planes(reference), planes(test).requires_grad_(True)
    value = pytorch_msssim.ms_ssim(a, b, data_range=255)
    value.backward()
    return {
        "ssim": pytorch_msssim.ssim(a, b, data_range=255).item(),
        "ms_ssim": value.item(),
        "ms_ssim_gradient_norm": torch.linalg.vector_norm(b.grad).item(),
    }


def main(_: list[str]) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("pytorch-msssim", "torch", "numpy")}
    pairs = []
    for name, case in CASES.items():
        pairs.append({"name": name, **asdict(case), **measure(*picture_pair(case))})
    golden = {
        "origin": {
            "command": "python scripts/make_metric_goldens.py",
            "packages": versions,
            "note": "float64, data_range 255; the gradient is that of ms_ssim by the distorted picture",
        },
        "pairs": pairs,
    }
    Path(OUTPUT.value).write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    OUTPUT = flags.DEFINE_string(
        "output", str(ROOT / "tests" / "golden" / "metrics.json"), "Where to write the JSON."
    )
    app.run(main)
