"""How coarsely a file was quantised, as one number that both networks are told: so one pair serves every quality.

`coarseness = round(255 log2(step) / 8)`, an integer 0..255, for a step of 1 to 256 levels of 8-bit samples. The step
of a JPEG file is read from its own table; those of JPEG 2000 and HEVC follow from the quality they were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_OCTAVES = 8.0
_LOW_FREQUENCIES = 4

# ITU-T T.81, table K.1, the luma table that libjpeg scales: row by vertical, column by horizontal frequency.
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def coarseness_of_step(step: float) -> int:
    """`round(255 log2(step) / 8)`, within 0..255."""
    return int(np.clip(np.round(255.0 * np.log2(max(step, 1.0)) / _OCTAVES), 0, 255))


def step_of_coarseness(coarseness: float) -> float:
    """`2^(8 coarseness / 255)`, in 8-bit levels."""
    return float(2.0 ** (_OCTAVES * coarseness / 255.0))


def luma_table(quality: int) -> np.ndarray:
    """The luma table of libjpeg for a quality 1..100, int64 `[8, 8]`: table K.1 scaled, within 1..255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((np.array(LUMA_TABLE) * scale + 50) // 100, 1, 255)


def jpeg_coarseness(table: Sequence[Sequence[int]] | np.ndarray) -> int:
    """Coarseness of a JPEG luma table `[8, 8]`: by the mean of its 16 lowest frequencies.

    High frequencies are hardly ever coded, whatever their step.
    """
    low = np.asarray(table, np.float64)[:_LOW_FREQUENCIES, :_LOW_FREQUENCIES]
    return coarseness_of_step(float(low.mean()))


def jpeg2000_coarseness(quality: float) -> int:
    """Coarseness of the codec `jpeg2000`, which aims at a PSNR of 24 + 0.24 q dB.

    An error of variance d is that of a uniform quantiser with the step sqrt(12 d).
    """
    return coarseness_of_step(255.0 * 10.0 ** (-(24.0 + 0.24 * quality) / 20.0) * 12.0**0.5)


def hevc_coarseness(quality: float) -> int:
    """Coarseness of the codec `hevc`: libheif asks for QP = 0.51 (100 - q), and the step is 2^((QP - 4) / 6)."""
    return coarseness_of_step(2.0 ** (((100.0 - quality) * 0.51 - 4.0) / 6.0))
