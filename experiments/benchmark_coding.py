r"""Encode and decode times per Kodak picture, beside CompressAI's bmshj2018-factorized, in one run.

python experiments/benchmark_coding.py --compressai_python=PYTHON --output=results/coding_speed.json

Both run the four-stage network with N=128, M=192 and random weights (times do not depend on their values, and
random weights give both about the same number of bytes to code), from decoded pixels to file bytes and back,
on the same cores. The two take turns, picture by picture, so a drift of the machine's speed hits both. CompressAI
runs in a process of its own, under a Python that has it (`pip install compressai`); without
`--compressai_python` only ours are timed. balle2017 is listed with the zoo's weights, or random ones.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jaxcodec.codecs.balle2017 import TransformCodec
from jaxcodec.codecs.balle2017.export import export
from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.codecs.registry import load
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.zoo import manifest

_IMAGES = flags.DEFINE_string("images", "data/kodak", "Folder of pictures.")
_COMPRESSAI = flags.DEFINE_string(
    "compressai_python", None, "A Python interpreter that can import compressai."
)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Times each picture is coded; its median counts.", lower_bound=1)
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many pictures.")
_OUTPUT = flags.DEFINE_string("output", None, "Also write the figures as JSON.")

# Runs under the other interpreter: reads picture paths, answers encode and decode seconds and bytes.
_PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, torch, compressai
from PIL import Image
from compressai.models import FactorizedPrior
torch.manual_seed(0)
model = FactorizedPrior(128, 192).eval()
model.update(force=True)
print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        pixels = np.asarray(Image.open(line.strip()).convert("RGB")).copy()
        start = time.perf_counter()
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        coded = model.compress(x)
        middle = time.perf_counter()
        decoded = model.decompress(**coded)["x_hat"]
        (decoded.clamp(0, 1) * 255).round().to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()
        end = time.perf_counter()
        print(json.dumps([middle - start, end - middle, len(coded["strings"][0][0])]), flush=True)
"""


class _Peer:
    """CompressAI in a process of its own."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, "-c", _PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self._answer()

    def __call__(self, path: Path) -> tuple[float, float, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path.resolve()}\n")
        self._process.stdin.flush()
        encode, decode, size = self._answer()
        return encode, decode, size

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise app.UsageError(f"{_COMPRESSAI.value} cannot run compressai; its message is above")
        return json.loads(line)


def _random_codec(config: TransformConfig, name: str, folder: Path) -> TransformCodec:
    coder = TransformCoder(config)
    params = coder.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), quantise=jnp.round)["params"]
    path = export(folder, codec=name, quality=1, config=config, params=params)
    return TransformCodec(name, {1: path})


def _timed(codec: Any) -> Callable[[Path], tuple[float, float, int]]:
    def run(path: Path) -> tuple[float, float, int]:
        pixels = read_image(path).pixels
        start = time.perf_counter()
        data = codec.encode(pixels)
        middle = time.perf_counter()
        codec.decode(data)
        return middle - start, time.perf_counter() - middle, len(data)

    return run


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    paths = list_images(_IMAGES.value)[: _LIMIT.value]
    with tempfile.TemporaryDirectory() as folder:
        four_stage = TransformConfig("bmshj2018", 128, 192)
        trained = bool(manifest.qualities("balle2017"))
        three_stage = TransformConfig("bls2017", 128, 192)
        if trained:
            three_stage = TransformConfig(**_config_of(manifest.current("balle2017")[-1].file))
        balle = load("balle2017") if trained else _random_codec(three_stage, "balle2017", Path(folder))
        contestants: dict[str, Callable[[Path], tuple[float, float, int]]] = {
            "jaxcodec bmshj2018 N=128 M=192": _timed(_random_codec(four_stage, "bmshj2018", Path(folder))),
            f"jaxcodec balle2017 N={three_stage.channels} M={three_stage.latent_channels}": _timed(balle),
        }
        macs = dict(
            zip(
                contestants,
                (sum(four_stage.macs_per_pixel()), sum(three_stage.macs_per_pixel())),
                strict=True,
            )
        )
        versions: dict[str, Any] = {"jax": jax.__version__, "cores": len(os.sched_getaffinity(0))}
        peer = "compressai bmshj2018-factorized N=128 M=192"
        if _COMPRESSAI.value:
            contestants[peer] = _Peer(_COMPRESSAI.value)
            versions |= contestants[peer].versions
            macs[peer] = macs["jaxcodec bmshj2018 N=128 M=192"]
        times: dict[str, list[np.ndarray]] = {name: [] for name in contestants}
        for path in {read_image(path).pixels.shape: path for path in paths}.values():
            for run in contestants.values():  # compiles, once per window shape
                run(path)
        for path in paths:
            rounds = [
                {name: _rested(run, path) for name, run in contestants.items()} for _ in range(_ROUNDS.value)
            ]
            for name in contestants:
                times[name].append(np.median([r[name] for r in rounds], axis=0))
    _report(times, macs, versions, peer, len(paths))


def _rested(run: Callable[[Path], tuple[float, float, int]], path: Path) -> tuple[float, float, int]:
    """Run after a pause: the threads of who ran before spin on for a while, on the same cores."""
    time.sleep(0.3)
    return run(path)


def _config_of(path: Path) -> dict[str, Any]:
    from jaxcodec.zoo.weights import load_weights

    return load_weights(path).config


def _report(
    times: dict[str, list[np.ndarray]],
    macs: dict[str, float],
    versions: dict[str, Any],
    peer: str,
    pictures: int,
) -> None:
    rows = []
    print(f"{pictures} pictures, median of {_ROUNDS.value} per picture, {platform.machine()}, {versions}")
    print(f"{'codec':45} {'encode s':>9} {'decode s':>9} {'kMAC/px':>8} {'bytes':>8}")
    for name, values in times.items():
        encode, decode, size = np.median(np.array(values), axis=0)
        rows.append(
            {
                "name": name,
                "encode_s": encode,
                "decode_s": decode,
                "kmac_per_pixel": macs[name] / 1e3,
                "bytes": size,
            }
        )
        print(f"{name:45} {encode:9.3f} {decode:9.3f} {macs[name] / 1e3:8.1f} {size:8.0f}")
    if peer in times:
        ours = np.array(times["jaxcodec bmshj2018 N=128 M=192"]) / np.array(times[peer])
        encode, decode = np.median(ours[:, :2], axis=0)
        print(
            f"bmshj2018, ours / CompressAI's, median over pictures: encode {encode:.2f}, decode {decode:.2f}"
        )
        rows.append({"name": "ratio bmshj2018 ours / CompressAI", "encode": encode, "decode": decode})
    if _OUTPUT.value:
        text = json.dumps({"versions": versions, "pictures": pictures, "rows": rows}, indent=1)
        write_bytes(_OUTPUT.value, text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
