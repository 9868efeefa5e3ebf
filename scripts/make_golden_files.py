r"""Make the tiny fixture networks of the tests and write golden `.jxc` files with them.

    python -m scripts.make_golden_files

fills tests/golden/weights (networks of 8 channels, trained for a minute on synthetic textures; that of theis2017 as
it starts from principal components, with a ladder of qualities), tests/golden/files (`.jxc` files, and the pictures
they decode to) and tests/golden/files.json. Files of an earlier version have to decode for ever, so whatever exists
is kept: the script only adds what is missing.
`--overwrite` begins anew, which is right only before anything has been released.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from PIL import Image

from experiments.balle2017 import RateDistortion
from jaxcodec.codecs.balle2017.export import export
from jaxcodec.codecs.balle2017.model import TransformConfig
from jaxcodec.codecs.coconet import CocoNetOptions, FitSettings, NetworkConfig
from jaxcodec.codecs.fmm import FMMOptions
from jaxcodec.codecs.ladders import LadderConfig
from jaxcodec.codecs.registry import load
from jaxcodec.codecs.theis2017.export import export as export_theis2017
from jaxcodec.codecs.theis2017.initialise import from_principal_components
from jaxcodec.codecs.theis2017.model import Autoencoder, AutoencoderConfig
from jaxcodec.codecs.transform import TransformCoder
from jaxcodec.coding.classes import ClassTables, encode_by_class
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import Header, pack
from jaxcodec.coding.ladder import Ladder
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables
from jaxcodec.data.crops import random_crops, store_photos
from jaxcodec.training.loop import LoopConfig, train
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.source import ResidentSource
from jaxcodec.zoo.weights import Weights, load_weights

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"

_OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace golden files that exist: old ones are then lost."
)
_TRAIN_STEPS = flags.DEFINE_integer("train_steps", 1500, "Updates per fixture network.", lower_bound=100)


@dataclass(frozen=True)
class Network:
    """A fixture network.

    Attributes
    ----------
    name
        Its key in files.json.
    codec, quality
        What its weight file says.
    config
        Its layers and prior.
    weight
        lambda of its training.
    """

    name: str
    codec: str
    quality: int
    config: TransformConfig
    weight: float


NETWORKS = (
    Network("bls2017", "balle2017", 1, TransformConfig("bls2017", 8, 8, "deep_factorized"), 0.01),
    Network("paper", "balle2017", 2, TransformConfig("paper", 8, 8, "piecewise_linear"), 0.03),
    Network("bmshj2018", "bmshj2018", 1, TransformConfig("bmshj2018", 6, 8, "deep_factorized"), 0.02),
)

THEIS2017 = AutoencoderConfig(channels=12, latent_channels=8, blocks=1, scales=3, lambdas=(0.0003, 0.01))
"""The fixture network with a ladder, under its codec's name."""


@dataclass(frozen=True)
class Case:
    """A golden file.

    Attributes
    ----------
    name
        Of the file, without its ending.
    network
        Name of the network that writes it.
    source
        File name in data/kodak.
    crop
        Top, left, height and width.
    grey
        Whether the picture is grey.
    quality
        For a network with a ladder; its default where None.
    change
        Applied to the latents before they are coded, given the first and the last symbol in any table of each
        channel.
    with_picture
        Whether the decoded picture is part of the promise.
    """

    name: str
    network: str
    source: str
    crop: tuple[int, int, int, int]
    grey: bool = False
    quality: float | None = None
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None
    with_picture: bool = True


def just_outside(symbols: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Put symbols 1 to 12 below and above their tables: escapes that a hard picture could cause."""
    channel = np.arange(symbols.shape[2])
    symbols = symbols.copy()
    symbols[0, 0] = last + 1 + channel
    symbols[-1, -1] = first - 1 - channel // 2
    return symbols


def far_outside(symbols: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Put symbols at powers of two up to the ends of int32: no picture causes them, the format holds them."""
    del first, last
    symbols = symbols.copy()
    flat = symbols.reshape(-1)
    values = [sign * 2**k for k in range(31) for sign in (1, -1)] + [2**31 - 1, -(2**31)]
    flat[: len(values)] = np.array(values[: flat.size], np.int64).astype(np.int32)
    return symbols


CASES = (
    Case("bls2017_photo", "bls2017", "kodim23.png", (120, 250, 48, 64)),
    Case("paper_photo", "paper", "kodim23.png", (120, 250, 48, 64)),
    Case("bmshj2018_photo", "bmshj2018", "kodim23.png", (120, 250, 48, 64)),
    Case("bls2017_7x5", "bls2017", "kodim05.png", (200, 300, 5, 7)),
    Case("paper_7x5", "paper", "kodim05.png", (200, 300, 5, 7)),
    Case("bls2017_1x1", "bls2017", "kodim03.png", (100, 100, 1, 1)),
    Case("paper_grey", "paper", "kodim15.png", (100, 300, 37, 50), grey=True),
    Case("bls2017_escapes", "bls2017", "kodim08.png", (200, 200, 48, 64), change=just_outside),
    Case("paper_escapes", "paper", "kodim08.png", (200, 200, 48, 64), change=just_outside),
    Case(
        "bmshj2018_int32",
        "bmshj2018",
        "kodim08.png",
        (200, 200, 48, 64),
        change=far_outside,
        with_picture=False,
    ),
    Case("bls2017_two_windows", "bls2017", "kodim13.png", (250, 100, 40, 300)),
    Case("bmshj2018_two_windows", "bmshj2018", "kodim13.png", (100, 100, 275, 30)),
    Case("theis2017_photo", "theis2017", "kodim23.png", (120, 250, 48, 64)),
    Case("theis2017_7x5", "theis2017", "kodim05.png", (200, 300, 5, 7), quality=100.0),
    Case("theis2017_1x1", "theis2017", "kodim03.png", (100, 100, 1, 1)),
    Case("theis2017_grey", "theis2017", "kodim15.png", (100, 300, 37, 50), grey=True, quality=0.0),
    Case("theis2017_escapes", "theis2017", "kodim08.png", (200, 200, 48, 64), change=just_outside),
    Case("theis2017_two_windows", "theis2017", "kodim13.png", (250, 100, 40, 300), quality=100.0),
)


@dataclass(frozen=True)
class CaseWithoutWeights:
    """A golden file of `fmm` or `coconet`: source and crop as in `Case`, and the codec's options."""

    name: str
    source: str
    crop: tuple[int, int, int, int]
    options: FMMOptions | CocoNetOptions
    grey: bool = False

    @property
    def codec(self) -> str:
        """The name of the codec."""
        return "fmm" if isinstance(self.options, FMMOptions) else "coconet"


SHORT = FitSettings(steps=200, learning_rate=5e-3, cosine=True)
CASES_WITHOUT_WEIGHTS = (
    CaseWithoutWeights("fmm_photo", "kodim23.png", (120, 250, 48, 64), FMMOptions()),
    CaseWithoutWeights("fmm_7x5", "kodim05.png", (200, 300, 5, 7), FMMOptions(modulus=2)),
    CaseWithoutWeights("fmm_1x1", "kodim03.png", (100, 100, 1, 1), FMMOptions(modulus=9)),
    CaseWithoutWeights("fmm_flat", "kodim15.png", (100, 300, 13, 21), FMMOptions(stage="flat")),
    CaseWithoutWeights(
        "fmm_entropy", "kodim15.png", (100, 300, 37, 50), FMMOptions(stage="block_entropy"), grey=True
    ),
    CaseWithoutWeights("fmm_predictive", "kodim08.png", (200, 200, 40, 45), FMMOptions(3, "predictive")),
    CaseWithoutWeights(
        "coconet_sine",
        "kodim23.png",
        (120, 250, 48, 64),
        CocoNetOptions(
            network=NetworkConfig(width=12, depth=3, activation="sine", inputs="xy"), settings=SHORT
        ),
    ),
    CaseWithoutWeights(
        "coconet_corner",
        "kodim15.png",
        (100, 300, 13, 41),
        CocoNetOptions(network=NetworkConfig(width=9, depth=2), bits=5, settings=SHORT),
        grey=True,
    ),
    CaseWithoutWeights(
        "coconet_fourier",
        "kodim05.png",
        (200, 300, 7, 5),
        CocoNetOptions(network=NetworkConfig(5, 1, inputs="fourier", octaves=3), bits=11, settings=SHORT),
    ),
)


def textured_picture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a picture, uint8 `[size, size, 3]`: coloured 1/f noise with some flat shapes before it."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    picture = np.zeros((size, size, 3))
    mixing = np.array([[1.0, 0.35, 0.1], [1.0, -0.1, 0.05], [1.0, -0.3, -0.3]])
    for k, steepness in enumerate(rng.uniform(1.0, 1.8, 3)):
        noise = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**steepness
        plane = np.fft.irfft2(noise, s=(size, size))
        picture += plane[..., None] / plane.std() * mixing[:, k]
    rows, columns = np.mgrid[:size, :size]
    for _ in range(12):
        row, column, radius, slope = (
            rng.uniform(0, size),
            rng.uniform(0, size),
            rng.uniform(4, 30),
            rng.normal(),
        )
        shape = np.abs(rows - row) + np.abs(slope) * np.abs(columns - column) < radius
        picture[shape] = 0.3 * picture[shape] + rng.normal(size=3)
    return np.clip(128 + 45 * picture, 0, 255).astype(np.uint8)


def make_theis2017(folder: Path) -> Path:
    """Export the network that training of theis2017 begins with."""
    rng = np.random.default_rng(2017)
    crops = np.stack([textured_picture(rng, 256) for _ in range(8)]).reshape(8, 2, 128, 2, 128, 3)
    crops = crops.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 128, 128, 3)
    x, rate = jnp.zeros((1, 32, 32, 3)), jnp.zeros(1, jnp.int32)
    init = Autoencoder(THEIS2017).init(jax.random.key(2017), x, rate, quantise=jnp.round, relax=jnp.round)
    params = from_principal_components(init["params"], crops, THEIS2017)
    ladder = LadderConfig(classes=3, block=2, spacing=10)
    return export_theis2017(folder, config=THEIS2017, params=params, crops=list(crops), ladder=ladder)[0]


def make_weights(network: Network, folder: Path, steps: int) -> Path:
    """Train a network on the CPU with the library's own loop, and export it."""
    rng = np.random.default_rng(2017)
    store = store_photos([textured_picture(rng, 256) for _ in range(16)], crop_size=64)
    task = RateDistortion(network.config, network.weight, density_rate=0.2)
    loop = LoopConfig(
        steps=steps, schedule=Schedule(peak=3e-3), ema_decay=0.99, log_every=250, save_every=steps, seed=2017
    )
    with tempfile.TemporaryDirectory() as workdir:
        source = ResidentSource(store, partial(random_crops, batch_size=8, crop_size=64), batch_size=8)
        state = train(task, source, loop, workdir)
        print(network.name, Path(workdir, "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    params: Any = jax.tree.map(np.asarray, state.ema_params)
    return export(folder, codec=network.codec, quality=network.quality, config=network.config, params=params)


def source_picture(case: Case | CaseWithoutWeights) -> np.ndarray:
    """Return the crop that a case codes, uint8 `[H, W, 3]` or `[H, W]`."""
    top, left, height, width = case.crop
    with Image.open(ROOT / "data" / "kodak" / case.source) as picture:
        box = picture.convert("L" if case.grey else "RGB").crop((left, top, left + width, top + height))
        return np.asarray(box)


def make_file(case: Case, codec: TransformCoder, weights: Weights) -> bytes:
    """Return the `.jxc` file of a case."""
    image = source_picture(case)
    # The nearest that the network serves.
    wanted = codec.default_quality if case.quality is None else case.quality
    quality = min(max(wanted, codec.qualities[0]), codec.qualities[-1])
    if case.change is None:
        return codec.encode(image, quality=quality)
    number, tables = _number_and_tables(weights, quality)
    offsets = np.stack([each.offsets for each in tables.classes])
    lasts = offsets + np.stack([each.sizes for each in tables.classes]) - 1
    symbols = codec.latents([image], quality=quality)[0]
    header = Header(
        codec_id=codec_id(weights.codec),
        coder_id=get_coder().coder_id,
        weights_hash=weights.hash,
        width=image.shape[1],
        height=image.shape[0],
        channels=1 if image.ndim == 2 else 3,
        bit_depth=8,
        quality=number,
    )
    changed = case.change(symbols, offsets.min(axis=0), lasts.max(axis=0))
    return pack(header, [encode_by_class(changed, tables, get_coder())])


def _number_and_tables(weights: Weights, quality: float) -> tuple[int, ClassTables]:
    """What the header has for a quality, and what the latents are coded with."""
    if "ladder_steps" not in weights.tables:
        plain = CodingTables.from_arrays(weights.tables)
        return weights.quality, ClassTables((plain,), 1, np.empty((0, 1), np.uint32))
    ladder = Ladder.from_arrays(weights.tables)
    number = round(100 * quality)
    return number, ladder.tables[ladder.qualities.tolist().index(number)]


def record(case: Case, data: bytes, codec: TransformCoder, weights: Weights, folder: Path) -> dict[str, Any]:
    """Write a golden file, with its decoded picture, and return its row of files.json."""
    symbols = codec.decode_latents(data)
    image = codec.decode(data)
    (folder / f"{case.name}.jxc").write_bytes(data)
    if case.with_picture:
        Image.fromarray(image).save(folder / f"{case.name}.png", optimize=True)
    return {
        "weights": weights.path.name,
        "codec": weights.codec,
        "width": image.shape[1],
        "height": image.shape[0],
        "channels": 1 if image.ndim == 2 else 3,
        "sha256": hashlib.sha256(data).hexdigest(),
        "symbols_shape": list(symbols.shape),
        "symbols_sha256": hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest(),
        "picture": f"{case.name}.png" if case.with_picture else None,
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "numpy", "constriction")},
    }


def record_without_weights(case: CaseWithoutWeights, folder: Path) -> dict[str, Any]:
    """Write a golden file of a codec without weights, with its picture, and return its row of files.json."""
    codec = load(case.codec)
    data = codec.encode(source_picture(case), options=case.options)
    image = codec.decode(data)
    (folder / f"{case.name}.jxc").write_bytes(data)
    Image.fromarray(image).save(folder / f"{case.name}.png", optimize=True)
    return {
        "codec": codec.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "picture": f"{case.name}.png",
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "numpy", "constriction")},
    }


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    folder, index = GOLDEN / "files", GOLDEN / "files.json"
    if _OVERWRITE.value:
        for old in [index, *folder.glob("*"), *(GOLDEN / "weights").glob("*")]:
            old.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    golden: dict[str, Any] = {"weights": {}, "files": {}}
    if index.exists():
        golden = json.loads(index.read_text(encoding="utf-8"))
    for network in NETWORKS:
        if network.name not in golden["weights"]:
            path = make_weights(network, GOLDEN / "weights", _TRAIN_STEPS.value)
            golden["weights"][network.name] = path.name
    if "theis2017" not in golden["weights"]:
        golden["weights"]["theis2017"] = make_theis2017(GOLDEN / "weights").name
    for case in CASES:
        if case.name in golden["files"]:
            continue
        weights = load_weights(GOLDEN / "weights" / golden["weights"][case.network])
        codec: Any = load(weights.codec, weights=weights.path)
        row = record(case, make_file(case, codec, weights), codec, weights, folder)
        golden["files"][case.name] = row
        print(f"{case.name}: {(folder / case.name).with_suffix('.jxc').stat().st_size} bytes")
    without_weights = golden.setdefault("without_weights", {})
    for case in CASES_WITHOUT_WEIGHTS:
        if case.name not in without_weights:
            without_weights[case.name] = record_without_weights(case, folder)
    index.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
