"""Rounding latents with an eye on what they cost: rate-distortion optimised quantisation.

A decoder takes any symbols. The nearest integers have the least distortion, but where a table makes zero cheap and
one dear, a latent of 0.6 is better given up. With w bits per squared step of distortion, each symbol q of a latent z
(in steps) minimises

    w (z - q)^2 + bits(q)

over the nearest integer, the next one towards zero, and zero itself. As the tables are known to the encoder, and
every symbol is coded on its own, that is the optimum over these (Sullivan, IEEE Trans. Information Theory, 1996: the
entropy-constrained quantiser of a Laplacian source has a dead zone).
"""

from __future__ import annotations

import numpy as np

from jaxcodec.coding.classes import ClassTables, choose_classes, class_positions


def quantise_for_rate(scaled: np.ndarray, tables: ClassTables, weight: float) -> np.ndarray:
    """Quantise latents in steps.

    Parameters
    ----------
    scaled
        float32 `[h, w, C]`, within 2^20 of zero.
    tables
        What they will be coded with; the class of each block is the best one of the nearest integers.
    weight
        w, bits per squared step, positive; the larger, the nearer to plain rounding. At high rates, where the
        step is in balance with the rate, it is 6 / ln 2 = 8.7.

    Returns
    -------
    np.ndarray
        int32 `[h, w, C]`.
    """
    channels = scaled.shape[2]
    nearest = np.rint(scaled).astype(np.int32)
    classes = choose_classes(nearest, tables)
    number = np.zeros(nearest.shape[:2], np.intp).ravel()
    for k, where in class_positions(classes, tables.block, nearest.shape[:2]):
        number[where] = k
    chosen = nearest.ravel().copy()
    # Zeros stay: they have no candidates.
    position = np.flatnonzero(chosen)
    z, q, channel = scaled.ravel()[position], chosen[position], position % channels
    number = number[position // channels]

    def cost(candidate: np.ndarray) -> np.ndarray:
        distance = z - candidate.astype(np.float32)
        return np.float32(weight) * distance * distance + tables.symbol_bits(candidate, channel, number)

    best, least = q, cost(q)
    for candidate in (q - np.sign(q), np.zeros_like(q)):
        price = cost(candidate)
        better = price < least
        best, least = np.where(better, candidate, best), np.where(better, price, least)
    chosen[position] = best
    return chosen.reshape(scaled.shape)
