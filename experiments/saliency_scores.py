"""Scores of a saliency map against eye fixations, and against known places of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MapScores:
    """Scores of one map.

    Attributes
    ----------
    auc
        AUC-Judd (Judd et al., ICCV 2009): the area under the curve of hits over false alarms as the threshold sinks
        through the map's values at the fixations; other pixels are the negatives. 0.5 is chance.
    nss
        Normalised scanpath saliency (Peters et al., 2005): the mean of the map at the fixations, in standard
        deviations above its mean. 0 is chance.
    cc
        Linear correlation with the density of the fixations.
    """

    auc: float
    nss: float
    cc: float


def score_map(values: np.ndarray, fixations: np.ndarray, density: np.ndarray) -> MapScores:
    """Return the scores of a map `[H, W]`.

    Parameters
    ----------
    values, density
        The map, and the density of the fixations, both `[H, W]`.
    fixations
        `[N, 2]`, x and y in pixels of the map.
    """
    values = np.asarray(values, np.float64)
    height, width = values.shape
    columns = np.clip(fixations[:, 0].astype(int), 0, width - 1)
    rows = np.clip(fixations[:, 1].astype(int), 0, height - 1)
    hits = values[rows, columns]
    deviation = values.std()
    nss = 0.0 if deviation == 0.0 else float((hits.mean() - values.mean()) / deviation)
    cc = 0.0 if deviation == 0.0 else float(np.corrcoef(values.ravel(), density.ravel())[0, 1])
    return MapScores(auc_judd(values, rows, columns), nss, cc)


def auc_judd(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Return AUC-Judd, equal values counted half: the chance that a fixated pixel is above another one."""
    fixated = np.zeros(values.shape, bool)
    fixated[rows, columns] = True
    others = np.sort(values[~fixated])
    hits = values[fixated]
    below = np.searchsorted(others, hits, side="left")
    equal = np.searchsorted(others, hits, side="right") - below
    return float(np.mean((below + 0.5 * equal) / len(others)))


def object_recall(values: np.ndarray, pieces: int) -> float:
    """Return the share of `pieces` equal parts, side by side, whose middle holds a salient place.

    A part counts where the mean of its middle half (in both directions) is at least the mean of the whole map and
    its largest value there at least half of the whole map's.
    """
    height, width = values.shape
    side, found = width // pieces, 0
    for number in range(pieces):
        left = number * side + side // 4
        middle = values[height // 4 : height - height // 4, left : left + side // 2]
        found += bool(middle.mean() >= values.mean() and middle.max() >= 0.5 * values.max())
    return found / pieces
