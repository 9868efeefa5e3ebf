"""Rate-distortion curves out of result files, and the table of their BD-rates."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxcodec.errors import BadOption
from jaxcodec.metrics.bd import BDResult, bd_rate
from jaxcodec.metrics.ssim import ms_ssim_db

Points = tuple[tuple[float, float], ...]
_WANTED = (
    'a JSON file as `jaxcodec bench` writes, or {"name": ..., "results": {"bpp": [...], "psnr-rgb": [...], '
    '"ms-ssim-rgb": [...]}}, is wanted'
)


@dataclass(frozen=True)
class Curve:
    """The averages of a codec over pictures.

    Attributes
    ----------
    name
        What tables and plots call it.
    psnr, ms_ssim
        Pairs of bits per pixel and dB, by rising rate; empty where the measure is missing. The second is the
        mean MS-SSIM in dB, `-10 log10(1 - MS-SSIM)`.
    measured
        False for a curve read from elsewhere, for comparison.
    """

    name: str
    psnr: Points
    ms_ssim: Points
    measured: bool = True


@dataclass(frozen=True)
class Comparison:
    """A row of the table.

    Attributes
    ----------
    name
        The curve's.
    psnr, ms_ssim
        The BD-rates, each a result or a sentence on why there is none.
    left_out
        How many points of the curve, of both measures, were left out because another one has at least their
        quality for no more bits.
    """

    name: str
    psnr: BDResult | str
    ms_ssim: BDResult | str
    left_out: int = 0


def curve_of(record: Mapping[str, Any], *, measured: bool = True) -> Curve:
    """Return the curve of a record `{name, results: {bpp, psnr-rgb, ms-ssim-rgb, ...}}`.

    Raises
    ------
    BadOption
        If it is no such record.
    """
    try:
        name, results = record["name"], record["results"]
        rates = [float(rate) for rate in results["bpp"]]
        curves = {}
        for measure in ("psnr-rgb", "ms-ssim-rgb"):
            values = results.get(measure, [None] * len(rates))
            pairs = [
                (rate, float(value)) for rate, value in zip(rates, values, strict=True) if value is not None
            ]
            if measure == "ms-ssim-rgb":
                pairs = [(rate, float(ms_ssim_db(value))) for rate, value in pairs]
            curves[measure] = tuple(sorted(pair for pair in pairs if all(map(math.isfinite, pair))))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadOption(f"not a record of results ({type(error).__name__}: {error}); {_WANTED}") from error
    return Curve(str(name), curves["psnr-rgb"], curves["ms-ssim-rgb"], measured)


def read_curves(path: str | Path) -> list[Curve]:
    """Read the curves of a file that `jaxcodec bench` wrote, or of one in the schema of CompressAI's results.

    Raises
    ------
    BadOption
        If it cannot be read or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOption(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise BadOption(f"{path}: not JSON ({error}); {_WANTED}") from error
    records = content.get("codecs", [content]) if isinstance(content, dict) else None
    if not isinstance(records, list) or not records:
        raise BadOption(f"{path}: no results in it; {_WANTED}")
    try:
        return [curve_of(record, measured=False) for record in records]
    except BadOption as error:
        raise BadOption(f"{path}: {error}") from error


def with_distinct_names(curves: Sequence[tuple[Curve, str]]) -> list[Curve]:
    """Return the curves; where names are shared, the second of each pair, the source, tells them apart."""
    names = [curve.name for curve, _ in curves]
    distinct: list[Curve] = []
    for curve, source in curves:
        name = f"{curve.name} [{source}]" if source and names.count(curve.name) > 1 else curve.name
        distinct.append(replace(curve, name=name))
    return distinct


def choose_anchor(curves: Sequence[Curve]) -> Curve:
    """Return the curve to compare the others with: the measured `jpeg`, else one read, else the first."""
    named = [curve for curve in curves if curve.name.lower() == "jpeg"]
    return next((curve for curve in named if curve.measured), [*named, curves[0]][0])


def compare(curves: Sequence[Curve], anchor: Curve) -> list[Comparison]:
    """Return the BD-rates (PCHIP, over the whole overlap) of the curves but for the anchor, in per cent."""
    rows = []
    for curve in curves:
        if curve is not anchor:
            psnr, ms_ssim = rising(curve.psnr), rising(curve.ms_ssim)
            left_out = len(curve.psnr) - len(psnr) + len(curve.ms_ssim) - len(ms_ssim)
            results = _bd_rate(rising(anchor.psnr), psnr), _bd_rate(rising(anchor.ms_ssim), ms_ssim)
            rows.append(Comparison(curve.name, *results, left_out))
    return rows


def rising(points: Points) -> Points:
    """Return the points, by rate, that have a higher quality than all points of no more bits.

    A BD-rate needs a curve that rises, and now and then a step of a ladder costs bits without a gain.
    """
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return tuple(kept)


def format_table(rows: Sequence[Comparison], anchor: Curve) -> str:
    """Return the table as text: rate against the anchor at equal PSNR and at equal MS-SSIM, with overlaps."""
    lines = [
        f"BD-rate against {anchor.name} (PCHIP over the overlap; negative: smaller files at equal quality)"
    ]
    width = max([len("codec"), *(len(row.name) for row in rows)])
    lines.append(f"{'codec':{width}}  {'PSNR':>8}  {'overlap, dB':13}  {'MS-SSIM':>8}  overlap, dB")
    for row in rows:
        cells = "  ".join(_format_cell(result) for result in (row.psnr, row.ms_ssim))
        lines.append(f"{row.name:{width}}  {cells}".rstrip())
    for row in rows:
        if row.left_out:
            lines.append(
                f"{row.name}: left out, as costing bits without a gain: {row.left_out} of its points"
            )
        for measure, result in (("PSNR", row.psnr), ("MS-SSIM", row.ms_ssim)):
            if isinstance(result, str):
                lines.append(f"{row.name}: no BD-rate in {measure}: {result}")
    return "\n".join(lines)


def _bd_rate(anchor: Points, test: Points) -> BDResult | str:
    if not anchor or not test:
        return f"{'the anchor' if not anchor else 'it'} has no such values"
    rate_anchor, quality_anchor = zip(*anchor, strict=True)
    rate_test, quality_test = zip(*test, strict=True)
    try:
        return bd_rate(rate_anchor, quality_anchor, rate_test, quality_test)
    except ValueError as error:
        return str(error)


def _format_cell(result: BDResult | str) -> str:
    if isinstance(result, str):
        return f"{'-':>8}  {'':13}"
    return f"{result.value:+7.2f}%  {f'{result.low:.2f}..{result.high:.2f}':13}"
