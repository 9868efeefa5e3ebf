r"""The piecewise-linear density of the 2017 paper, learned by a rule of its own.

Ballé, Laparra and Simoncelli, "End-to-end optimized image compression", ICLR 2017, section 3 and appendix:
each channel's density of the *noisy* latent is linear between samples on a fixed grid, 10 per unit,

    p(y) = w_left h_left + w_right h_right,      sum of (trapezoids of h) = 1,

and is updated like a histogram by stochastic gradient descent on the negative log likelihood, not by Adam
(`density_descent`). It already includes the convolution with the unit box, so the probability of the integer k is
p(k) itself: it is *not* integrated again. Beyond the grid the density falls off exponentially, so that
outliers keep a gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxcodec.ops.bounds import lower_bound

LIKELIHOOD_BOUND = 1e-9
REACH = 64
SAMPLES_PER_UNIT = 10
TAIL_DECAY = 0.5
"""Nats per unit by which the density falls beyond the grid."""


def heights(logits: jax.Array, *, samples_per_unit: int) -> jax.Array:
    """Density at the grid `[C, G]`: softplus(logits), divided by its trapezoid sum, so the integral is 1."""
    positive = jax.nn.softplus(logits)
    area = (positive.sum(-1) - 0.5 * (positive[:, 0] + positive[:, -1])) / samples_per_unit
    return positive / area[:, None]


def likelihood(logits: jax.Array, y: jax.Array, *, reach: int, samples_per_unit: int) -> jax.Array:
    """`max(p(y), 1e-9)` for y `[..., C]`, float32 of the same shape; the grid spans [-reach, reach]."""
    C = y.shape[-1]
    h = heights(logits, samples_per_unit=samples_per_unit)
    flat = y.reshape(-1, C).astype(jnp.float32)
    inside = jnp.clip(flat, -reach, reach)
    position = (inside + reach) * samples_per_unit
    left = jnp.clip(jnp.floor(position), 0, h.shape[1] - 2)
    weight = position - left
    index = left.astype(jnp.int32)
    channel = jnp.arange(C)[None, :]
    density = (1 - weight) * h[channel, index] + weight * h[channel, index + 1]
    density = density * jnp.exp(-TAIL_DECAY * jnp.abs(flat - inside))
    return lower_bound(density, LIKELIHOOD_BOUND).reshape(y.shape)


def density_descent(*, rate: float, positions_per_pixel: float) -> optax.GradientTransformation:
    """The density's own update rule: plain gradient descent on its mean negative log likelihood in nats.

    Parameters
    ----------
    rate
        Step size on the mean over positions (summed over channels, which do not slow each other).
    positions_per_pixel
        Latent positions per pixel, e.g. 1/256: it turns the gradient of the rate in bits per *pixel*,
        which a rate-distortion loss has, into that of nats per position.

    Notes
    -----
    The normalisation inside `heights` stands for the paper's renormalisation after each step.
    """
    return optax.sgd(rate * float(np.log(2.0)) / positions_per_pixel)


def integer_probabilities(
    logits: jax.Array, *, reach: int, samples_per_unit: int, tail_mass: float = 2.0**-16
) -> list[tuple[int, np.ndarray, float]]:
    """Probabilities of the integers for each channel in float64; the result as for the deep factorized prior.

    p at the integers need not sum to exactly 1, so each channel is normalised.
    """
    raw = np.logaddexp(0.0, np.asarray(logits, np.float64))
    at_integers = raw[:, ::samples_per_unit]
    at_integers = at_integers / at_integers.sum(-1, keepdims=True)
    tables = []
    for p in at_integers:
        below, above = np.cumsum(p), np.cumsum(p[::-1])[::-1]
        first = int(np.argmax(below >= tail_mass / 2))
        last = max(int(np.nonzero(above >= tail_mass / 2)[0][-1]), first)
        tail = float(p[:first].sum() + p[last + 1 :].sum())
        tables.append((first - reach, p[first : last + 1], tail))
    return tables


class PiecewiseLinear(nn.Module):
    """Likelihoods of latents under a piecewise-linear density per channel.

    Attributes
    ----------
    channels
        C, one density each.
    reach
        The grid spans [-reach, reach].
    samples_per_unit
        Grid points per unit interval, 10 in the paper.
    """

    channels: int
    reach: int = REACH
    samples_per_unit: int = SAMPLES_PER_UNIT

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """Likelihood of noisy or rounded y `[..., C]`, float32 of the same shape, at least 1e-9."""

        def initialise(_: jax.Array) -> jax.Array:
            # A Laplace-like start: wide enough that no channel begins with zero gradient.
            grid = np.arange(-self.reach * self.samples_per_unit, self.reach * self.samples_per_unit + 1)
            value = np.exp(-np.abs(grid / self.samples_per_unit) / 5.0) + 1e-4
            return jnp.asarray(np.tile(np.log(np.expm1(value)), (self.channels, 1)), jnp.float32)

        logits = self.param("logits", initialise)
        return likelihood(logits, y, reach=self.reach, samples_per_unit=self.samples_per_unit)
