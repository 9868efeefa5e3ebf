from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.ops.binarise import sign_binarise, stochastic_binarise


def test_bits_are_plus_or_minus_one_with_the_value_as_their_mean(key):
    for value in (-1.0, -0.6, 0.0, 0.3, 1.0):
        bits = np.asarray(stochastic_binarise(jnp.full(20_000, value, jnp.float32), key=key))
        assert set(np.unique(bits)) <= {-1.0, 1.0}
        # Standard deviation of the mean: at most 1 / sqrt(20,000) = 0.007.
        assert abs(bits.mean() - value) < 0.03


def test_the_gradient_of_the_choice_is_that_of_the_identity(key):
    x = jnp.linspace(-1, 1, 11)
    weights = jnp.arange(11.0)
    gradient = jax.grad(lambda v: (weights * stochastic_binarise(v, key=key)).sum())(x)
    np.testing.assert_array_equal(gradient, weights)
    with_tanh = jax.grad(lambda v: stochastic_binarise(jnp.tanh(v), key=key).sum())(x)
    np.testing.assert_allclose(with_tanh, 1 - np.tanh(x) ** 2, rtol=1e-5)


def test_the_sign_of_zero_is_plus_one_and_signs_have_no_gradient():
    x = jnp.array([-0.5, -0.0, 0.0, 1e-30, 2.0])
    np.testing.assert_array_equal(sign_binarise(x), [-1, 1, 1, 1, 1])
    np.testing.assert_array_equal(jax.grad(lambda v: sign_binarise(v).sum())(x), 0)


def test_choices_follow_their_key(key):
    draw = partial(stochastic_binarise, jnp.zeros(64))
    np.testing.assert_array_equal(draw(key=key), draw(key=key))
    assert (draw(key=key) != draw(key=jax.random.key(99))).any()
