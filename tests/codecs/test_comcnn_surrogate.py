"""The codec's stand-in and the three gradients through it."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcodec.codecs.comcnn.coarseness import luma_table
from jaxcodec.codecs.comcnn.model import enlarge, halve
from jaxcodec.codecs.comcnn.surrogate import (
    all_luma_tables,
    bits_per_sample,
    block_dct,
    dct_matrix,
    inverse_block_dct,
    jpeg_stand_in,
    real_codec,
    restoration_loss,
    to_levels,
)
from tests.codecs.golden_codecs import photo


@pytest.fixture(scope="module")
def levels():
    """Two pictures, whole levels, float32 `[2, 32, 24, 1]`."""
    luma = [photo(32, 24, name=name, top=200, left=150)[..., 1] for name in ("kodim08.png", "kodim19.png")]
    return jnp.asarray(np.stack(luma)[..., None], jnp.float32)


@pytest.mark.parametrize("quality", [5, 25, 80])
def test_the_stand_in_decodes_as_libjpeg_does(levels, quality):
    tables = jnp.asarray(np.stack([luma_table(quality)] * 2), jnp.float32)
    decoded = np.asarray(jpeg_stand_in(levels, tables))[..., 0]
    for ours, picture in zip(decoded, np.asarray(levels), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture[..., 0].astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as file:
            apart = np.abs(ours - np.asarray(file, np.float32))
        # libjpeg's transforms are in integers: a coefficient on a half may go the other way, in a block or two.
        worst = apart.reshape(4, 8, 3, 8).max((1, 3))
        assert np.sum(worst > 1) <= 2
        assert apart.mean() < 0.5


def test_the_transform_is_orthonormal_and_inverted(levels):
    np.testing.assert_allclose(dct_matrix() @ dct_matrix().T, np.eye(8), atol=1e-6)
    np.testing.assert_allclose(inverse_block_dct(block_dct(levels)), levels, atol=1e-3)


def test_all_tables_are_by_quality():
    np.testing.assert_array_equal(all_luma_tables()[37], luma_table(37))


def test_the_gradient_through_the_stand_in_is_the_identity(levels):
    # Within 20 levels of grey nothing is clipped.
    soft = 128.0 + 0.15 * (levels - 128.0)
    tables = jnp.asarray(np.stack([luma_table(50)] * 2), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=levels.shape), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(weights * jpeg_stand_in(x, tables)))(soft)
    np.testing.assert_allclose(gradient, weights, atol=1e-4)


def test_clipped_samples_are_let_back_in_but_not_further_out():
    y = jnp.asarray([-0.2, 0.5, 1.3])
    np.testing.assert_array_equal(to_levels(y), [0.0, 128.0, 255.0])
    for sign, passed in ((1.0, [False, True, True]), (-1.0, [True, True, False])):
        gradient = jax.grad(lambda y, sign=sign: sign * to_levels(y).sum())(y)
        np.testing.assert_array_equal(np.asarray(gradient) != 0, passed)


@pytest.fixture(scope="module")
def parts(levels):
    """The arguments of the loss: ComCNN's picture, the original, a codec and a restorer."""
    x = levels / 255.0
    y = 0.1 + 0.8 * halve(x)
    # 16 x 12 samples: not whole blocks, so the codec is a coarse rounding with the identity's gradient.
    coarse = lambda v: v + jax.lax.stop_gradient(16.0 * jnp.round(v / 16.0) - v)  # noqa: E731
    return {"y": y, "x": x, "code": coarse, "restore": lambda u: 0.9 * u + 0.03}


def test_the_injected_gradient_is_the_reduced_error(parts):
    gradient = jax.grad(lambda y: restoration_loss("err_down", **{**parts, "y": y})[0].sum())(parts["y"])
    decoded = parts["code"](to_levels(parts["y"])) / 255.0
    error = halve(parts["restore"](enlarge(decoded)) - parts["x"])
    np.testing.assert_allclose(gradient, 2.0 * error / error[0].size, atol=1e-7)


def test_the_straight_through_gradient_is_the_true_one_of_what_follows_the_codec(parts):
    gradient = jax.grad(lambda y: restoration_loss("ste_codec", **{**parts, "y": y})[0].sum())(parts["y"])
    decoded = parts["code"](to_levels(parts["y"])) / 255.0

    def after(decoded):
        return jnp.square(parts["restore"](enlarge(decoded)) - parts["x"]).mean((1, 2, 3)).sum()

    np.testing.assert_allclose(gradient, jax.grad(after)(decoded), atol=1e-7)


def test_without_the_codec_the_gradient_is_that_of_the_forward_pass(parts):
    def loss(y):
        return restoration_loss("no_codec", **{**parts, "y": y})[0].sum()

    y = parts["y"]
    direction = jnp.asarray(np.random.default_rng(0).normal(size=y.shape), jnp.float32)
    slope = jnp.vdot(jax.grad(loss)(y), direction)
    difference = (loss(y + 1e-2 * direction) - loss(y - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(slope, difference, rtol=1e-2)


def test_the_real_codec_sees_the_batch_as_one_mosaic():
    rng = np.random.default_rng(0)
    levels = jnp.asarray(rng.integers(60, 200, (4, 8, 8, 1)), jnp.float32)
    decoded = jax.jit(lambda x: real_codec("jpeg", x, jnp.int32(60)))(levels)
    mosaic = np.concatenate([np.concatenate(list(levels[i : i + 2, ..., 0]), axis=1) for i in (0, 2)])
    buffer = io.BytesIO()
    Image.fromarray(mosaic.astype(np.uint8)).save(buffer, "JPEG", quality=60)
    with Image.open(buffer) as file:
        expected = np.asarray(file)
    np.testing.assert_array_equal(decoded[3, ..., 0], expected[8:, 8:])
    gradient = jax.grad(lambda x: real_codec("jpeg", x, jnp.int32(60)).sum())(levels)
    np.testing.assert_array_equal(gradient, np.ones_like(gradient))


def test_the_guess_of_bits_is_zero_for_a_flat_picture_and_falls_with_the_step(levels):
    flat = jnp.full_like(levels, 77.0)
    tables = [jnp.asarray(np.stack([luma_table(q)] * 2), jnp.float32) for q in (10, 50, 90)]
    np.testing.assert_allclose(bits_per_sample(flat, tables[1]), 0.0, atol=1e-4)
    guesses = np.stack([bits_per_sample(levels, table) for table in tables])
    assert (np.diff(guesses, axis=0) > 0).all()
