r"""Rounding that weighs the bits: an encoder's choice, which no decoder needs to know of.

The nearest integer is not always the best: a latent of 0.6 rounded to 0 loses a little distortion and saves
several bits. Each latent takes, of the nearest integer and its two neighbours, the k that minimises

    bits(k) + w (y - k)^2

where bits(k) comes from the channel's coding table. w is the price of squared error in bits. Training leaves it
the same for all channels: scaling a channel by g changes its rate by log2(g) and its distortion by 1/g^2, and
where these balance with the uniform noise's variance of 1/12,

    1 / ln 2 = 2 w / 12,    w = 6 / ln 2 = 8.66.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.coding.tables import PRECISION, CodingTables

BALANCED_WEIGHT = 6.0 / math.log(2.0)
"""w in bits per squared unit of a latent, from the balance above."""


class CodeLengths(NamedTuple):
    """Bits per symbol, as arrays for a compiled function.

    Attributes
    ----------
    bits
        float32 `[C, L]`: of entry i of each channel's table; rows shorter than L repeat their escape.
    first
        int32 `[C]`: the symbol of entry 0.
    last
        int32 `[C]`: the index of the escape.
    """

    bits: jax.Array | np.ndarray
    first: jax.Array | np.ndarray
    last: jax.Array | np.ndarray


def code_lengths(tables: CodingTables) -> CodeLengths:
    """The code lengths of `tables`."""
    longest = max(len(counts) for counts in tables.counts)
    bits = np.stack(
        [
            PRECISION - np.log2(np.pad(counts, (0, longest - len(counts)), mode="edge"))
            for counts in tables.counts
        ]
    )
    return CodeLengths(bits.astype(np.float32), np.array(tables.offsets), tables.sizes)


def rate_aware_round(y: jax.Array, lengths: CodeLengths, weight: float | jax.Array) -> jax.Array:
    """Round y `[..., C]` float32 to the integers, still float32, that minimise `bits(k) + weight (y - k)^2`."""
    nearest = jnp.round(y)
    table = jnp.asarray(lengths.bits)
    axes = (1,) * (y.ndim - 1) + (-1,)
    channel = jnp.arange(table.shape[0]).reshape(axes)
    first, last = lengths.first.reshape(axes), lengths.last.reshape(axes)

    def cost(k: jax.Array) -> jax.Array:
        entry = k.astype(jnp.int32) - first
        entry = jnp.where((entry < 0) | (entry >= last), last, entry)
        return table[channel, entry] + weight * jnp.square(y - k)

    best, best_cost = nearest, cost(nearest)
    for candidate in (nearest - 1.0, nearest + 1.0):
        candidate_cost = cost(candidate)
        # Strictly less: of equals the nearest stays.
        best = jnp.where(candidate_cost < best_cost, candidate, best)
        best_cost = jnp.minimum(candidate_cost, best_cost)
    return best
