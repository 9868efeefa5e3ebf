import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.ops.padding import crop, pad_to_multiple

MODES = ["zero", "edge", "reflect"]


def reflected(index, n):
    """Fold an index back into 0 .. n - 1 without repeating the border."""
    if n == 1:
        return 0
    index %= 2 * (n - 1)
    return index if index < n else 2 * (n - 1) - index


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (8, 3)])
def test_padding_extends_bottom_and_right_as_its_mode_says(rng, mode, size):
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    out = np.asarray(pad_to_multiple(jnp.asarray(x), 8, mode=mode))
    assert out.shape == (2, 8, 8, 3)
    for row, column in np.ndindex(8, 8):
        inside = row < size[0] and column < size[1]
        if mode == "zero":
            expected = x[:, row, column] if inside else 0.0
        elif mode == "edge":
            expected = x[:, min(row, size[0] - 1), min(column, size[1] - 1)]
        else:
            expected = x[:, reflected(row, size[0]), reflected(column, size[1])]
        np.testing.assert_array_equal(out[:, row, column], expected * np.ones((2, 3)))


@pytest.mark.parametrize("mode", MODES)
def test_a_multiple_is_not_padded(rng, mode):
    x = jnp.asarray(rng.normal(size=(1, 8, 16, 3)), jnp.float32)
    np.testing.assert_array_equal(pad_to_multiple(x, 8, mode=mode), x)


@pytest.mark.parametrize("mode", MODES)
def test_crop_undoes_padding_exactly(rng, mode):
    x = jnp.asarray(rng.normal(size=(1, 5, 11, 3)), jnp.float32)
    np.testing.assert_array_equal(crop(pad_to_multiple(x, 16, mode=mode), 5, 11), x)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="symmetric"):
        pad_to_multiple(jnp.zeros((1, 3, 3, 1)), 2, mode="symmetric")


@pytest.mark.parametrize("size", [(4, 3), (3, 4)])
def test_cropping_to_more_than_there_is_is_refused(size):
    with pytest.raises(ValueError, match="3x3"):
        crop(jnp.zeros((1, 3, 3, 1)), *size)
