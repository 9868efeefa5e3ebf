import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.ops.space_depth import depth_to_space, space_to_depth


def test_channels_of_a_block_are_ordered_row_column_channel(rng):
    x = rng.normal(size=(2, 6, 4, 3)).astype(np.float32)
    out = np.asarray(space_to_depth(jnp.asarray(x), 2))
    for row, column, c in np.ndindex(2, 2, 3):
        np.testing.assert_array_equal(out[..., (row * 2 + column) * 3 + c], x[:, row::2, column::2, c])


@pytest.mark.parametrize("block", [1, 2, 4])
def test_depth_to_space_inverts_space_to_depth(rng, block):
    x = jnp.asarray(rng.normal(size=(2, 8, 4, 3)), jnp.float32)
    blocks = space_to_depth(x, block)
    assert blocks.shape == (2, 8 // block, 4 // block, 3 * block**2)
    np.testing.assert_array_equal(depth_to_space(blocks, block), x)


def test_sizes_that_are_no_multiples_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        space_to_depth(jnp.zeros((1, 8, 6, 3)), 4)
    with pytest.raises(ValueError, match="multiple of 4 channels"):
        depth_to_space(jnp.zeros((1, 2, 2, 6)), 2)
