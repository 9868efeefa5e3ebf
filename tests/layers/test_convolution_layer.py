import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.layers import Convolution, TransposedConvolution
from jaxcodec.ops.convolution import strided_convolution, transposed_convolution

both = pytest.mark.parametrize("layer", [Convolution, TransposedConvolution])


def shapes(layer, x):
    """Output and variables as shapes and types: nothing is computed, so this is quick."""
    return jax.eval_shape(layer.init_with_output, jax.random.key(0), x)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (Convolution(5, 3, stride=2), strided_convolution),
        (TransposedConvolution(5, 3, stride=2), transposed_convolution),
    ],
)
def test_a_layer_is_its_function_plus_bias(rng, layer, function):
    x = jnp.asarray(rng.normal(size=(2, 6, 7, 4)), jnp.float32)
    params = shapes(layer, x)[1]["params"]
    assert {name: value.shape for name, value in params.items()} == {"kernel": (3, 3, 4, 5), "bias": (5,)}
    params = {name: jnp.asarray(rng.normal(size=p.shape), jnp.float32) for name, p in params.items()}
    expected = jax.jit(function, static_argnames="stride")(x, params["kernel"], stride=2)
    out = jax.jit(layer.apply)({"params": params}, x)
    np.testing.assert_allclose(out, expected + params["bias"][None, None, None], rtol=1e-5, atol=1e-5)


@both
def test_a_layer_without_bias_has_a_kernel_only(layer):
    _, variables = shapes(layer(3, 3, stride=2, use_bias=False), jnp.zeros((1, 4, 4, 2)))
    assert set(variables["params"]) == {"kernel"}


@both
def test_bfloat16_arithmetic_keeps_float32_parameters(layer):
    out, variables = shapes(layer(3, 3, stride=2, dtype=jnp.bfloat16), jnp.ones((1, 4, 4, 2)))
    assert out.dtype == jnp.bfloat16
    for value in jax.tree.leaves(variables):
        assert value.dtype == jnp.float32
        assert not value.weak_type


@both
def test_layers_run_under_strict_types(layer, strict_dtypes):
    out, _ = shapes(layer(3, 3, stride=2), jnp.ones((1, 4, 4, 2)))
    assert out.dtype == jnp.float32


def test_space_to_depth_first_shares_parameters_and_values(rng):
    x = jnp.asarray(rng.normal(size=(1, 9, 14, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(9, 9, 3, 4)), jnp.float32)
    direct, by_blocks = (
        jax.jit(Convolution(4, 9, stride=4, use_bias=False, space_to_depth_first=first).apply)(
            {"params": {"kernel": kernel}}, x
        )
        for first in (False, True)
    )
    np.testing.assert_allclose(by_blocks, direct, rtol=1e-4, atol=1e-4)


@both
def test_a_fresh_layer_preserves_the_variance(key, rng, layer):
    x = jnp.asarray(rng.normal(size=(4, 24, 24, 16)), jnp.float32)
    out, variables = jax.jit(layer(8, 5, stride=2).init_with_output)(key, x)
    assert 0.8 < np.asarray(out)[:, 2:-2, 2:-2].var() < 1.25
    assert (variables["params"]["bias"] == 0).all()
