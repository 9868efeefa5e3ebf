import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.ops.quantise import additive_uniform_noise, hard_round, soft_round, straight_through_round

VALUES = np.array([-2.5, -1.5, -1.2, -0.5, 0.0, 0.3, 0.5, 0.7, 1.5, 2.0, 1000.4], np.float32)

jitted = pytest.mark.parametrize("jit", [False, True])


def maybe_jit(function, jit):
    return jax.jit(function) if jit else function


def test_noise_is_uniform_in_half_a_unit_to_each_side(key):
    noise = np.asarray(additive_uniform_noise(jnp.zeros(100_000), key=key))
    assert -0.5 <= noise.min() < -0.4999
    assert 0.4999 < noise.max() <= 0.5
    # Standard errors: sqrt(1/12 / n) = 0.0009 of the mean, sqrt(1/180 / n) = 0.00024 of the variance.
    np.testing.assert_allclose(noise.mean(), 0.0, atol=0.004)
    np.testing.assert_allclose(noise.var(), 1 / 12, atol=0.001)


def test_noise_follows_its_key_and_is_independent_of_the_value(key):
    y = jnp.asarray(VALUES)
    noisy = additive_uniform_noise(y, key=key)
    np.testing.assert_array_equal(noisy, additive_uniform_noise(y, key=key))
    assert (noisy != additive_uniform_noise(y, key=jax.random.key(1))).all()
    np.testing.assert_allclose(noisy - y, additive_uniform_noise(jnp.zeros_like(y), key=key), atol=1e-4)


@jitted
def test_noise_has_the_gradient_of_the_identity(key, jit):
    gradient = maybe_jit(jax.grad(lambda y: additive_uniform_noise(y, key=key).sum()), jit)
    np.testing.assert_array_equal(gradient(jnp.asarray(VALUES)), np.ones_like(VALUES))


@jitted
@pytest.mark.parametrize("function", [straight_through_round, hard_round])
def test_rounding_halves_go_to_even(function, jit):
    np.testing.assert_array_equal(maybe_jit(function, jit)(jnp.asarray(VALUES)), np.round(VALUES))


@jitted
def test_straight_through_round_keeps_its_value_under_differentiation(jit):
    y = jnp.asarray(VALUES)
    value, vjp = maybe_jit(lambda y: jax.vjp(straight_through_round, y), jit)(y)
    np.testing.assert_array_equal(value, np.round(VALUES))
    cotangent = jnp.arange(y.size, dtype=jnp.float32)
    np.testing.assert_array_equal(vjp(cotangent)[0], cotangent)
    primal, tangent = maybe_jit(lambda y, dy: jax.jvp(straight_through_round, (y,), (dy,)), jit)(y, cotangent)
    np.testing.assert_array_equal(primal, np.round(VALUES))
    np.testing.assert_array_equal(tangent, cotangent)


@jitted
def test_straight_through_round_maps_over_a_batch(jit):
    function = maybe_jit(jax.vmap(jax.value_and_grad(straight_through_round)), jit)
    values, gradients = function(jnp.asarray(VALUES))
    np.testing.assert_array_equal(values, np.round(VALUES))
    np.testing.assert_array_equal(gradients, np.ones_like(VALUES))


def test_hard_round_has_no_gradient():
    gradient = jax.grad(lambda y: hard_round(y).sum())(jnp.asarray(VALUES))
    np.testing.assert_array_equal(gradient, np.zeros_like(VALUES))


def test_straight_through_round_keeps_the_type():
    assert straight_through_round(jnp.zeros(2, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("alpha", [0.0, 1e-4, 1e-2])
def test_soft_round_is_the_identity_for_small_alpha(alpha):
    np.testing.assert_allclose(soft_round(jnp.asarray(VALUES), alpha=alpha), VALUES, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("alpha", [1e3, 1e8])
def test_soft_round_is_rounding_for_large_alpha(alpha):
    y = VALUES[np.abs(VALUES - np.floor(VALUES) - 0.5) > 0.01]
    np.testing.assert_allclose(soft_round(jnp.asarray(y), alpha=alpha), np.round(y), atol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 3.0, 10.0])
def test_soft_round_is_its_formula_and_keeps_integers(alpha):
    y = np.linspace(-3, 3, 61)
    m = np.floor(y) + 0.5
    expected = m + np.tanh(alpha * (y - m)) / (2 * np.tanh(alpha / 2))
    np.testing.assert_allclose(soft_round(jnp.asarray(y, jnp.float32), alpha=alpha), expected, atol=2e-6)
    integers = jnp.arange(-3.0, 4.0)
    np.testing.assert_allclose(soft_round(integers, alpha=alpha), integers, atol=1e-6)


@jitted
def test_gradients_of_soft_round_are_finite_for_any_alpha(jit):
    gradient = maybe_jit(jax.grad(lambda y, a: soft_round(y, alpha=a).sum(), (0, 1)), jit)
    for alpha in (0.0, 1e-6, 1.0, 50.0, 1e6):
        by_value, by_alpha = gradient(jnp.asarray(VALUES), jnp.float32(alpha))
        assert np.isfinite(by_value).all()
        assert np.isfinite(by_alpha)
        assert (np.asarray(by_value) >= 0).all()
