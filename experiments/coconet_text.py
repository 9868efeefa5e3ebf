"""The tables of `compare_coconet.py` as text: means, the spread, and how many pictures CocoNet wins and loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_TIE = 0.005  # dB: what rounds to nothing

DEFINITION = """\
PSNR in dB, of 8-bit pictures, mean over the test pictures; +- is the standard deviation over them. "wins" are the test
pictures on which CocoNet's PSNR is higher, of all (ties within 0.005 dB count for nobody). Parameters, CocoNet's steps
included, were chosen on other pictures; "clean known" stops each fit where the clean picture says, which nobody can.
"""


def text_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all tables as text."""
    return "\n".join([DEFINITION, *(_table(name, table) for name, table in tables.items())])


def _table(name: str, table: Mapping[str, Any]) -> str:
    if table["kind"] == "rate":
        return _rate(name, table)
    lines = [_title(name, table)]
    names = list(table["methods"])
    for group in ("x2 ", "x4 ") if table["kind"] == "upsample" else ("",):
        members = [method for method in names if method.startswith(group)]
        ours = f"{group}CocoNet" if group else table["ours"]
        lines += _methods(table["methods"], members, ours)
    if table["kind"] == "denoise":
        steps, clean, noisy = (table["curve"][key] for key in ("steps", "clean", "noisy"))
        some = sorted({round(k) for k in np.geomspace(1, len(steps), 9)})
        lines.append("  steps             " + "".join(f"{steps[k - 1]:8d}" for k in some))
        lines.append("  PSNR to the clean " + "".join(f"{clean[k - 1]:8.2f}" for k in some))
        lines.append("  PSNR to the noisy " + "".join(f"{noisy[k - 1]:8.2f}" for k in some))
    if "fit_psnr_at_the_end" in table:
        lines.append(
            f"  the fit to the small pictures reaches {table['fit_psnr_at_the_end']:.2f} dB at the end"
        )
    return "\n".join(lines) + "\n"


def _title(name: str, table: Mapping[str, Any]) -> str:
    return (
        f"{name}: {len(table['test'])} test pictures, {len(table['tuning'])} for tuning; {table['network']} "
        f"({table['weights']} weights), up to {table['steps']} steps at {table['learning_rate']:g}; "
        f"{table['cpu_ms_per_step_and_picture']:.2f} ms of CPU per step and picture"
    )


def _methods(methods: Mapping[str, Any], members: Sequence[str], ours: str) -> list[str]:
    mine = np.array(methods[ours]["psnr"])
    lines = []
    for method in members:
        psnr = np.array(methods[method]["psnr"])
        line = f"  {method:28} {psnr.mean():6.2f} +- {psnr.std():4.2f}"
        if method != ours:
            wins, losses = int((mine > psnr + _TIE).sum()), int((psnr > mine + _TIE).sum())
            line += f"   CocoNet {(mine - psnr).mean():+6.2f}, wins {wins}, loses {losses} of {len(psnr)}"
        parameters = ", ".join(f"{key} {value:g}" for key, value in methods[method]["parameters"].items())
        lines.append(f"{line:84} {parameters}".rstrip())
    return lines


def _rate(name: str, table: Mapping[str, Any]) -> str:
    rows = table["rows"]
    lines = [
        f"{name}: crops of {table['side']} x {table['side']}, the codec at its default settings beside the largest "
        "JPEG of at most as many bytes"
    ]
    for quality in sorted({row["quality"] for row in rows}):
        some = [row for row in rows if row["quality"] == quality]
        pairs = [(row["psnr"], row["jpeg_psnr"]) for row in some if row["jpeg_psnr"] is not None]
        line = f"  quality {quality}: {np.mean([row['bpp'] for row in some]):.3f} bpp, "
        line += f"{np.mean([row['psnr'] for row in some]):.2f} dB, "
        line += f"{np.mean([row['cpu_seconds'] for row in some]):.0f} s of CPU to encode; "
        if pairs:
            ours, jpeg = np.array(pairs).T
            line += f"where JPEG has a file so small: {ours.mean():.2f} against {jpeg.mean():.2f} dB, "
            line += f"wins {int((ours > jpeg).sum())}, loses {int((ours < jpeg).sum())} of {len(some)}"
        missing = len(some) - len(pairs)
        if missing:
            line += f"{'; ' if pairs else ''}JPEG has no file so small for {missing} of {len(some)}"
        lines.append(line)
    return "\n".join(lines) + "\n"
