"""Training the thumbnail networks as a user does, and comparing them with JPEG, JPEG 2000 and WebP."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jaxcodec.training", reason="training needs jaxcodec[train]", exc_type=ImportError)

import jaxcodec

ROOT = Path(__file__).parents[2]


def run(module, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def smooth_photo(seed, height=80, width=96):
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        Image.fromarray(smooth_photo(i)).save(folder / f"{i}.png")
    return folder


def test_weights_of_ones_own_training_encode_and_are_compared(photos, tmp_path):
    network = ("--family=fc", "--noshared", "--width=8", "--batch_size=4", "--thumbnails_per_photo=2")
    trained = run(
        "experiments.toderici2016", f"--train_data={photos}", f"--workdir={tmp_path}", "--steps=2", *network
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert "4 thumbnails of 2 photos" in trained.stderr
    exported = run("scripts.export_weights", f"--workdir={tmp_path}", f"--output={tmp_path}")
    assert exported.returncode == 0, exported.stderr[-2000:]
    (weights,) = tmp_path.glob("toderici2016-*.safetensors")
    image = np.asarray(Image.open(photos / "0.png"))
    codec = jaxcodec.load("toderici2016", weights=weights)
    assert codec.qualities == tuple(range(1, 17))
    assert jaxcodec.decode(codec.encode(image), weights=weights).shape == image.shape
    compared = run(
        "scripts.compare_thumbnails",
        *(f"--images={photos}", "--count=6", f"--weights=mine={weights}", "--curve"),
        f"--output={tmp_path / 'table.json'}",
    )
    assert compared.returncode == 0, compared.stderr[-2000:]
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [(row["codec"], row["target_bytes"]) for row in rows] == [
        (name, size) for name in ("mine", "JPEG", "JPEG 2000", "WebP") for size in (64.0, 128.0)
    ]
    assert [row["mean_bytes"] for row in rows[:2]] == [64.0, 128.0]
    assert len(rows[1]["curve"]["ssim"]) == 16
    # Every stage's picture is the decoded file's, to one level.
    assert rows[1]["curve"]["ssim"][7] == pytest.approx(rows[0]["ssim"], abs=2e-3)
    assert compared.stdout == (tmp_path / "table.txt").read_text()
    assert "11x11 Gaussian window" in compared.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--family=lstm", "--noshared"), "share their weights"),
        (("--family=conv", "--width=20"), "multiples of 16"),
        (("--data_loading=stream",), "thumbnails lie on the device"),
    ],
)
def test_a_wrong_command_ends_with_a_sentence_and_no_traceback(photos, tmp_path, arguments, said):
    done = run(
        "experiments.toderici2016",
        *(f"--train_data={photos}", f"--workdir={tmp_path / 'run'}", "--steps=1", *arguments),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
