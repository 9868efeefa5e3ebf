import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.layers.efficientnet_lite import DepthwiseConvolution, EfficientNetLite0, blocks, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "multiplier"),
    [((7, 10), 3, 1, 1), ((8, 5), 5, 2, 1), ((1, 1), 5, 2, 1), ((6, 7), 3, 1, 4), ((9, 4), 3, 2, 3)],
)
def test_depthwise_convolution_is_the_grouped_convolution_of_lax(key, size, kernel, stride, multiplier):
    x = jax.random.normal(key, (2, *size, 3))
    layer = DepthwiseConvolution(kernel, stride, multiplier)
    params = layer.init(key, x)["params"]
    params = params | {"bias": jnp.arange(3.0 * multiplier)}
    expected = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    expected = expected + params["bias"][None, None, None]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 5, 1), (1, 5, 2), (9, 5, 2)]
)
def test_same_padding_gives_every_strided_sample_and_the_odd_zero_comes_last(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert after - before in (0, 1)


def test_there_are_sixteen_blocks_and_4_65_million_parameters(key):
    # Tan and Le 2019, table 1; 4,652,008 with the two trained vectors of each batch norm, folded here
    # into one bias per convolution.
    assert len(blocks()) == 16
    shapes = jax.eval_shape(EfficientNetLite0().init, key, jnp.zeros((1, 32, 32, 3)))
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    assert count == 4_631_000


def test_the_trunk_is_the_beginning_of_the_classifier_and_takes_any_size(key):
    whole = jax.eval_shape(EfficientNetLite0().init, key, jnp.zeros((1, 32, 32, 3)))["params"]
    trunk = EfficientNetLite0("stride16")
    params = jax.eval_shape(trunk.init, key, jnp.zeros((1, 32, 32, 3)))["params"]
    assert set(params) == {"stem", *(f"block_{i}" for i in range(11))}
    for name, value in params.items():
        assert jax.tree.map(jnp.shape, value) == jax.tree.map(lambda leaf: leaf.shape, whole[name])
    for height, width in [(1, 1), (16, 17), (40, 33)]:
        out = jax.eval_shape(trunk.apply, {"params": params}, jnp.zeros((1, height, width, 3)))
        assert out.shape == (1, -(-height // 16), -(-width // 16), 112)
