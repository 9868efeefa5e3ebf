import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcodec.layers import Convolution, TransposedConvolution
from jaxcodec.layers.convolution import SubPixelConvolution
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


def test_a_sub_pixel_layer_interleaves_the_phases_of_a_convolution(rng):
    B, h, w, features, s = 2, 3, 4, 5, 2
    y = jnp.asarray(rng.normal(size=(B, h, w, 3)), jnp.float32)
    layer = SubPixelConvolution(features, 3, s)
    shape = shapes(layer, y)[1]["params"]
    assert {name: p.shape for name, p in shape["convolution"].items()} == {
        "kernel": (3, 3, 3, s * s * features),
        "bias": (s * s * features,),
    }
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), shape)
    out = np.asarray(jax.jit(layer.apply)({"params": params}, y))
    assert out.shape == (B, s * h, s * w, features)
    padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel, bias = (np.asarray(params["convolution"][name]) for name in ("kernel", "bias"))
    for i, j in np.ndindex(s * h, s * w):
        # The phase in the rows counts before that in the columns, and both before the features.
        phase = (i % s) * s + j % s
        channels = slice(phase * features, (phase + 1) * features)
        seen = padded[:, i // s : i // s + 3, j // s : j // s + 3]
        expected = np.tensordot(seen, kernel[..., channels], axes=3) + bias[None, channels]
        np.testing.assert_allclose(out[:, i, j], expected, rtol=1e-4, atol=1e-4)


def test_a_layer_without_padding_passes_it_on_and_starts_from_its_initialiser(key):
    layer = Convolution(2, 5, stride=2, padding="valid", kernel_init=nn.initializers.ones, use_bias=False)
    out, variables = jax.jit(layer.init_with_output)(key, jnp.ones((1, 9, 11, 3)))
    assert (np.asarray(variables["params"]["kernel"]) == 1).all()
    np.testing.assert_allclose(out, np.full((1, 3, 4, 2), 75.0))
