"""PSNR-HVS and PSNR-HVS-M against the psnr-hvsm package."""

import numpy as np
import psnr_hvsm
import pytest

from jaxcodec.errors import BadImage
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.psnr_hvs import luma_bt601, psnr_hvs, psnr_hvs_m


def noisy_pair(shape, noise=8.0, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = 128 + 70 * np.sin(rows / 7) * np.cos(columns / 11) + 30 * (columns > 29)
    a = np.clip((smooth[..., None] if len(shape) == 3 else smooth) + rng.normal(0, 9, shape), 0, 255)
    b = np.clip(a + rng.normal(0, noise, shape), 0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


def package_values(a, b):
    # The package divides by the variance of flat blocks and then discards the quotient.
    with np.errstate(invalid="ignore"):
        return psnr_hvsm.psnr_hvs_hvsm(a / 255, b / 255)


@pytest.mark.parametrize("noise", [0.7, 3.0, 30.0])
@pytest.mark.parametrize("shape", [(8, 8), (64, 48)])
def test_grey_pictures_measure_as_in_the_psnr_hvsm_package(shape, noise):
    a, b = noisy_pair(shape, noise)
    hvs, hvs_m = package_values(a, b)
    assert psnr_hvs(a, b) == pytest.approx(hvs, abs=1e-9)
    assert psnr_hvs_m(a, b) == pytest.approx(hvs_m, abs=1e-9)


def test_colour_pictures_measure_on_the_luma_of_the_psnr_hvsm_package():
    a, b = noisy_pair((40, 72, 3))
    lumas = [psnr_hvsm.bt601ycbcr(picture)[0] for picture in (a, b)]
    np.testing.assert_allclose(luma_bt601(a), lumas[0] * 255, atol=1e-9)
    hvs, hvs_m = psnr_hvsm.psnr_hvs_hvsm(*lumas)
    assert psnr_hvs(a, b) == pytest.approx(hvs, abs=1e-9)
    assert psnr_hvs_m(a, b) == pytest.approx(hvs_m, abs=1e-9)


def test_luma_has_studio_range():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(luma_bt601(colours), [[16, 235, 81]])


def test_blocks_that_the_edge_cuts_are_left_out():
    a, b = noisy_pair((45, 51))
    assert psnr_hvs(a, b) == psnr_hvs(a[:40, :48], b[:40, :48])
    assert psnr_hvs_m(a, b) == psnr_hvs_m(a[:40, :48], b[:40, :48])


def test_flat_blocks_mask_nothing():
    a = np.full((16, 16), 90, np.uint8)
    b = a + np.uint8(10)
    hvs, hvs_m = package_values(a, b)
    assert psnr_hvs(a, b) == pytest.approx(hvs, abs=1e-9)
    assert psnr_hvs_m(a, b) == psnr_hvs(a, b) == pytest.approx(hvs_m, abs=1e-9)


def test_equal_pictures_measure_infinite():
    a, _ = noisy_pair((24, 24, 3))
    assert psnr_hvs(a, a) == np.inf
    assert psnr_hvs_m(a, a) == np.inf


def test_masking_raises_the_value_and_fine_noise_counts_less_than_in_psnr():
    a, b = noisy_pair((64, 64), noise=6.0)
    assert psnr_hvs_m(a, b) > psnr_hvs(a, b) + 1
    assert psnr_hvs(a, b) > psnr_uint8(a, b)


def test_pictures_it_cannot_measure_are_refused_with_a_remedy():
    with pytest.raises(BadImage, match=r"7 x 9.*use PSNR"):
        psnr_hvs(np.zeros((7, 9), np.uint8), np.zeros((7, 9), np.uint8))
    with pytest.raises(BadImage, match="4 channels"):
        psnr_hvs_m(np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 4), np.uint8))
