"""The training command as a user runs it: train, export, encode with the new weights; and its refusals."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jaxcodec.training", reason="training needs jaxcodec[train]", exc_type=ImportError)

import jaxcodec
from experiments.balle2017 import RateDistortion, scale_latents
from jaxcodec.codecs.balle2017.model import TransformConfig

ROOT = Path(__file__).parents[2]


def run(module, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def test_weights_of_ones_own_training_encode_and_decode(photos, tmp_path):
    network = ("--channels=4", "--latent_channels=6", "--crop_size=64", "--batch_size=2")
    # Three updates are not worth optimising a program for.
    flags = (
        f"--train_data={photos}",
        f"--workdir={tmp_path}",
        "--steps=3",
        "--jax_disable_most_optimizations",
    )
    trained = run("experiments.balle2017", *flags, *network)
    assert trained.returncode == 0, trained.stderr[-2000:]
    # The flags are told, those of the network and those of the loop, given and default ones.
    for flag in ("--channels=4", "--steps=3", "--lambda=0.013", "--learning_rate=0.0001"):
        assert f"\n  {flag}\n" in trained.stderr
    exported = run("scripts.export_weights", f"--workdir={tmp_path}", "--quality=2", f"--output={tmp_path}")
    assert exported.returncode == 0, exported.stderr[-2000:]
    (weights,) = tmp_path.glob("balle2017-*.safetensors")
    image = np.asarray(Image.open(photos / "0.png"))
    codec = jaxcodec.load("balle2017", weights=weights)
    assert codec.qualities == (2,)
    decoded = jaxcodec.decode(codec.encode(image), weights=weights)
    assert decoded.shape == image.shape
    # Three updates of six latents after a start from principal components: no longer just the mean.
    error = np.mean((decoded.astype(float) - image) ** 2)
    assert error < 0.75 * image.astype(float).var()


def small_picture(folder):
    Image.fromarray(np.zeros((40, 300, 3), np.uint8)).save(folder / "small.png")
    return folder


@pytest.mark.parametrize("loading", ["resident", "stream"])
@pytest.mark.parametrize(
    ("data", "more", "said"),
    [
        (lambda folder: folder / "nowhere", (), "nowhere: there is no such folder"),
        (lambda folder: folder, (), "no pictures here"),
        (small_picture, ("--crop_size=64",), "--crop_size"),
    ],
    ids=["no folder", "empty folder", "small picture"],
)
def test_data_that_cannot_be_trained_on_are_refused_with_a_sentence(tmp_path, loading, data, more, said):
    place, workdir = data(tmp_path), tmp_path / "run"
    done = run(
        "experiments.balle2017",
        *(f"--train_data={place}", f"--workdir={workdir}", "--steps=1", f"--data_loading={loading}", *more),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "exactly one of --steps and --max_seconds"),
        (("--steps=1", "--crop_size=40"), "--crop_size=40 is not a multiple of 16"),
        (("--steps=10", "--steps_per_call=4"), "steps 10 is not a multiple of steps_per_call 4"),
        (("--steps=1", "--init_weights=nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_a_wrong_command_ends_with_a_sentence_and_no_traceback(photos, tmp_path, arguments, said):
    network = ("--channels=4", "--crop_size=64") if "--crop_size=40" not in arguments else ()
    done = run(
        "experiments.balle2017",
        f"--train_data={photos}",
        f"--workdir={tmp_path / 'run'}",
        *network,
        *arguments,
    )
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_scaling_the_latents_scales_them_and_changes_nothing_else(key):
    config = TransformConfig("bls2017", 6, 5)
    task = RateDistortion(config, 0.01)
    # A density stretched by 3 is a third as high: compared where it is smooth.
    spread = jnp.linspace(-5, 5, 20).reshape(1, 2, 2, 5)

    @jax.jit
    def latents_picture_and_likelihoods(params, x, spread):
        coded = task.coder.apply({"params": params}, x, quantise=lambda latents: latents)
        prior = task.coder.apply({"params": params}, spread, method=lambda module, y: module.prior(y))
        return task.coder.apply({"params": params}, x, method="analyse"), coded[0], prior

    params = jax.jit(task.init)(key)
    x = jax.random.uniform(key, (1, 64, 64, 3))
    y, back, high = latents_picture_and_likelihoods(params, x, spread)
    scaled = latents_picture_and_likelihoods(scale_latents(params, config, 3.0), x, 3.0 * spread)
    np.testing.assert_allclose(scaled[0], 3.0 * y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scaled[1], back, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(3.0 * scaled[2], high, rtol=0.02)
