"""The training commands of the compressive autoencoder as a user runs them: train, resume, export, further rates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jaxcodec.training", reason="training needs jaxcodec[train]", exc_type=ImportError)

import jaxcodec
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.zoo.weights import load_weights, round_params

ROOT = Path(__file__).parents[2]
NETWORK = ("--channels=4", "--latent_channels=4", "--crop_size=32", "--batch_size=2")


def run(module, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def trained(photos, workdir, *arguments):
    """The parameters and the step after a run."""
    flags = (f"--train_data={photos}", f"--workdir={workdir}", "--jax_disable_most_optimizations")
    done = run("experiments.theis2017", *flags, *NETWORK, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state, _ = checkpoints.read()
    return jax.tree.map(np.asarray, state["params"]), int(state["step"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (16, 18, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((160, 144), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def test_a_network_is_trained_resumed_exported_and_used_and_gets_scales_for_further_rates(photos, tmp_path):
    workdir, lambdas = tmp_path / "network", ("--lambdas=0.001,0.02", "--log_every=1")
    incremental = ("--incremental=2", "--plateau_window=1", "--plateau_threshold=0.99")
    before, step = trained(photos, workdir, *lambdas, *incremental, "--steps=2")
    assert step == 2
    params, step = trained(photos, workdir, *lambdas, *incremental, "--steps=4")
    assert step == 4
    # The second loss is not 99 % below the first: two channels, then all four.
    assert (float(before["enabled"]), float(params["enabled"])) == (4, 4)
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "bpp" in row] == [1, 2, 3, 4]
    assert rows[0]["enabled"] == 2
    assert not np.array_equal(before["log_scales"], params["log_scales"])

    exporting = (f"--workdir={workdir}", f"--train_data={photos}", f"--output={tmp_path}")
    exported = run("scripts.export_weights", *exporting, "--classes=1", "--last")
    assert exported.returncode == 0, exported.stderr[-2000:]
    (weights,) = tmp_path.glob("theis2017-*.safetensors")
    image = np.asarray(Image.open(photos / "0.png"))
    codec = jaxcodec.load("theis2017", weights=weights)
    assert len(codec.qualities) > 5
    low, high = (codec.encode(image, quality=codec.qualities[i]) for i in (0, -1))
    assert len(low) < len(high)
    decoded = jaxcodec.decode(high, weights=weights)
    # Four updates after a start from principal components: no longer just the mean.
    assert np.mean((decoded.astype(float) - image) ** 2) < 0.75 * image.astype(float).var()

    # The paper's way to further rates: only the scales are trained, the rest is that of the file.
    further, scales = tmp_path / "further", ("--train=scales", f"--init_weights={weights}")
    warm, _ = trained(photos, further, "--lambdas=0.002,0.01,0.05", *scales, "--steps=2")
    start = load_weights(weights).params
    for part in ("analysis", "synthesis"):
        jax.tree.map(np.testing.assert_array_equal, warm[part], round_params(params)[part])
    # The nearest of the old rates, in the logarithm: 0.001, then 0.02 twice.
    nearest, change = [0, 1, 1], 0.5 * np.log(np.array([0.002 / 0.001, 0.01 / 0.02, 0.05 / 0.02]))
    for name, value in start["prior"].items():
        np.testing.assert_array_equal(warm["prior"][name], value[nearest])
    begun = start["log_scales"][nearest] + change[:, None]
    moved = np.abs(warm["log_scales"] - begun)
    assert warm["log_scales"].shape == (3, 4)
    assert (moved > 0).any()
    assert moved.max() < 0.01


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--steps=1", "--crop_size=36"), "--crop_size=36 is not a multiple of 8"),
        (("--steps=1", "--train=scales"), "--train=scales needs the trained network: give --init_weights"),
        (("--steps=1", "--lambdas=0.02,0.01"), "lambdas must be positive and ascending"),
    ],
)
def test_a_wrong_command_ends_with_a_sentence_and_no_traceback(photos, tmp_path, arguments, said):
    workdir = tmp_path / "run"
    done = run("experiments.theis2017", f"--train_data={photos}", f"--workdir={workdir}", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not workdir.exists()
