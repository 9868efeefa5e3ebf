"""The ways to quantise one quantity, by name; the caller picks, no model asks whether it is training.

| function                 | value                  | gradient                | for                             |
|--------------------------|------------------------|-------------------------|---------------------------------|
| `additive_uniform_noise` | y + U(-1/2, 1/2)       | identity                | rate, and distortion in Ballé   |
| `straight_through_round` | round(y)               | identity                | distortion in Theis, Toderici   |
| `soft_round`             | between y and round(y) | its own, a steep slope  | annealing from noise to rounds  |
| `hard_round`             | round(y)               | zero                    | coding                          |

All round halves to even, as `jnp.round` does; encoder and decoder never have to agree on a half because
only the encoder rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Quantiser = Callable[[jax.Array], jax.Array]


def additive_uniform_noise(y: jax.Array, *, key: jax.Array) -> jax.Array:
    """Add independent noise: `y + u`, u ~ U(-1/2, 1/2).

    Notes
    -----
    The density of the sum interpolates the probabilities of the rounded values (Ballé, Laparra and
    Simoncelli, ICLR 2017, section 3).
    """
    return y + jax.random.uniform(key, y.shape, y.dtype, -0.5, 0.5)


@jax.custom_jvp
def straight_through_round(y: jax.Array) -> jax.Array:
    """Round to the nearest integer, with the gradient of the identity.

    Notes
    -----
    Theis, Shi, Cunningham and Huszár, ICLR 2017, section 2.1: only the derivative is replaced; the value
    is that of `hard_round`.
    """
    return jnp.round(y)


@straight_through_round.defjvp
def _straight_through_round_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, jax.Array]:
    (y,), (dy,) = primals, tangents
    return jnp.round(y), dy


def hard_round(y: jax.Array) -> jax.Array:
    """Round to the nearest integer; the gradient is zero."""
    return jnp.round(y)


def soft_round(y: jax.Array, *, alpha: float | jax.Array) -> jax.Array:
    """Round differentiably: `floor(y) + 1/2 + tanh(alpha r) / (2 tanh(alpha / 2))`, r = y - floor(y) - 1/2.

    Parameters
    ----------
    y
        Any shape.
    alpha
        Steepness, > 0: the identity in the limit 0, `hard_round` in the limit of infinity.

    Notes
    -----
    Agustsson and Theis, NeurIPS 2020, section 4.1.
    """
    midpoint = jnp.floor(y) + 0.5
    # Below this the quotient is 0/0 in float32, and the function is the identity to within rounding.
    safe = jnp.maximum(alpha, 1e-3)
    soft = midpoint + jnp.tanh(safe * (y - midpoint)) / (2.0 * jnp.tanh(safe / 2.0))
    return jnp.where(jnp.asarray(alpha) < 1e-3, y, soft)
