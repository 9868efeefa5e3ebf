r"""Gaussian scale mixtures, the density of Theis, Shi, Cunningham and Huszár (ICLR 2017), section 2.2.

Every channel has zero-mean components of its own,

    q(z) = sum_s pi_s N(z; 0, sigma_s^2),      log q(z) = logsumexp_s (log pi_s + log N(z; 0, sigma_s^2)).

The probability of an integer is the integral of q over its unit interval, so by Jensen's inequality

    -log2 P(z) <= E_u[-log2 q(z + u)],  u ~ U(-1/2, 1/2):

the bits of `z + u` bound the rate from above. A density exceeds 1 where it is narrow, so they can be negative:
a bound to minimise, not a rate to report.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

LEAST_DEVIATION, LARGEST_DEVIATION = 0.3, 30.0
"""The components of a fresh mixture are spread geometrically between these, or some of them would collapse."""


def log_density(z: jax.Array, log_weights: jax.Array, log_precisions: jax.Array) -> jax.Array:
    """Natural logarithm of the mixture's density.

    Parameters
    ----------
    z
        Values, float32 `[..., C]`.
    log_weights
        `[..., C, S]`, broadcast against z; any constant may be added, they are normalised here.
    log_precisions
        `-2 log sigma`, `[..., C, S]`.

    Returns
    -------
    jax.Array
        `[..., C]` float32.
    """
    z = z.astype(jnp.float32)[..., None]
    log_normal = 0.5 * (log_precisions - math.log(2.0 * math.pi) - jnp.square(z) * jnp.exp(log_precisions))
    return jax.nn.logsumexp(jax.nn.log_softmax(log_weights) + log_normal, axis=-1)


def spread_log_precisions(shape: tuple[int, ...]) -> jax.Array:
    """Fresh log-precisions `[..., S]`: deviations from 0.3 to 30 in every channel."""
    deviations = jnp.geomspace(LEAST_DEVIATION, LARGEST_DEVIATION, shape[-1], dtype=jnp.float32)
    return jnp.broadcast_to(-2.0 * jnp.log(deviations), shape)


class GaussianScaleMixture(nn.Module):
    """Mixtures for C channels, one set of them for each of R rates.

    Attributes
    ----------
    channels, scales, rates
        C, S (components of each mixture) and R.
    """

    channels: int
    scales: int = 6
    rates: int = 1

    @nn.compact
    def __call__(self, z: jax.Array, rate: jax.Array) -> jax.Array:
        """Bits `-log2 q(z)` of z `[B, h, w, C]`, each example under the mixtures of its `rate`, int32 `[B]`."""
        shape = (self.rates, self.channels, self.scales)
        log_weights = self.param("log_weights", nn.initializers.zeros, shape, jnp.float32)
        log_precisions = self.param("log_precisions", lambda _, shape: spread_log_precisions(shape), shape)
        weights, precisions = (p[rate][:, None, None] for p in (log_weights, log_precisions))
        return -log_density(z, weights, precisions) / math.log(2.0)
