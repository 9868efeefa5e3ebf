"""The comparison's rivals on pictures with a known answer, and its count of wins and losses."""

import numpy as np
import pytest

from experiments.coconet_rivals import (
    FILLERS,
    RESAMPLERS,
    denoisers,
    enlarge,
    gaussian,
    median,
    shrink,
)
from experiments.coconet_text import text_of

FLAT = np.full((16, 16, 3), (40, 90, 200), np.uint8)


@pytest.mark.parametrize("name", denoisers(20))
def test_every_filter_leaves_a_flat_picture_alone_and_takes_noise_out_of_it(name):
    rng = np.random.default_rng(0)
    noisy = np.clip(np.rint(FLAT + rng.normal(0, 20, FLAT.shape)), 0, 255).astype(np.uint8)
    grid = denoisers(20)[name]
    assert len({str(parameters) for parameters, _ in grid}) == len(grid)
    _, function = grid[-1]
    np.testing.assert_array_equal(function(FLAT), FLAT)
    before, after = (np.mean((image.astype(float) - FLAT) ** 2) for image in (noisy, function(noisy)))
    assert after < before / 4


def test_filters_do_not_mix_the_colours():
    red = np.zeros((9, 9, 3), np.uint8)
    red[4, 4, 0] = 255
    assert gaussian(red, sigma=1.0)[..., 1:].max() == 0
    assert gaussian(red, sigma=1.0)[..., 0].sum() == pytest.approx(255, abs=9)
    assert median(red, size=3).max() == median(red, size=0).max() == 0


@pytest.mark.parametrize("rival", RESAMPLERS)
def test_enlarging_is_on_the_grid_that_shrinking_averages(rival):
    ramp = np.tile(np.arange(0, 240, 4, dtype=np.uint8)[:, None], (8, 1, 3))
    middle = np.s_[:, 8:-8]
    difference = enlarge(shrink(ramp, 4), 4, rival)[middle].astype(int) - ramp[middle]
    assert abs(difference.mean()) < 0.6
    assert np.abs(difference).max() <= (8 if rival == "nearest" else 2)


@pytest.mark.parametrize("name", FILLERS)
def test_a_hole_in_a_flat_picture_is_filled_with_its_colour(name):
    hole = np.zeros((16, 16), bool)
    hole[4:12, 4:12] = True
    broken = FLAT.copy()
    broken[hole] = 7
    np.testing.assert_allclose(FILLERS[name](broken, hole), FLAT, atol=1)


def test_wins_and_losses_are_counted_picture_by_picture_and_ties_are_neither():
    methods = {
        "CocoNet": {"psnr": [30.0, 25.0, 20.0, 10.0], "parameters": {"steps": 50}},
        "mean": {"psnr": [29.0, 24.0, 20.001, 12.0], "parameters": {}},
    }
    table = {
        "kind": "complete",
        "test": ["a", "b", "c", "d"],
        "tuning": ["e"],
        "network": "10x32 tanh",
        "weights": 1,
        "steps": 50,
        "learning_rate": 1e-3,
        "cpu_ms_per_step_and_picture": 1.0,
        "methods": methods,
        "ours": "CocoNet",
    }
    text = text_of({"complete": table})
    assert "wins 2, loses 1 of 4" in text
    assert "-0.00" in text or "+0.00" in text
