"""The fixture networks of tests/golden (scripts/make_golden_files.py) as codecs, and pictures to code."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from jaxcodec.codecs.balle2017 import TransformCodec, TransformOptions
from jaxcodec.zoo.weights import Weights, load_weights

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
INDEX = json.loads((GOLDEN / "files.json").read_text(encoding="utf-8"))
NETWORKS = tuple(INDEX["weights"])


def weights_path(network: str) -> Path:
    return GOLDEN / "weights" / INDEX["weights"][network]


def fixture_weights(network: str) -> Weights:
    return load_weights(weights_path(network))


def fixture_codec(network: str, **options) -> TransformCodec:
    """A codec with this network only."""
    weights = fixture_weights(network)
    return TransformCodec(weights.codec, {weights.quality: weights.path}, options=TransformOptions(**options))


def golden_file(name: str) -> bytes:
    return (GOLDEN / "files" / f"{name}.jxc").read_bytes()


def photo(height: int, width: int, *, name: str = "kodim20.png", top: int = 0, left: int = 0) -> np.ndarray:
    """A part of a Kodak picture, uint8 `[height, width, 3]`; mirrored on where it is too small."""
    with Image.open(ROOT / "data" / "kodak" / name) as picture:
        part = np.asarray(picture.convert("RGB"))[top : top + height, left : left + width]
    while part.shape[:2] != (height, width):
        missing = [min(want - have, have) for want, have in zip((height, width), part.shape[:2], strict=True)]
        part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return part


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference of two uint8 pictures of one shape."""
    assert a.dtype == b.dtype == np.uint8
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())
