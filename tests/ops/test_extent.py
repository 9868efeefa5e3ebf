from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.ops.convolution import strided_convolution
from jaxcodec.ops.extent import Extent, zero_outside


def extent(origins, sizes):
    return Extent(jnp.asarray(origins, jnp.int32), jnp.asarray(sizes, jnp.int32))


def test_no_extent_leaves_the_values_alone(rng):
    x = jnp.asarray(rng.normal(size=(1, 3, 4, 2)), jnp.float32)
    assert zero_outside(x, None, stride=4) is x


@pytest.mark.parametrize("stride", [1, 4])
def test_positions_outside_the_picture_become_zero(stride):
    origins, sizes = [(0, 0), (8, -8), (16, 0)], [(20, 9), (13, 7), (16, 40)]
    mask = np.asarray(zero_outside(jnp.ones((3, 6, 5, 2)), extent(origins, sizes), stride=stride))
    for b, row, column in np.ndindex(3, 6, 5):
        # A position of the subsampled grid stands for the pixel at `stride` times its index.
        place = (origins[b][0] + stride * row, origins[b][1] + stride * column)
        inside = 0 <= place[0] < sizes[b][0] and 0 <= place[1] < sizes[b][1]
        assert (mask[b, row, column] == inside).all()


def test_type_is_kept(strict_dtypes):
    x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    assert zero_outside(x, extent([(0, 0)], [(1, 2)]), stride=1).dtype == jnp.bfloat16


def test_not_a_number_outside_the_picture_does_no_harm():
    x = jnp.full((1, 2, 2, 1), jnp.nan)
    assert (zero_outside(x, extent([(16, 16)], [(4, 4)]), stride=1) == 0).all()


def test_a_masked_window_gives_what_the_whole_picture_gives(rng):
    # Two 5x5/2 layers with a bias, which without the masks would leak in from beyond the border.
    kernels = [jnp.asarray(rng.normal(size=(5, 5, c, 3)), jnp.float32) for c in (2, 3)]

    @jax.jit
    def network(x, window):
        h = zero_outside(x, window, stride=1)
        for i, kernel in enumerate(kernels):
            h = jnp.tanh(strided_convolution(h, kernel, stride=2)) + 1.0
            h = zero_outside(h, window, stride=2 ** (i + 1))
        return h

    H, W, side, halo = 21, 30, 24, 8
    picture = rng.normal(size=(H, W, 2)).astype(np.float32)
    whole = np.asarray(network(jnp.asarray(picture)[None], None))[0]
    # Surrounded by rubbish, so that a window over the border sees some.
    surrounded = np.full((H + 64, W + 64, 2), 99.0, np.float32)
    surrounded[32 : 32 + H, 32 : 32 + W] = picture
    for row, column in [(0, 0), (-8, -4), (-4, 8), (4, 12), (8, -16)]:
        window = surrounded[32 + row : 32 + row + side, 32 + column : 32 + column + side]
        out = np.asarray(network(jnp.asarray(window)[None], extent([(row, column)], [(H, W)])))[0]
        for i, j in np.ndindex(*whole.shape[:2]):
            # Positions whose context, as far as it is inside the picture, lies inside the window.
            known = all(
                max(0, 4 * k - halo) >= o and min(n, 4 * k + halo + 1) <= o + side
                for k, o, n in ((i, row, H), (j, column, W))
            )
            if known:
                np.testing.assert_allclose(out[i - row // 4, j - column // 4], whole[i, j], atol=1e-5)


def test_positions_of_a_margin_stay_where_the_picture_was_extended():
    # One position before the picture and two after it; the values begin one before the window.
    origins, sizes, margin = [(0, 0), (8, -8), (24, 16)], [(20, 12), (16, 8), (32, 24)], (1, 2)
    masked = jax.jit(partial(zero_outside, stride=4, margin=margin))
    mask = np.asarray(masked(jnp.ones((3, 9, 8, 2)), extent(origins, sizes)))
    for b, row, column in np.ndindex(3, 9, 8):
        place = (origins[b][0] // 4 - 1 + row, origins[b][1] // 4 - 1 + column)
        inside = all(-1 <= p < -(-n // 4) + 2 for p, n in zip(place, sizes[b], strict=True))
        assert (mask[b, row, column] == inside).all(), (b, row, column)
