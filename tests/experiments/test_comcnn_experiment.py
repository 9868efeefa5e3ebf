"""Training ComCNN and RecCNN in turns: each half moves alone, and a command gives a codec."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from PIL import Image

pytest.importorskip("jaxcodec.training", reason="training needs jaxcodec[train]", exc_type=ImportError)

from experiments.comcnn_tasks import (
    TrainComCnn,
    TrainRecCnn,
    coded_pictures,
    luma_pictures,
    networks_of,
    random_qualities,
)
from jaxcodec.codecs.comcnn import ComCnnCodec
from jaxcodec.codecs.comcnn.inner import inner_codec
from tests.codecs.comcnn_networks import random_params, small_config
from tests.codecs.golden_codecs import photo

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("task", "part"), [(TrainRecCnn, "reccnn"), (TrainComCnn, "comcnn")])
def test_a_step_moves_one_network_and_leaves_the_other(task, part):
    config = small_config()
    trained, params = task(config), random_params(config)
    batch = np.stack([photo(16, 16, top=top) for top in (0, 200)])

    @jax.jit
    def step(params, batch):
        loss = lambda params: trained.loss(params, batch, key=jax.random.key(0))[0]  # noqa: E731
        optimiser = trained.optimiser(1e-2)
        updates, _ = optimiser.update(jax.grad(loss)(params), optimiser.init(params), params)
        return optax.apply_updates(params, updates)

    after = step(params, batch)
    for name in ("reccnn", "comcnn"):
        moved = [
            not np.array_equal(a, b)
            for a, b in zip(*map(jax.tree.leaves, (params[name], after[name])), strict=True)
        ]
        assert any(moved) == (name == part)


def test_training_pictures_are_what_the_decoder_will_see(tmp_path):
    config, image = small_config(), photo(48, 64, top=200)
    params = random_params(config)
    (luma,) = luma_pictures([image], [1.0])
    (picture,) = coded_pictures([luma], [30], codec=inner_codec("jpeg"), networks=networks_of(config, params))
    np.testing.assert_array_equal(picture[..., 0], luma)
    # An untrained RecCNN returns its input: so that is what the codec decodes to.
    from jaxcodec.codecs.comcnn.export import export

    params["reccnn"]["convolution_3"]["kernel"] *= 0
    codec = ComCnnCodec(export(tmp_path, codec="comcnn", config=config, params=params))
    np.testing.assert_array_equal(codec.decode(codec.encode(luma, quality=30)), picture[..., 1])
    assert len(np.unique(picture[..., 2])) == 1


def test_qualities_are_spread_over_the_range_in_the_logarithm():
    drawn = random_qualities(small_config(lowest=5, highest=80), 400, seed=0)
    assert min(drawn) >= 5
    assert max(drawn) <= 80
    assert 0.4 < np.mean(np.array(drawn) < 20) < 0.6


def test_a_run_in_turns_ends_in_a_codec(tmp_path):
    Image.fromarray(photo(96, 96)).save(tmp_path / "a.png")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}

    def run(module, *arguments):
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)

    network = ("--layers=4", "--channels=4", "--compact_channels=4", "--crop_size=16", "--batch_size=4")
    turns = ("--stages=comcnn:1,reccnn:1", "--steps=2", "--scales=1", "--jax_disable_most_optimizations")
    where = (f"--train_data={tmp_path / '*.png'}", f"--workdir={tmp_path / 'run'}", "--codec=jpeg2000")
    done = run("experiments.comcnn", *where, *network, *turns)
    assert done.returncode == 0, done.stderr[-2000:]
    done = run("scripts.export_weights", f"--workdir={tmp_path / 'run' / '1_reccnn'}", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = tmp_path.glob("comcnn-jpeg2000-*.safetensors")
    codec = ComCnnCodec(path)
    assert (codec.name, codec.qualities[-1]) == ("comcnn-jpeg2000", 90)
    assert codec.decode(codec.encode(photo(20, 20))).shape == (20, 20, 3)
