"""The start from principal components is the orthonormal transform that it claims to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.codecs.balle2017.initialise import from_principal_components, latent_gain
from jaxcodec.codecs.balle2017.model import PIXEL_SCALE, TransformCoder, TransformConfig

_SIZE = 64


def _crops(seed, n=24):
    """Smooth random pictures: white noise, integrated along both axes."""
    noise = np.random.default_rng(seed).normal(size=(n, _SIZE, _SIZE, 3)).cumsum(1).cumsum(2)
    noise -= noise.mean((1, 2), keepdims=True)
    noise /= np.abs(noise).max((1, 2, 3), keepdims=True)
    return (127.5 + 120.0 * noise).astype(np.uint8)


@pytest.fixture(scope="module", params=["bls2017", "bmshj2018"])
def config(request):
    return TransformConfig(request.param, channels=48, latent_channels=64)


@pytest.fixture(scope="module")
def started(config):
    coder = TransformCoder(config)
    random = coder.init(jax.random.key(0), jnp.zeros((1, _SIZE, _SIZE, 3)), quantise=jnp.round)["params"]
    return coder, random, from_principal_components(random, _crops(0), config, 0.02)


def _coded(coder, params, x, quantise=lambda y: y):
    return coder.apply({"params": params}, x, quantise=quantise)


def test_it_reconstructs_unseen_pictures_far_better_than_random_weights(started):
    coder, random, params = started
    x = jnp.asarray(_crops(1, n=4)) / 255.0
    error = [float(jnp.mean((_coded(coder, p, x, jnp.round)[0] - x) ** 2)) for p in (random, params)]
    assert error[1] < 0.002  # 27 dB before any training
    assert error[1] < error[0] / 20


def test_the_energy_of_strong_latents_is_that_of_the_pixels_times_the_gain(started):
    coder, _, params = started
    x = jnp.asarray(_crops(1, n=4)) / 255.0
    y = coder.apply({"params": params}, x, method="analyse")
    pixels = float(jnp.sum(((x - 0.5) * PIXEL_SCALE) ** 2))
    assert float(jnp.sum(y**2)) / latent_gain(0.02) ** 2 == pytest.approx(pixels, rel=0.1)


def test_shapes_and_types_are_those_of_the_random_start(started):
    _, random, params = started
    assert jax.tree.map(lambda a: (a.shape, np.dtype(a.dtype)), params) == jax.tree.map(
        lambda a: (a.shape, np.dtype(a.dtype)), random
    )


def test_the_gain_grows_as_the_root_of_lambda():
    assert latent_gain(0.08) == pytest.approx(2.0 * latent_gain(0.02))


def test_gdn_on_the_latents_is_refused():
    config = TransformConfig("paper", 8, 8)
    with pytest.raises(ValueError, match="bls2017"):
        from_principal_components({}, _crops(0), config, 0.02)
