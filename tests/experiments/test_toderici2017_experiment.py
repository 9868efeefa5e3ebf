"""From training to a file with the entropy coder, by the commands that a user runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jaxcodec.training", reason="training needs jaxcodec[train]", exc_type=ImportError)

import jaxcodec
from jaxcodec.coding.container import read_header

ROOT = Path(__file__).parents[2]


def run(module, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def exported(folder, *arguments):
    before = set(folder.glob("*.safetensors"))
    run("scripts.export_weights", f"--output={folder}", *arguments)
    (new,) = set(folder.glob("*.safetensors")) - before
    return new


def test_a_network_and_its_entropy_coder_are_trained_exported_and_used(tmp_path):
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((96, 80), Image.Resampling.BICUBIC)
        (tmp_path / "photos").mkdir(exist_ok=True)
        picture.save(tmp_path / "photos" / f"{i}.png")
    photos, network, coder = (tmp_path / name for name in ("photos", "network", "coder"))
    run(
        "experiments.toderici2017",
        *(f"--train_data={photos}", f"--workdir={network}", "--steps=2", "--batch_size=2"),
        *("--width=0.03125", "--iterations=2", "--framework=one_shot", "--jax_disable_most_optimizations"),
    )
    raw = exported(tmp_path, f"--workdir={network}")
    codes = tmp_path / "codes.npz"
    run("scripts.dump_codes", f"--weights={raw}", f"--images={photos}", f"--output={codes}", "--crop=64")
    assert np.load(codes)["codes"].shape == (3, 2, 4, 4, 4)
    run(
        "experiments.binary_rnn",
        *(f"--train_data={codes}", f"--workdir={coder}", "--steps=2", "--batch_size=2", "--depth=8"),
        *("--crop_size=4", "--holdout=1", "--jax_disable_most_optimizations"),
    )
    weights = exported(tmp_path, f"--workdir={network}", f"--coder_workdir={coder}")

    image = np.asarray(Image.open(photos / "0.png"))
    plain, coded = (jaxcodec.load("toderici2017", weights=path) for path in (raw, weights))
    a, b = plain.encode(image, quality=2), coded.encode(image, quality=2)
    assert (read_header(a).coder_id, read_header(b).coder_id) == (0, 1)
    np.testing.assert_array_equal(plain.decode_codes(a), coded.decode_codes(b))
    np.testing.assert_array_equal(plain.decode(a), coded.decode(b))
    np.testing.assert_array_equal(
        coded.decode_progressive(b, iterations=1), plain.decode_progressive(a, iterations=1)
    )
