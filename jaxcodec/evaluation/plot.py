"""Rate-distortion plots: PSNR and MS-SSIM over bits per pixel. Needs matplotlib, the extra `report`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxcodec.errors import BadOption, MissingDependency
from jaxcodec.evaluation.comparison import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")


def check_plot(extension: str) -> None:
    """Raise what `plot_bytes` would, before anything long is done.

    Raises
    ------
    MissingDependency
        If matplotlib is not installed.
    BadOption
        If a plot has no such extension.
    """
    if extension.lower() not in FORMATS:
        raise BadOption(f"a plot cannot be written as '{extension}'; choose one of {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "plots need matplotlib; pip install 'jaxcodec[report]', or leave out --plot"
        ) from error


def draw(curves: Sequence[Curve], *, title: str = "") -> Figure:
    """Return a figure of two panels: measured curves as full lines, those read for comparison dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, measure, label in (
        (panels[0], "psnr", "PSNR, dB"),
        (panels[1], "ms_ssim", "MS-SSIM, dB: -10 log10(1 - MS-SSIM)"),
    ):
        points = {curve.name: getattr(curve, measure) for curve in curves}
        right = _right_limit([points[curve.name] for curve in curves if curve.measured])
        for number, curve in enumerate(curves):
            if not points[curve.name]:
                continue
            rates, values = zip(*points[curve.name], strict=True)
            style = "o-" if curve.measured else ".--"
            colour = f"C{number % 10}"  # the same in both panels, even if one lacks a curve
            panel.plot(rates, values, style, color=colour, label=curve.name, markersize=4, linewidth=1.4)
        panel.set(xlabel="bits per pixel", ylabel=label)
        if right is not None:
            panel.set_xlim(0.0, right)
            shown = [value for pairs in points.values() for rate, value in pairs if rate <= right]
            margin = 0.03 * (max(shown) - min(shown)) or 1.0
            panel.set_ylim(min(shown) - margin, max(shown) + margin)
        panel.grid(visible=True, alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=8, loc="lower right")
    if title:
        figure.suptitle(title)
    return figure


def plot_bytes(curves: Sequence[Curve], *, extension: str = ".png", title: str = "") -> bytes:
    """Return the file of `draw`, in one of `FORMATS`; errors as in `check_plot`."""
    check_plot(extension)
    buffer = io.BytesIO()
    draw(curves, title=title).savefig(buffer, format=extension[1:].lower(), dpi=150)
    return buffer.getvalue()


def _right_limit(measured: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """Largest rate to show: a little past the end of the curve that ends first, where all can be compared."""
    ends = [max(rate for rate, _ in points) for points in measured if points]
    return 1.3 * min(ends) if ends else None
