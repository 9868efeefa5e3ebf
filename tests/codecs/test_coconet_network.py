"""CocoNet's coordinates and networks from the formulas, fits that share nothing, and the tasks beside coding."""

import jax
import numpy as np
import pytest

from jaxcodec.codecs.coconet import (
    FitSettings,
    NetworkConfig,
    complete,
    denoise,
    estimate_noise,
    fit,
    render,
    upsample,
)
from jaxcodec.codecs.coconet.grid import coordinates
from jaxcodec.codecs.coconet.model import apply, init
from jaxcodec.errors import BadImage
from jaxcodec.metrics.psnr import psnr_uint8
from tests.codecs.coconet_networks import PICTURE, QUICK, TINY
from tests.codecs.golden_codecs import levels_apart

# --- coordinates ---


def by_the_formula(i, j, height, width, e):
    """The six numbers of the original code (the specification, section 2)."""
    x, y = j / e + 0.5, i / e + 0.5
    radius = ((x - width / 2) ** 2 + (y - height / 2) ** 2) ** 0.5
    return [x, y, width - x, height - y, radius, np.arctan2(y, x)]


@pytest.mark.parametrize("e", [1, 2, 4])
def test_the_original_grid_is_that_of_the_formula_with_its_angle_from_the_corner(e):
    grid = coordinates(5, 9, factor=e, aligned=False)
    expected = [by_the_formula(i, j, 5, 9, e) for i in range(5 * e) for j in range(9 * e)]
    np.testing.assert_allclose(grid, expected, rtol=1e-6)


@pytest.mark.parametrize("e", [2, 3, 4])
def test_the_aligned_grid_averages_to_the_pixels_it_divides_and_the_original_is_off(e):
    fine, coarse = (coordinates(6, 4, factor=factor)[:, :2] for factor in (e, 1))
    blocks = fine.reshape(6, e, 4, e, 2).mean(axis=(1, 3)).reshape(-1, 2)
    np.testing.assert_allclose(blocks, coarse, rtol=1e-6)
    off = coordinates(6, 4, factor=e, aligned=False)[:, :2] - fine
    np.testing.assert_allclose(off, 0.5 - 0.5 / e, rtol=1e-5)


def test_both_grids_are_one_where_nothing_is_enlarged():
    np.testing.assert_array_equal(coordinates(7, 3), coordinates(7, 3, aligned=False))


def test_the_centred_angle_turns_once_around_the_centre():
    angles = coordinates(3, 3, inputs="centred")[:, 5].reshape(3, 3)
    assert angles[0, 0] == pytest.approx(-3 * np.pi / 4)
    assert angles[2, 1] == pytest.approx(np.pi / 2)
    corner = coordinates(3, 3)[:, 5]
    assert 0 < corner.min() < corner.max() < np.pi / 2


@pytest.mark.parametrize("size", [(32, 20), (64, 64), (100, 400)], ids=str)
def test_lengths_of_large_pictures_are_those_of_a_side_of_32(size):
    lengths = coordinates(*size)[:, :5]
    assert lengths.max() < 46  # the diagonal of 32 x 32
    assert lengths[:, :4].max() == pytest.approx(32, rel=0.02)


def test_sines_and_cosines_have_octaves_of_the_longer_side():
    grid = coordinates(2, 4, inputs="fourier", octaves=2)
    assert grid.shape == (8, 10)
    x, y = -0.75, -0.25
    np.testing.assert_allclose(grid[0, :2], [x, y])
    for octave, start in ((0, 2), (1, 6)):
        w = np.pi * 2**octave
        expected = [np.sin(w * x), np.sin(w * y), np.cos(w * x), np.cos(w * y)]
        np.testing.assert_allclose(grid[0, start : start + 4], expected, atol=1e-6)


def test_some_pixels_are_a_part_of_the_whole_grid():
    whole = coordinates(5, 6, factor=2.0)
    np.testing.assert_array_equal(coordinates(5, 6, factor=2.0, pixels=range(13, 47)), whole[13:47])


# --- the network ---


def test_the_paper_s_network_has_91903_weights_and_the_compact_one_7591():
    assert NetworkConfig().parameter_count == 91_903
    assert NetworkConfig(width=28).parameter_count == 7_591
    shapes = jax.eval_shape(lambda key: init(key, NetworkConfig()), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 91_903


@pytest.mark.parametrize("activation", ["tanh", "sine"])
def test_the_network_is_the_one_written_out_in_numpy(activation, key):
    config = NetworkConfig(width=7, depth=3, activation=activation)
    params = jax.tree.map(lambda w: np.asarray(w) + np.float32(0.01), init(key, config))
    x = grid = coordinates(4, 6)
    for layer in params[:-1]:
        x = x @ layer["kernel"] + layer["bias"]
        x = np.tanh(x) if activation == "tanh" else np.sin(30 * x)
    logits = x @ params[-1]["kernel"] + params[-1]["bias"]
    np.testing.assert_allclose(apply(params, grid, config), 1 / (1 + np.exp(-logits)), atol=1e-4)


def test_a_picture_is_rendered_in_pieces_as_in_one(key):
    config = NetworkConfig(width=5, depth=2)
    params = init(key, config)
    whole = apply(params, coordinates(90, 100), config)
    expected = np.round(255 * np.asarray(whole)).astype(np.uint8).reshape(90, 100, 3)
    assert levels_apart(render(params, 90, 100, config), expected) <= 1


# --- fitting ---


def test_pictures_fitted_together_are_fitted_as_alone():
    settings = FitSettings(steps=30, learning_rate=1e-3, segment=30)
    pictures = np.stack([PICTURE, PICTURE[::-1, ::-1]])
    together, alone = fit(pictures, TINY, settings), fit(pictures[:1], TINY, settings)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=2e-3, atol=2e-4)


def test_a_fit_comes_nearer_the_longer_it_takes():
    left = []

    def watch(steps, params):
        first = jax.tree.map(lambda leaf: leaf[0], params)
        left.append((steps, psnr_uint8(PICTURE, render(first, 13, 17, TINY))))
        return len(left) == 3

    fit(PICTURE[None], TINY, FitSettings(steps=300, learning_rate=1e-2, segment=30), watch=watch)
    assert [steps for steps, _ in left] == [30, 60, 90]  # it stopped where it was told to
    psnrs = [psnr for _, psnr in left]
    assert psnrs[-1] > psnrs[0] + 1


def test_masked_pixels_have_no_influence():
    known = np.ones((1, 13, 17), bool)
    known[0, 4:9, 4:9] = False
    other = PICTURE.copy()
    other[4:9, 4:9] = 255 - other[4:9, 4:9]
    a, b = (fit(picture[None], TINY, QUICK, known=known) for picture in (PICTURE, other))
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, two)


# --- tasks ---


def test_the_noise_of_a_flat_picture_is_estimated():
    rng = np.random.default_rng(1)
    noisy = np.clip(np.round(rng.normal(128, 20, (64, 65, 3))), 0, 255).astype(np.uint8)
    assert estimate_noise(noisy) == pytest.approx(20, rel=0.05)
    assert estimate_noise(np.full((9, 9), 7, np.uint8)) == 0
    assert estimate_noise(np.zeros((1, 5), np.uint8)) == 0


SMOOTH = NetworkConfig(width=8, depth=1, inputs="xy")


def test_denoising_stops_before_the_noise_and_comes_nearer_to_the_clean_picture():
    y, x = np.mgrid[:16, :16] / 15
    clean = np.round(100 * x + 100 * y * x).astype(np.uint8)
    noisy = clean + np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    settings = FitSettings(steps=900, learning_rate=3e-2, segment=30)
    denoised = denoise(noisy, sigma=25, config=SMOOTH, settings=settings)
    assert psnr_uint8(clean, denoised) > psnr_uint8(clean, noisy) + 3
    left = np.sqrt(np.mean((denoised.astype(float) - noisy) ** 2))
    assert 0.8 * 25 < left < 1.1 * 25


def test_a_ramp_is_enlarged_to_the_finer_ramp_nearer_on_the_aligned_grid():
    ramp = np.round(np.tile(40 + 10.0 * np.arange(16), (16, 1))).astype(np.uint8)
    fine = np.tile(40 - 2.5 + 5.0 * np.arange(32), (32, 1))[:, 2:-2]
    settings = FitSettings(steps=300, learning_rate=3e-2, cosine=True, segment=30)
    aligned, original = (
        upsample(ramp, 2, aligned=aligned, config=SMOOTH, settings=settings) for aligned in (True, False)
    )
    assert aligned.shape == (32, 32)
    errors = [np.sqrt(np.mean((picture[:, 2:-2] - fine) ** 2)) for picture in (aligned, original)]
    assert errors[0] < errors[1] - 0.4  # the original's is a quarter of a pixel off, at 10 levels a pixel
    assert errors[0] < 3
    assert upsample(ramp, 0.5, config=SMOOTH, settings=settings).shape == (8, 8)


def test_a_hole_is_filled_and_nothing_else_touched():
    hole = np.zeros((13, 17), bool)
    hole[5:8, 6:10] = True
    filled = complete(PICTURE, hole, config=TINY, settings=QUICK)
    np.testing.assert_array_equal(filled[~hole], PICTURE[~hole])
    assert (filled[hole] != PICTURE[hole]).any()
    with pytest.raises(BadImage, match="of the picture's size"):
        complete(PICTURE, hole[1:], config=TINY, settings=QUICK)
    with pytest.raises(BadImage, match="nothing to fit to"):
        complete(PICTURE, np.ones((13, 17), bool), config=TINY, settings=QUICK)
