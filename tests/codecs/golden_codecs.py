"""The fixture networks of tests/golden (scripts/make_golden_files.py) as codecs, and pictures to code."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxcodec.codecs.balle2017 import TransformCodec, TransformOptions
from jaxcodec.codecs.balle2017 import model as balle2017
from jaxcodec.codecs.theis2017 import AutoencoderCodec
from jaxcodec.codecs.theis2017 import model as theis2017
from jaxcodec.codecs.transform import TransformCoder
from jaxcodec.coding.classes import ClassTables
from jaxcodec.coding.ladder import Ladder
from jaxcodec.coding.rate_distortion import quantise_for_rate
from jaxcodec.coding.tables import CodingTables
from jaxcodec.zoo.weights import Weights, load_weights

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
INDEX = json.loads((GOLDEN / "files.json").read_text(encoding="utf-8"))
NETWORKS = tuple(INDEX["weights"])


def weights_path(network: str) -> Path:
    return GOLDEN / "weights" / INDEX["weights"][network]


@cache
def fixture_weights(network: str) -> Weights:
    return load_weights(weights_path(network))


def fixture_codec(network: str, **options) -> TransformCoder:
    """A codec with this network only."""
    weights, chosen = fixture_weights(network), TransformOptions(**options)
    if weights.codec == "theis2017":
        return AutoencoderCodec(weights.codec, [weights.path], options=chosen)
    return TransformCodec(weights.codec, {weights.quality: weights.path}, options=chosen)


class Rung(NamedTuple):
    """What a network codes its latents with: the number in the header, steps `[C]`, tables, the encoder's weight."""

    number: int
    steps: np.ndarray
    tables: ClassTables
    weight: float


@cache
def fixture_rung(network: str, quality: float | None = None) -> Rung:
    """The rung of a quality, the default one when not given; what a network without a ladder has for its only one."""
    weights = fixture_weights(network)
    if "ladder_steps" not in weights.tables:
        tables = CodingTables.from_arrays(weights.tables)
        plain = ClassTables((tables,), 1, np.empty((0, 1), np.uint32))
        return Rung(weights.quality, np.ones(tables.channels, np.float32), plain, 0.0)
    ladder = Ladder.from_arrays(weights.tables)
    number = round(100 * (fixture_codec(network).default_quality if quality is None else quality))
    rung = ladder.qualities.tolist().index(number)
    return Rung(number, ladder.steps[rung], ladder.tables[rung], float(ladder.weights[rung]))


def least_stride(network: str) -> int:
    """Pixels per latent."""
    return theis2017.STRIDE if network == "theis2017" else balle2017.STRIDE


@cache
def _network(network: str):
    """Analysis of whole pictures and synthesis of whole latents, `[1, H, W, C]` each, without windows or masks."""
    weights = fixture_weights(network)
    if weights.codec == "theis2017":
        config, model = theis2017.AutoencoderConfig(**weights.config), theis2017
    else:
        config, model = balle2017.TransformConfig(**weights.config), balle2017

    @jax.jit
    def analyse(pixels):
        return model.Analysis(config).apply({"params": weights.params["analysis"]}, pixels)

    @jax.jit
    def synthesise(latents):
        x = model.Synthesis(config).apply({"params": weights.params["synthesis"]}, latents)
        return jnp.round(jnp.clip(x, 0, 1) * 255).astype(jnp.uint8)

    return analyse, synthesise


def untiled_symbols(network: str, image: np.ndarray) -> np.ndarray:
    """The symbols `[h, w, C]` of a colour picture in one piece at the default quality."""
    sides = [(0, -n % least_stride(network)) for n in image.shape[:2]]
    if network == "theis2017":  # mirrored, 10 pixels before and 11 after whole latents
        sides = [(10, 11 + missing) for _, missing in sides]
        whole = np.pad(image, (*sides, (0, 0)), mode="symmetric")
    else:
        whole = np.pad(image, (*sides, (0, 0)), mode="edge")
    rung = fixture_rung(network)
    latents = np.asarray(_network(network)[0](jnp.asarray(whole[None], jnp.float32) / 255))[0] / rung.steps
    if rung.weight:
        return quantise_for_rate(latents, rung.tables, rung.weight)
    return np.rint(latents).astype(np.int32)


def untiled_picture(network: str, symbols: np.ndarray, height: int, width: int) -> np.ndarray:
    """What symbols at the default quality decode to in one piece, uint8 `[height, width, 3]`."""
    latents = jnp.asarray((symbols * fixture_rung(network).steps)[None], jnp.float32)
    return np.asarray(_network(network)[1](latents)[0])[:height, :width]


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


def assert_nearly_the_same_symbols(actual: np.ndarray, expected: np.ndarray) -> None:
    """DESIGN 10: at most 1e-4 of the symbols differ (or one, in a small picture), each by 1."""
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(np.int64) - expected)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= max(1, 1e-4 * difference.size)
