"""Bjøntegaard deltas against scipy, the bjontegaard package and published numbers."""

import dataclasses
import math

import bjontegaard
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from jaxcodec.metrics.bd import BDResult, bd_psnr, bd_rate
from jaxcodec.metrics.ssim import ms_ssim_db

# Kodak means (bits per pixel, PSNR of RGB in dB, MS-SSIM), measured by the authors of CompressAI:
# InterDigitalInc/CompressAI results/image/kodak at 1.2.9.dev0, jpeg.json,
# compressai-bmshj2018-factorized_mse_cuda.json and vtm.json, rounded.
JPEG = np.array(
    [
        (0.22115, 23.7799, 0.803071),
        (0.32661, 26.5772, 0.889862),
        (0.42313, 28.0422, 0.923584),
        (0.50839, 29.0418, 0.942709),
        (0.58787, 29.7847, 0.953349),
        (0.66013, 30.3783, 0.960616),
        (0.72895, 30.9032, 0.966143),
        (0.78603, 31.3078, 0.969692),
        (0.84972, 31.7048, 0.97265),
        (0.906, 32.0587, 0.975253),
        (0.96438, 32.3993, 0.977267),
        (1.03721, 32.7899, 0.979276),
        (1.1274, 33.2347, 0.981364),
        (1.23985, 33.7926, 0.983707),
        (1.36883, 34.3943, 0.98575),
        (1.57181, 35.239, 0.988191),
        (1.85882, 36.3289, 0.990552),
        (2.3502, 37.9121, 0.992981),
        (3.40134, 40.5567, 0.995637),
    ]
).T
FACTORIZED = np.array(
    [
        (0.12262, 26.9088, 0.909989),
        (0.18853, 28.2179, 0.936048),
        (0.28781, 29.6169, 0.955471),
        (0.44038, 31.2771, 0.970358),
        (0.64814, 32.9561, 0.980642),
        (0.96698, 35.3809, 0.987881),
        (1.35117, 37.3969, 0.992199),
        (1.83327, 39.6213, 0.995105),
    ]
).T
VTM = np.array(
    [
        (0.04824, 26.1448, 0.860608),
        (0.1125, 28.493, 0.917691),
        (0.24582, 31.1999, 0.956108),
        (0.49055, 34.2615, 0.978078),
        (0.87481, 37.4198, 0.988777),
        (1.43085, 40.4244, 0.99386),
        (2.32461, 43.5058, 0.996948),
        (3.63261, 46.5918, 0.998656),
    ]
).T

methods = pytest.mark.parametrize("method", ["pchip", "cubic"])


def random_curve(seed, points):
    rng = np.random.default_rng(seed)
    rate = np.exp(np.cumsum(rng.uniform(0.05, 0.9, points)) - 2)
    return rate, 26 + np.cumsum(rng.uniform(0.02, 3, points))


@pytest.mark.parametrize(
    ("anchor", "test", "column", "pchip", "cubic"),
    [  # The percentages were computed with other programs from the same files.
        (JPEG, FACTORIZED, 1, -44.5, -45.0),
        (VTM, FACTORIZED, 1, 68.1, 67.8),
        (JPEG, VTM, 1, -67.6, -67.8),
        (JPEG, FACTORIZED, 2, -46.5, -46.4),
        (VTM, FACTORIZED, 2, 17.4, 17.1),
    ],
)
def test_bd_rate_gives_the_published_percentages_on_kodak(anchor, test, column, pchip, cubic):
    qualities = [curve[1] if column == 1 else ms_ssim_db(curve[2]) for curve in (anchor, test)]
    for method, expected in (("pchip", pchip), ("cubic", cubic)):
        got = bd_rate(anchor[0], qualities[0], test[0], qualities[1], method=method)
        assert got.value == pytest.approx(expected, abs=0.06)


@methods
@pytest.mark.parametrize("seed", range(6))
def test_bd_rate_and_bd_psnr_equal_the_bjontegaard_package(seed, method):
    anchor, test = random_curve(seed, 4 + seed), random_curve(100 + seed, 9 - seed)
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    expected = bjontegaard.bd_rate(*anchor, *test, **options)
    assert bd_rate(*anchor, *test, method=method).value == pytest.approx(expected, rel=1e-7)
    expected = bjontegaard.bd_psnr(*anchor, *test, **options)
    assert bd_psnr(*anchor, *test, method=method).value == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("points", [2, 3, 4, 12])
def test_pchip_integrals_equal_those_of_scipy(points):
    for seed in range(5):
        (rate_a, quality_a), (rate_b, quality_b) = random_curve(seed, points), random_curve(50 + seed, points)
        quality_b += quality_a[0] - quality_b[0] + 0.3 * np.ptp(quality_a)  # so that the curves overlap
        got = bd_rate(rate_a, quality_a, rate_b, quality_b)
        a = PchipInterpolator(quality_a, np.log(rate_a)).integrate(got.low, got.high)
        b = PchipInterpolator(quality_b, np.log(rate_b)).integrate(got.low, got.high)
        expected = 100 * math.expm1((b - a) / (got.high - got.low))
        assert got.value == pytest.approx(expected, rel=1e-9)


@methods
def test_a_codec_that_needs_a_quarter_less_at_every_quality_has_a_bd_rate_of_minus_25_percent(method):
    rate, quality = JPEG[0], JPEG[1]
    assert bd_rate(rate, quality, 0.75 * rate, quality, method=method).value == pytest.approx(-25.0)
    assert bd_psnr(rate, quality, rate, quality + 0.5, method=method).value == pytest.approx(0.5)
    assert bd_rate(rate, quality, rate, quality, method=method).value == pytest.approx(0.0, abs=1e-9)


def test_exchanging_the_codecs_inverts_the_ratio_of_rates():
    forward = bd_rate(JPEG[0], JPEG[1], VTM[0], VTM[1]).value
    backward = bd_rate(VTM[0], VTM[1], JPEG[0], JPEG[1]).value
    assert (1 + forward / 100) * (1 + backward / 100) == pytest.approx(1.0)


def test_the_overlap_is_reported_in_quality_for_bd_rate_and_in_rate_for_bd_psnr():
    by_rate = bd_rate([1, 2, 4], [30, 32, 34], [1, 2, 8], [31, 33, 38])
    assert (by_rate.low, by_rate.high, by_rate.overlap_fraction) == pytest.approx((31, 34, 3 / 8))
    by_quality = bd_psnr([1, 2, 4], [30, 32, 34], [2, 4, 8], [31, 33, 38])
    assert (by_quality.low, by_quality.high, by_quality.overlap_fraction) == pytest.approx((2, 4, 1 / 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        by_rate.value = 0.0
    assert isinstance(by_quality, BDResult)


@methods
def test_the_order_of_points_and_exact_repetitions_do_not_matter(method):
    order = np.random.default_rng(1).permutation(len(FACTORIZED[0]))
    order = np.concatenate([order, order[:2]])
    expected = bd_rate(*JPEG[:2], *FACTORIZED[:2], method=method)
    shuffled = bd_rate(*JPEG[:2, ::-1], *FACTORIZED[:2, order], method=method)
    assert dataclasses.astuple(shuffled) == pytest.approx(dataclasses.astuple(expected), rel=1e-12)


def test_curves_without_a_common_quality_are_refused_with_their_ranges():
    with pytest.raises(
        ValueError, match=r"no quality in common: the anchor spans 30 to 32, the test 33 to 35"
    ):
        bd_rate([1, 2], [30, 32], [1, 2], [33, 35])
    with pytest.raises(ValueError, match="no quality in common"):
        bd_rate([1, 2], [30, 32], [1, 2], [32, 35])  # a single common quality is no range
    with pytest.raises(ValueError, match=r"no rate in common: the anchor spans 1 to 2, the test 4 to 8"):
        bd_psnr([1, 2], [30, 32], [4, 8], [30, 32])


@pytest.mark.parametrize(
    ("rate", "quality", "message"),
    [
        ([1, 2, 3, 4], [30, 31, math.nan, 33], "test curve has values that are not finite"),
        ([1, 2, 3, 4], [30, 31, 32, math.inf], "remove points without a result and lossless"),
        ([0, 2, 3, 4], [30, 31, 32, 33], "rate of 0; rates must be above 0"),
        ([1, 2, 3, 4], [30, 32, 31, 33], "quality 32 at rate 2 is followed by quality 31 at rate 3"),
        ([1, 2, 3, 4], [30, 31, 31, 33], "does not rise"),
        ([1, 2, 2, 4], [30, 31, 32, 33], "does not rise"),
        ([1, 2, 3], [30, 31, 32, 33], "equal length"),
        ([[1, 2]], [[30, 31]], "equal length"),
        ([1], [30], "1 distinct points; pchip needs at least 2"),
        ([], [], "0 distinct points"),
    ],
)
def test_curves_that_are_no_curves_are_refused_with_a_remedy(rate, quality, message):
    for measure in (bd_rate, bd_psnr):
        with pytest.raises(ValueError, match=message):
            measure(*JPEG[:2], rate, quality)


def test_unknown_methods_and_too_few_points_for_the_cubic_fit_are_refused():
    with pytest.raises(ValueError, match=r"'akima'.*must be"):
        bd_rate(*JPEG[:2], *VTM[:2], method="akima")
    with pytest.raises(ValueError, match="anchor curve has 3 distinct points; cubic needs at least 4"):
        bd_rate(*JPEG[:2, :3], *VTM[:2], method="cubic")
