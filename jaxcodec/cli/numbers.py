"""Numbers as users write and read them: qualities, targets, gaps."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text} makes no sense; give a number above 0")
    return number


def quality(text: str) -> float:
    """A quality, an int where it is written as one; `ValueError` if it is none, as argparse wants it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no quality")
    return int(number) if number == int(number) else number


def gap_to(bpp: float, target: float) -> str:
    """`2.4 % below 0.5`."""
    percent = 100.0 * (bpp / target - 1.0)
    return f"{abs(percent):.1f} % {'above' if percent > 0 else 'below'} {target:g}"
