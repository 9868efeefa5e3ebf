"""PSNR and bits per pixel against their definitions and scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from jaxcodec.errors import BadImage, JaxcodecError
from jaxcodec.metrics.psnr import mse, psnr, psnr_uint8
from jaxcodec.metrics.rate import bits_per_pixel


def noisy_pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, shape)
    b = np.clip(a + rng.integers(-25, 26, shape), 0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


@pytest.mark.parametrize("jit", [False, True])
def test_psnr_and_mse_equal_scikit_image_for_each_picture_of_a_batch(jit):
    a, b = noisy_pair((3, 17, 23, 3))
    a[1] = 0  # one picture far worse than the others
    wrap = jax.jit if jit else lambda f: f
    got = wrap(lambda a, b: psnr(a, b))(a / np.float32(255), b / np.float32(255))
    np.testing.assert_allclose(got, [peak_signal_noise_ratio(a[i], b[i]) for i in range(3)], rtol=1e-5)
    got = wrap(lambda a, b: psnr(a, b, data_range=255.0))(a, b)
    np.testing.assert_allclose(got, [peak_signal_noise_ratio(a[i], b[i]) for i in range(3)], rtol=1e-5)
    np.testing.assert_allclose(wrap(mse)(a, b), [mean_squared_error(a[i], b[i]) for i in range(3)], rtol=1e-5)


def test_bfloat16_pictures_are_measured_in_float32():
    a = jnp.full((1, 8, 8, 3), 0.5, jnp.bfloat16)
    b = a.at[0, 0, 0, 0].add(2**-8)
    assert psnr(a, b).dtype == jnp.float32
    np.testing.assert_allclose(mse(a, b), [2.0**-16 / 192], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 3), (40, 31, 3)])
def test_psnr_uint8_equals_scikit_image_for_grey_and_colour_of_odd_sizes(shape):
    a, b = noisy_pair(shape, seed=3)
    b.flat[0] = a.flat[0] ^ 1
    assert psnr_uint8(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), rel=1e-12)


def test_psnr_uint8_is_infinite_for_equal_pictures_and_zero_for_opposite_ones():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr_uint8(black, black) == np.inf
    assert psnr_uint8(black, black + np.uint8(255)) == pytest.approx(0.0)


def test_pictures_that_cannot_be_compared_are_refused_with_a_remedy():
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(BadImage, match=r"float64.*round and clip"):
        psnr_uint8(picture, picture.astype(float))
    with pytest.raises(BadImage, match="differ in shape"):
        psnr_uint8(picture, picture[:, :3])
    with pytest.raises(BadImage, match="differ in shape"):
        psnr_uint8(picture, picture[:, :, 0])
    with pytest.raises(JaxcodecError, match="with pixels"):
        psnr_uint8(picture[:0], picture[:0])
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(picture[None] / 255, picture[None, :, :3] / 255)
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(picture / 255, picture / 255)


def test_bits_per_pixel_counts_file_bytes_over_true_pixels():
    assert bits_per_pixel(49152, 512, 768) == 1.0
    assert bits_per_pixel(1, 1, 1) == 8.0
    assert bits_per_pixel(0, 3, 5) == 0.0
    with pytest.raises(ValueError, match="at least 0 bytes"):
        bits_per_pixel(-1, 3, 5)
    with pytest.raises(ValueError, match="at least 1"):
        bits_per_pixel(1, 0, 5)
