import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.layers import GDN
from jaxcodec.ops.bounds import from_square_parameter
from jaxcodec.ops.gdn import gdn, inverse_gdn


def initialise(layer, key, x):
    """Output and variables, in one compilation."""
    return jax.jit(layer.init_with_output)(key, x)


def test_a_fresh_layer_has_beta_one_and_gamma_a_tenth_of_the_identity(key, rng):
    x = jnp.asarray(rng.normal(size=(2, 3, 3, 4)), jnp.float32)
    y, variables = initialise(GDN(), key, x)
    assert set(variables["params"]) == {"beta", "gamma"}
    np.testing.assert_allclose(y, x / jnp.sqrt(1.0 + 0.1 * x**2), rtol=1e-5)
    inverted, _ = initialise(GDN(inverse=True), key, x)
    np.testing.assert_allclose(inverted, x * jnp.sqrt(1.0 + 0.1 * x**2), rtol=1e-5)
    simple, _ = initialise(GDN(alpha=1.0, epsilon=1.0), key, x)
    np.testing.assert_allclose(simple, x / (1.0 + 0.1 * jnp.abs(x)), rtol=1e-5)


@pytest.mark.parametrize("inverse", [False, True])
def test_the_layer_is_the_function_of_its_squared_parameters(key, rng, inverse):
    x = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    params = {
        "beta": jnp.asarray(rng.uniform(0.5, 1.0, 4), jnp.float32),
        "gamma": jnp.asarray(rng.uniform(-0.5, 1.0, (4, 4)), jnp.float32),
    }
    function = inverse_gdn if inverse else gdn
    expected = function(
        x, from_square_parameter(params["beta"], minimum=1e-6), from_square_parameter(params["gamma"])
    )
    np.testing.assert_allclose(GDN(inverse=inverse).apply({"params": params}, x), expected, rtol=1e-6)


def test_parameters_thrown_below_zero_stay_usable_and_come_back(rng):
    x = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)
    params = {"beta": jnp.full((3,), -0.5), "gamma": jnp.full((3, 3), -0.5)}

    def loss(params):  # wants small outputs, so larger beta and gamma
        return jnp.mean(jnp.square(GDN().apply({"params": params}, x)))

    gradient = jax.jit(jax.grad(loss))(params)
    assert np.isfinite(GDN().apply({"params": params}, x)).all()
    assert (gradient["beta"] < 0).all()
    assert (gradient["gamma"] < 0).all()


def test_parameters_are_float32_and_not_weakly_typed(key):
    _, params = initialise(GDN(), key, jnp.zeros((1, 4), jnp.bfloat16))
    for value in jax.tree.leaves(params):
        assert value.dtype == jnp.float32
        assert not value.weak_type


def test_bfloat16_inputs_are_normalised_in_float32(key, rng):
    x = jnp.asarray(rng.normal(scale=5, size=(16, 4)), jnp.bfloat16)
    y, variables = initialise(GDN(), key, x)
    assert y.dtype == jnp.bfloat16
    exact = GDN().apply(variables, x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2.0**-8)


def test_the_layer_runs_under_strict_types(key, strict_dtypes):
    y, _ = initialise(GDN(), key, jnp.ones((1, 4)))
    assert y.dtype == jnp.float32
