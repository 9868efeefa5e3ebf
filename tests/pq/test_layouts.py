import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.pq.layouts import count_blocks, from_blocks, rescale, to_blocks

SHAPES = [
    ((3, 3, 4, 6), 9),
    ((3, 3, 4, 6), 18),
    ((1, 1, 8, 5), 4),
    ((5, 5, 1, 7), 25),
    ((8, 3), 4),
    ((5, 5, 2, 3), 5),
]


@pytest.mark.parametrize(("shape", "block"), SHAPES)
@pytest.mark.parametrize("library", [np, jnp])
def test_blocks_put_together_are_the_kernel(rng, shape, block, library):
    kernel = library.asarray(rng.standard_normal(shape).astype(np.float32))
    blocks = to_blocks(kernel, block)
    assert blocks.shape == (count_blocks(shape, block), block)
    assert isinstance(blocks, type(kernel))
    np.testing.assert_array_equal(from_blocks(blocks, shape), kernel)


def test_a_block_of_nine_is_one_spatial_kernel(rng):
    kernel = rng.standard_normal((3, 3, 4, 6))
    blocks = to_blocks(kernel, 9)
    for output in range(6):
        for given in range(4):
            np.testing.assert_array_equal(blocks[output * 4 + given], kernel[:, :, given, output].ravel())


def test_a_block_of_a_depthwise_kernel_is_one_channel_and_of_a_dense_one_neighbouring_inputs(rng):
    depthwise = rng.standard_normal((5, 5, 1, 7))
    np.testing.assert_array_equal(to_blocks(depthwise, 25)[3], depthwise[:, :, 0, 3].ravel())
    dense = rng.standard_normal((8, 3))
    np.testing.assert_array_equal(to_blocks(dense, 4)[5], dense[4:, 2])


def test_blocks_that_do_not_divide_an_output_are_refused(rng):
    with pytest.raises(ValueError, match="36 weights to an output, which blocks of 8"):
        to_blocks(rng.standard_normal((3, 3, 4, 6)), 8)
    with pytest.raises(ValueError, match="do not make a kernel"):
        from_blocks(rng.standard_normal((3, 4)), (1, 1, 4, 4))


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (8, 3)])
def test_rescaling_multiplies_inputs_and_outputs(rng, shape):
    kernel, inputs, outputs = (rng.standard_normal(sides) for sides in (shape, shape[-2:-1], shape[-1:]))
    np.testing.assert_allclose(
        rescale(kernel, inputs, outputs), np.einsum("...io,i,o->...io", kernel, inputs, outputs)
    )
