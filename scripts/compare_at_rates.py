r"""Print PSNR and MS-SSIM of codecs at given rates, between the measured points of result files.

python scripts/compare_at_rates.py --results=results/toderici2017.json,results/kodak.json --codecs=toderici2017,jpeg

Between points both measures, MS-SSIM in dB, are interpolated over the logarithm of the rate by PCHIP, as for BD-rates.
The last column is the mean of MS-SSIM over the rates from the first to the last. Nothing is extrapolated: "-" stands
where a curve does not reach.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from scipy.interpolate import PchipInterpolator

from jaxcodec.errors import BadOption
from jaxcodec.evaluation.comparison import Points, read_curves

_RESULTS = flags.DEFINE_list("results", None, "Files of `jaxcodec bench`.", required=True)
_CODECS = flags.DEFINE_list("codecs", [], "Names of the curves to show; all where none is given.")
_RATES = flags.DEFINE_list("rates", ["0.25", "0.5", "1"], "Bits per pixel, ascending.")


def at_rates(points: Points, rates: np.ndarray) -> np.ndarray:
    """The dB of a curve at rates, NaN outside of its points; all NaN for less than two points."""
    if len(points) < 2:
        return np.full(len(rates), np.nan)
    bpp, decibels = np.array(points).T
    return PchipInterpolator(np.log(bpp), decibels, extrapolate=False)(np.log(rates))


def _cell(value: float, digits: int) -> str:
    return f"{value:9.{digits}f}" if np.isfinite(value) else f"{'-':>9}"


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    try:
        rates = np.array([float(rate) for rate in _RATES.value])
        curves = [curve for path in _RESULTS.value for curve in read_curves(path)]
    except ValueError as error:
        raise app.UsageError(f"--rates wants numbers: {error}") from error
    except BadOption as error:
        sys.exit(f"error: {error}")
    if len(rates) == 0 or not (rates > 0).all() or not (np.diff(rates) > 0).all():
        raise app.UsageError("--rates wants positive numbers, ascending")
    missing = set(_CODECS.value) - {curve.name for curve in curves}
    if missing:
        raise app.UsageError(f"no curve is named {', '.join(sorted(missing))}; --results has others")
    between = np.linspace(rates[0], rates[-1], 1001)
    heads = [f"{measure} {rate:g}" for measure in ("dB at", "MS at") for rate in rates]
    print(f"{'':24}" + "".join(f"{head:>11}" for head in [*heads, "MS mean"]))
    for curve in curves:
        if not _CODECS.value or curve.name in _CODECS.value:
            similarity, along = (
                1.0 - 10.0 ** (-at_rates(curve.ms_ssim, at) / 10.0) for at in (rates, between)
            )
            cells = [_cell(value, 2) for value in at_rates(curve.psnr, rates)]
            cells += [_cell(value, 4) for value in (*similarity, along.mean())]
            print(f"{curve.name:24}" + "".join(f"{cell:>11}" for cell in cells))


if __name__ == "__main__":
    app.run(main)
