"""Bjøntegaard deltas: the mean distance in rate or in quality between two rate-distortion curves.

G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001 (cubic fit).
Piecewise cubic Hermite interpolation (PCHIP) has replaced the fit in the standards' common test conditions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Method = Literal["pchip", "cubic"]


@dataclass(frozen=True)
class BDResult:
    """A Bjøntegaard delta and the range it was averaged over.

    Attributes
    ----------
    value
        `bd_rate`: per cent of rate, negative where the test codec needs less. `bd_psnr`: in units of the
        quality, positive where the test codec is better.
    low, high
        The overlap of the two curves: qualities for `bd_rate`, rates for `bd_psnr`.
    overlap_fraction
        Length of the overlap over the length of both curves' ranges together, in `(0, 1]`; rates in
        logarithm. A small one says that the value speaks for little of the curves.
    """

    value: float
    low: float
    high: float
    overlap_fraction: float


def bd_rate(
    rate_anchor: Sequence[float] | np.ndarray,
    quality_anchor: Sequence[float] | np.ndarray,
    rate_test: Sequence[float] | np.ndarray,
    quality_test: Sequence[float] | np.ndarray,
    *,
    method: Method = "pchip",
) -> BDResult:
    """Mean difference of rate at equal quality, in per cent of the anchor's rate.

    `100 * (exp(mean over the common qualities of (log rate_test - log rate_anchor)) - 1)`

    Parameters
    ----------
    rate_anchor, rate_test
        Rates in any unit, such as bits per pixel, above 0.
    quality_anchor, quality_test
        Quality of each point, in dB: PSNR, or MS-SSIM through `jaxcodec.metrics.ssim.ms_ssim_db`. The points
        may come in any order; exact repetitions are dropped.
    method
        `"pchip"` passes through every point and does not overshoot. `"cubic"` fits one cubic polynomial by
        least squares, as Bjøntegaard did for four points.

    Raises
    ------
    ValueError
        If a curve has fewer than 2 points (4 for cubic), values that are not finite, a rate not above 0, or
        a quality that does not rise with the rate; or if the curves have no quality in common.
    """
    anchor_rate, anchor_quality = _sorted_curve(rate_anchor, quality_anchor, "anchor", method)
    test_rate, test_quality = _sorted_curve(rate_test, quality_test, "test", method)
    difference, low, high, fraction = _mean_difference(
        (anchor_quality, np.log(anchor_rate)), (test_quality, np.log(test_rate)), method, "quality"
    )
    return BDResult(100.0 * math.expm1(difference), low, high, fraction)


def bd_psnr(
    rate_anchor: Sequence[float] | np.ndarray,
    quality_anchor: Sequence[float] | np.ndarray,
    rate_test: Sequence[float] | np.ndarray,
    quality_test: Sequence[float] | np.ndarray,
    *,
    method: Method = "pchip",
) -> BDResult:
    """Mean difference of quality at equal rate, in the units of the quality (dB), over the logarithm of rate.

    Parameters, methods and errors are those of `bd_rate`; `low` and `high` of the result are rates.
    """
    anchor_rate, anchor_quality = _sorted_curve(rate_anchor, quality_anchor, "anchor", method)
    test_rate, test_quality = _sorted_curve(rate_test, quality_test, "test", method)
    difference, low, high, fraction = _mean_difference(
        (np.log(anchor_rate), anchor_quality), (np.log(test_rate), test_quality), method, "rate"
    )
    return BDResult(difference, math.exp(low), math.exp(high), fraction)


def _sorted_curve(
    rate: Sequence[float] | np.ndarray, quality: Sequence[float] | np.ndarray, name: str, method: Method
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve by rising rate, or say what is wrong with it."""
    if method not in ("pchip", "cubic"):
        raise ValueError(f'method is {method!r}; it must be "pchip" or "cubic"')
    rates, qualities = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
    if rates.ndim != 1 or rates.shape != qualities.shape:
        raise ValueError(
            f"the {name} curve has rates of shape {rates.shape} and qualities of shape {qualities.shape}; "
            "give two lists of equal length"
        )
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all()):
        raise ValueError(
            f"the {name} curve has values that are not finite; "
            "remove points without a result and lossless points"
        )
    if (rates <= 0.0).any():
        raise ValueError(f"the {name} curve has a rate of {rates.min():g}; rates must be above 0")
    points = np.unique(np.stack([rates, qualities], axis=1), axis=0)  # sorts by rate, drops repetitions
    needed = 2 if method == "pchip" else 4
    if len(points) < needed:
        raise ValueError(
            f"the {name} curve has {len(points)} distinct points; {method} needs at least {needed}"
        )
    rates, qualities = points.T
    falls = np.flatnonzero((np.diff(qualities) <= 0.0) | (np.diff(rates) <= 0.0))
    if falls.size:
        first = int(falls[0])
        raise ValueError(
            f"the {name} curve does not rise: quality {qualities[first]:g} at rate {rates[first]:g} is "
            f"followed by quality {qualities[first + 1]:g} at rate {rates[first + 1]:g}; "
            "remove the worse point"
        )
    return rates, qualities


def _mean_difference(
    anchor: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], method: Method, axis: str
) -> tuple[float, float, float, float]:
    """Mean of test(x) - anchor(x) over the common x, that range, and its share of the whole range."""
    low = max(anchor[0][0], test[0][0])
    high = min(anchor[0][-1], test[0][-1])
    if low >= high:
        ranges = [np.exp(x) if axis == "rate" else x for x in (anchor[0], test[0])]
        raise ValueError(
            f"the curves have no {axis} in common: the anchor spans {ranges[0][0]:g} to {ranges[0][-1]:g}, "
            f"the test {ranges[1][0]:g} to {ranges[1][-1]:g}; add points until they overlap"
        )
    integrate = _integrate_pchip if method == "pchip" else _integrate_cubic
    difference = (integrate(*test, low, high) - integrate(*anchor, low, high)) / (high - low)
    whole = max(anchor[0][-1], test[0][-1]) - min(anchor[0][0], test[0][0])
    return float(difference), float(low), float(high), float((high - low) / whole)


def _integrate_cubic(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Exact integral from `low` to `high` of the cubic polynomial fitted to the points by least squares."""
    integral = np.polynomial.Polynomial.fit(x, y, 3).integ()
    return float(integral(high) - integral(low))


def _integrate_pchip(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Exact integral from `low` to `high` of the PCHIP interpolant through the points."""
    step = np.diff(x)
    secant = np.diff(y) / step
    slope = _pchip_slopes(step, secant)
    # On the interval k, with t = x - x[k]: y[k] + slope[k] t + square[k] t^2 + cube[k] t^3.
    square = (3.0 * secant - 2.0 * slope[:-1] - slope[1:]) / step
    cube = (slope[:-1] + slope[1:] - 2.0 * secant) / step**2

    def integral(t: np.ndarray) -> np.ndarray:
        return t * (y[:-1] + t * (slope[:-1] / 2.0 + t * (square / 3.0 + t * cube / 4.0)))

    start = np.clip(low, x[:-1], x[1:]) - x[:-1]
    stop = np.clip(high, x[:-1], x[1:]) - x[:-1]
    return float(np.sum(integral(stop) - integral(start)))


def _pchip_slopes(step: np.ndarray, secant: np.ndarray) -> np.ndarray:
    """Slopes at the points: a weighted harmonic mean of the secants, a three-point formula at the ends.

    Fritsch and Butland, "A method for constructing local monotone piecewise cubic interpolants", 1984; for
    the ends Moler, "Numerical Computing with Matlab", chapter 3. The same choices as `scipy.interpolate`.
    """
    if len(step) == 1:
        return np.array([secant[0], secant[0]])
    before, after = 2.0 * step[1:] + step[:-1], step[1:] + 2.0 * step[:-1]
    # The curves rise strictly, so no secant is zero and no sign changes.
    inside = (before + after) / (before / secant[:-1] + after / secant[1:])
    first = _end_slope(step[0], step[1], secant[0], secant[1])
    last = _end_slope(step[-1], step[-2], secant[-1], secant[-2])
    return np.concatenate([[first], inside, [last]])


def _end_slope(step: float, next_step: float, secant: float, next_secant: float) -> float:
    """One-sided three-point slope, limited so that the end interval stays monotone."""
    slope = ((2.0 * step + next_step) * secant - step * next_secant) / (step + next_step)
    return max(slope, 0.0)
