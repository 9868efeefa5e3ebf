"""The compressive autoencoder against its table: network, quantisation and rate, masks, first parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcodec.codecs.theis2017.incremental import channel_mask, enable_on_plateau
from jaxcodec.codecs.theis2017.initialise import from_principal_components, initial_log_scales, latent_gain
from jaxcodec.codecs.theis2017.model import (
    PIXEL_DEVIATION,
    PIXEL_MEAN,
    Analysis,
    Autoencoder,
    AutoencoderConfig,
    Synthesis,
    mirror,
)
from jaxcodec.ops.quantise import additive_uniform_noise, straight_through_round
from tests.codecs.autoencoders import kodak_crops, random_params

SMALL = AutoencoderConfig(channels=8, latent_channels=6, blocks=1, scales=3, lambdas=(0.001, 0.01, 0.03))


@pytest.fixture(scope="module")
def params():
    return random_params(SMALL)


# The network


def reference_conv(x, layer, stride, padding):
    out = lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + layer["bias"][None, None, None]


def reference_leaky(x):
    return jnp.where(x > 0, x, 0.01 * x)


def reference_block(x, layers):
    h = reference_leaky(reference_conv(x, layers["convolution_0"], 1, "SAME"))
    return x + reference_conv(h, layers["convolution_1"], 1, "SAME")


def reference_shuffle(x):
    """Pixel shuffle: the channels are row phase, column phase, feature."""
    B, h, w, C = x.shape
    phases = x.reshape(B, h, w, 2, 2, C // 4)
    return phases.transpose(0, 1, 3, 2, 4, 5).reshape(B, 2 * h, 2 * w, C // 4)


def reference_up(x, layer):
    return reference_shuffle(reference_conv(x, layer["convolution"], 1, "SAME"))


@jax.jit
def reference_analysis(x, layers):
    """The left column of the table in model.py, for 1 block."""
    h = (x - jnp.array(PIXEL_MEAN)[None, None, None]) / PIXEL_DEVIATION
    h = reference_leaky(reference_conv(h, layers["convolution_0"], 2, "VALID"))
    h = reference_leaky(reference_conv(h, layers["convolution_1"], 2, "VALID"))
    h = reference_block(h, layers["block_0"])
    return reference_conv(h, layers["convolution_2"], 2, "VALID")


@jax.jit
def reference_synthesis(y, layers):
    """The right column."""
    h = reference_up(y, layers["upsampling_0"])
    h = reference_block(h, layers["block_0"])
    h = reference_leaky(reference_up(h, layers["upsampling_1"]))
    return reference_up(h, layers["upsampling_2"]) * PIXEL_DEVIATION + jnp.array(PIXEL_MEAN)[None, None, None]


@pytest.mark.parametrize("blocks", [0, 3])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (4, 3)])
def test_8n_pixels_and_21_more_give_n_latents_and_n_latents_give_8n_pixels(key, n, m, blocks):
    config = AutoencoderConfig(8, 6, blocks)
    x, y = jnp.zeros((2, 8 * n + 21, 8 * m + 21, 3)), jnp.zeros((2, n, m, 6))
    shapes = [
        jax.eval_shape(part(config).init_with_output, key, value)[0].shape
        for part, value in ((Analysis, x), (Synthesis, y))
    ]
    assert shapes == [(2, n, m, 6), (2, 8 * n, 8 * m, 3)]


def test_analysis_is_the_table_of_the_paper(params, rng):
    x = rng.random((2, 8 * 4 + 21, 8 * 3 + 21, 3)).astype(np.float32)
    y = jax.jit(Analysis(SMALL).apply)({"params": params["analysis"]}, x)
    np.testing.assert_allclose(y, reference_analysis(x, params["analysis"]), rtol=1e-4, atol=1e-4)
    assert float(jnp.std(y)) > 0.1


def test_synthesis_is_the_table_of_the_paper(params, rng):
    y = rng.normal(0, 2, (2, 4, 3, 6)).astype(np.float32)
    x = jax.jit(Synthesis(SMALL).apply)({"params": params["synthesis"]}, y)
    np.testing.assert_allclose(x, reference_synthesis(y, params["synthesis"]), rtol=1e-4, atol=1e-4)
    assert float(jnp.std(x)) > 0.1


def test_pixels_are_mirrored_with_the_border_repeated():
    x = np.arange(24 * 16).reshape(1, 24, 16, 1)
    wide = np.asarray(mirror(jnp.asarray(x)))
    assert wide.shape == (1, 24 + 21, 16 + 21, 1)
    assert wide[0, :, 10, 0].tolist() == [*x[0, 9::-1, 0, 0], *x[0, :, 0, 0], *x[0, :-12:-1, 0, 0]]
    np.testing.assert_array_equal(wide, np.pad(x, ((0, 0), (10, 11), (10, 11), (0, 0)), mode="symmetric"))


@pytest.mark.parametrize(("channels", "latents", "blocks"), [(128, 96, 3), (64, 64, 3), (6, 5, 0)])
def test_macs_per_pixel_are_those_of_the_kernels_counted(key, channels, latents, blocks):
    config = AutoencoderConfig(channels, latents, blocks)
    x, y = jnp.zeros((1, 29, 29, 3)), jnp.zeros((1, 1, 1, latents))
    pixels_per_position = {"convolution_0": 4, "convolution_1": 16, "convolution_2": 64}
    pixels_per_position |= {"upsampling_0": 64, "upsampling_1": 16, "upsampling_2": 4}
    counted = []
    for part, value in ((Analysis, x), (Synthesis, y)):
        macs = 0.0
        for name, layers in jax.eval_shape(part(config).init, key, value)["params"].items():
            kernels = [leaf.shape for leaf in jax.tree.leaves(layers) if leaf.ndim == 4]
            macs += sum(np.prod(shape) for shape in kernels) / pixels_per_position.get(name, 16)
        counted.append(macs)
    assert config.macs_per_pixel() == pytest.approx(tuple(counted))


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 7},
        {"channels": 0},
        {"latent_channels": 0},
        {"scales": 0},
        {"blocks": -1},
        {"blocks": 4},
        {"lambdas": ()},
        {"lambdas": (0.02, 0.01)},
        {"lambdas": (0.01, 0.01)},
        {"lambdas": (0.0,)},
    ],
)
def test_a_network_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match="must be"):
        AutoencoderConfig(**change)


def test_a_configuration_comes_back_from_its_plain_values():
    assert AutoencoderConfig(**SMALL.to_dict()) == SMALL
    assert isinstance(SMALL.to_dict()["lambdas"], list)


# Quantisation and rate


RATE = np.array([1, 2])
PIXELS = np.random.default_rng(0).random((2, 32, 24, 3)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=PIXELS.shape).astype(np.float32)


@jax.jit
def training_pass(params, seed, mask, share):
    """Reconstruction and bits as in training, and the gradients of `WEIGHT . reconstruction + share * bits`."""

    def loss(params, x):
        reconstruction, bits = Autoencoder(SMALL).apply(
            {"params": params},
            x,
            RATE,
            quantise=straight_through_round,
            relax=partial(additive_uniform_noise, key=jax.random.key(seed)),
            mask=mask,
        )
        return (1 - share) * jnp.vdot(reconstruction, WEIGHT) + share * bits.sum(), (reconstruction, bits)

    gradients, (reconstruction, bits) = jax.grad(loss, (0, 1), has_aux=True)(params, PIXELS)
    return reconstruction, bits, *gradients


def run_training_pass(params, *, seed=1, enabled=6, share=0.0):
    mask = channel_mask(jnp.float32(enabled), 6)
    return jax.tree.map(np.asarray, training_pass(params, seed, mask, share))


def scales_of(params):
    return np.exp(params["log_scales"][RATE])[:, None, None]


def test_the_decoder_sees_integers_over_scales_and_no_noise(params):
    scale = scales_of(params)
    y = reference_analysis(np.asarray(mirror(PIXELS)), params["analysis"])
    symbols = np.rint(np.asarray(y) * scale)
    assert np.count_nonzero(symbols) > symbols.size / 4
    expected = reference_synthesis((symbols / scale).astype(np.float32), params["synthesis"])
    first, second = (run_training_pass(params, seed=seed) for seed in (1, 2))
    np.testing.assert_allclose(first[0], expected, rtol=1e-3, atol=1e-3)
    # Noise is in the rate only.
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1] != second[1]).mean() > 0.9
    assert first[1].shape == y.shape


def test_the_gradient_of_rounding_is_the_identity(params):
    found = run_training_pass(params)[3]

    @jax.jit
    def by_hand(x):
        # Synthesis is linearised at the rounded latents, analysis at the pixels.
        scale = scales_of(params)
        y, to_pixels = jax.vjp(lambda x: reference_analysis(mirror(x), params["analysis"]), x)
        rounded = jnp.round(y * scale) / scale
        _, to_latents = jax.vjp(lambda y: reference_synthesis(y, params["synthesis"]), rounded)
        return to_pixels(to_latents(jnp.asarray(WEIGHT))[0])[0]

    expected = by_hand(PIXELS)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * float(jnp.abs(expected).max()))


def test_the_rate_has_a_gradient_through_rounding_too(params):
    gradient = run_training_pass(params, share=1.0)[2]
    for part in ("analysis", "prior", "log_scales"):
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient[part]))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["synthesis"]))
    # Only the two rates that were asked for.
    assert (gradient["log_scales"][0] == 0).all()


def test_masked_channels_have_no_rate_no_effect_and_no_gradient(params):
    assert channel_mask(jnp.float32(2), 6).tolist() == [1, 1, 0, 0, 0, 0]
    _, bits, gradient, _ = run_training_pass(params, enabled=2, share=0.5)
    last, first = gradient["analysis"]["convolution_2"], gradient["synthesis"]["upsampling_0"]["convolution"]
    by_channel = {
        "last kernel": last["kernel"].reshape(-1, 6),
        "last bias": last["bias"][None],
        "scales": gradient["log_scales"],
        "precisions": gradient["prior"]["log_precisions"].transpose(0, 2, 1).reshape(-1, 6),
        "first kernel of synthesis": np.moveaxis(first["kernel"], 2, -1).reshape(-1, 6),
    }
    for name, values in by_channel.items():
        assert (values[:, 2:] == 0).all(), name
        assert (np.abs(values[:, :2]).max(axis=0) > 0).all(), name
    assert (bits[..., 2:] == 0).all()
    assert (bits[..., :2] != 0).all()


# Incremental training


def enabled_after(losses, *, start, **rule):
    """The number of enabled channels after each update."""
    transform = enable_on_plateau(**rule)
    enabled = jnp.float32(start)
    state = transform.init(enabled)
    update = jax.jit(lambda state, enabled, loss: transform.update(enabled, state, enabled, value=loss))
    numbers = []
    for loss in losses:
        step, state = update(state, enabled, jnp.float32(loss))
        enabled = enabled + step
        numbers.append(float(enabled))
    return numbers


def test_a_group_is_enabled_exactly_when_the_loss_stalls_and_never_more_channels_than_there_are():
    means = [10, 5, 4.6, 4.6, 4.6, 3, 2.8, 2, 1.9, 1.9]  # of two updates each, as mean + 1 and mean - 1
    losses = [mean + side for mean in means for side in (1, -1)]
    # 10: nothing before; 5: progress; 4.6 > 0.9 * 5: stall. Then it begins anew: 4.6: nothing before; 4.6: stall;
    # 3: nothing before; 2.8 > 0.9 * 3: stall, only 2 are left; 2; 1.9: stall, none is left; 1.9.
    expected = [2, 2, 4, 4, 6, 6, 7, 7, 7, 7]
    numbers = enabled_after(losses, start=2, channels=7, group=2, window=2, threshold=0.1)
    assert numbers[1::2] == expected
    assert numbers[::2] == [2, *expected[:-1]]  # never between two comparisons


def test_steady_progress_enables_nothing():
    losses = 100 * 0.9 ** np.arange(30)
    assert set(enabled_after(losses, start=1, channels=8, group=1, window=3, threshold=0.05)) == {1}


# The start from principal components


def test_principal_components_reconstruct_photos_before_any_training(key):
    config = AutoencoderConfig(channels=96, latent_channels=160, blocks=1, scales=3, lambdas=(0.01,))
    random = random_params(config, bias=0.0)
    crops = kodak_crops(96)
    started = from_principal_components(random, crops, config)
    assert jax.tree.map(np.shape, started) == jax.tree.map(np.shape, random)
    assert {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(started)} == {np.dtype(np.float32)}
    x = jnp.asarray(crops[:2], jnp.float32) / 255

    @jax.jit
    def mse(params):
        apply = partial(Autoencoder(config).apply, {"params": params}, x, jnp.zeros(2, jnp.int32))
        return jnp.square(apply(quantise=lambda z: z, relax=lambda z: z)[0] - x).mean()

    psnr = [-10 * np.log10(float(mse(params))) for params in (random, started)]
    assert psnr[1] > 35
    assert psnr[0] < 20


def test_scales_start_in_the_proportion_of_the_roots_of_the_lambdas():
    log_scales = initial_log_scales((0.01, 0.04), 3)
    assert log_scales.shape == (2, 3)
    np.testing.assert_allclose(log_scales[1] - log_scales[0], np.log(2), rtol=1e-5)
    np.testing.assert_allclose(log_scales.sum(axis=0), 0, atol=1e-6)
    assert latent_gain(0.04) == pytest.approx(2 * latent_gain(0.01))
