import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxcodec.pq.finetune import (
    Tuner,
    distillation_loss,
    kl_divergence,
    paper_optimiser,
    refresh_batch_norm,
    regression_loss,
)
from jaxcodec.pq.layouts import to_blocks
from jaxcodec.pq.parameters import Codes, QuantisedParams
from jaxcodec.pq.quantise import Setting, quantise


class Small(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(6, name="second")(nn.relu(nn.Dense(16, name="first")(x)))


def apply(params, x):
    return Small().apply({"params": params}, x)


@pytest.fixture
def network(rng):
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape) / 2, jnp.float32)  # noqa: E731
    params = {
        "first": {"kernel": draw(8, 16), "bias": draw(16)},
        "second": {"kernel": draw(16, 6), "bias": draw(6)},
    }
    return params, draw(32, 8)


def coded(params, rng, K=4):
    """The first kernel with random indices."""
    kernel = params["first"]["kernel"]
    indices = jnp.asarray(rng.integers(0, K, kernel.size // 2), jnp.int32)
    codes = Codes(jnp.asarray(rng.standard_normal((K, 2)), jnp.float32), indices, kernel.shape)
    others = {
        "first/bias": params["first"]["bias"],
        "second/kernel": params["second"]["kernel"],
        "second/bias": params["second"]["bias"],
    }
    return QuantisedParams({"first/kernel": codes}, others)


def test_kl_divergence_is_that_of_the_probabilities(rng):
    teacher, student = rng.standard_normal((2, 5, 7))
    p, q = (np.exp(v) / np.exp(v).sum(-1, keepdims=True) for v in (teacher, student))
    np.testing.assert_allclose(kl_divergence(teacher, student), (p * np.log(p / q)).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(kl_divergence(teacher, teacher + 3), 0, atol=1e-6)


def test_a_centroid_moves_by_the_mean_of_its_blocks_gradients_then_decay_then_momentum(network, rng, key):
    params, x = network
    quantised = coded(params, rng)
    target = jnp.zeros((32, 6))
    loss = regression_loss(apply)
    tuned, losses = Tuner(loss, paper_optimiser(0.9, 0.01)).tune(
        quantised, [(x, target)] * 2, learning_rate=0.1, key=key
    )
    codebook, velocity = np.asarray(quantised.codes["first/kernel"].codebook), 0.0
    indices = np.asarray(quantised.codes["first/kernel"].indices)
    for step in range(2):
        kernel = Codes(jnp.asarray(codebook), indices, (8, 16)).dense()
        now = {**params, "first": {**params["first"], "kernel": kernel}}
        value, gradient = jax.value_and_grad(loss)(now, (x, target), key=key)
        blocks = to_blocks(np.asarray(gradient["first"]["kernel"]), 2)
        means = np.stack([blocks[indices == k].mean(0) for k in range(4)])
        velocity = 0.9 * velocity + means + 0.01 * codebook
        codebook = codebook - 0.1 * velocity
        assert losses[step] == pytest.approx(float(value), rel=1e-4)
    np.testing.assert_allclose(tuned.codes["first/kernel"].codebook, codebook, atol=1e-5)
    np.testing.assert_array_equal(tuned.codes["first/kernel"].indices, indices)
    for name, value in quantised.others.items():
        np.testing.assert_array_equal(tuned.others[name], value)


def test_tuning_by_distillation_brings_the_student_nearer_to_its_teacher(network, key):
    params, x = network
    batch = (x, apply(params, x))
    settings = {"first/kernel": Setting(2, 8), "second/kernel": Setting(4, 4)}
    loss = distillation_loss(apply)
    tuner = Tuner(loss, optax.chain(optax.scale_by_adam(), optax.scale(-1.0)))
    quantised = quantise(apply, params, x, settings, key=key, iterations=5)
    tuned, losses = tuner.tune(quantised, [batch] * 40, learning_rate=0.02, key=key)
    assert float(loss(tuned.dense(), batch, key=key)) < 0.5 * losses[0]


def test_only_the_named_layers_are_tuned_and_later_ones_are_as_they_were(network, rng, key):
    params, x = network
    batch = (x, apply(params, x))
    tuner = Tuner(distillation_loss(apply))
    first = coded(params, rng)
    tuned, _ = tuner.tune(first, [batch], learning_rate=0.1, key=key, settings={"second/kernel": (4, 4)})
    assert np.abs(tuned.codes["first/kernel"].codebook - first.codes["first/kernel"].codebook).max() > 1e-6
    np.testing.assert_array_equal(tuned.others["second/kernel"], first.others["second/kernel"])
    # The same with nothing said about later layers.
    plain, _ = tuner.tune(first, [batch], learning_rate=0.1, key=key)
    np.testing.assert_allclose(
        plain.codes["first/kernel"].codebook, tuned.codes["first/kernel"].codebook, atol=1e-6
    )
    none, _ = tuner.tune(first, [batch], learning_rate=0.1, key=key, only=[], train_others=True)
    np.testing.assert_array_equal(none.codes["first/kernel"].codebook, first.codes["first/kernel"].codebook)
    assert np.abs(none.others["second/bias"] - first.others["second/bias"]).max() > 0


def test_a_loss_that_is_not_finite_stops_the_tuning(network, rng, key):
    params, x = network
    with pytest.raises(FloatingPointError, match="update 0"):
        Tuner(regression_loss(apply)).tune(
            coded(params, rng), [(x, jnp.full((32, 6), jnp.nan))], learning_rate=1, key=key
        )


def test_refreshed_batch_norm_has_the_statistics_of_the_new_activations(rng, key):
    module = nn.BatchNorm(use_running_average=False, momentum=0.5)
    x = jnp.asarray(rng.normal(3.0, 2.0, (64, 4)), jnp.float32)
    variables = module.init(key, x)

    def statistics(params, batch_stats, batch):
        return module.apply({"params": params, "batch_stats": batch_stats}, batch, mutable=["batch_stats"])[
            1
        ]["batch_stats"]

    refreshed = refresh_batch_norm(statistics, variables["params"], variables["batch_stats"], [x] * 12)
    np.testing.assert_allclose(refreshed["mean"], np.mean(np.asarray(x), 0), rtol=1e-2)
    np.testing.assert_allclose(refreshed["var"], np.var(np.asarray(x), 0), rtol=1e-2)
