r"""The deep factorized prior: one learned cumulative distribution per channel.

Ballé, Minnen, Singh, Hwang and Johnston, "Variational image compression with a scale hyperprior", ICLR
2018, appendix 6.1. Each channel's cumulative is a small monotone network, c = sigmoid(f_K(... f_1(x))),

    f_k(x) = g_k(softplus(H_k) x + b_k),   g_k(x) = x + tanh(a_k) * tanh(x),   g_K the identity,

and the density of a latent plus uniform noise, which is also the probability of a rounded one, is

    p(y) = c(y + 1/2) - c(y - 1/2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcodec.ops.bounds import lower_bound

LIKELIHOOD_BOUND = 1e-9
"""No likelihood is taken as smaller, so that one outlier costs at most 30 bits in training."""


def widths(filters: tuple[int, ...]) -> tuple[int, ...]:
    """Layer widths of the cumulative's network, e.g. (3, 3) -> (1, 3, 3, 1)."""
    return (1, *filters, 1)


def cumulative_logits(params: Mapping[str, Any], x: jax.Array, *, filters: tuple[int, ...]) -> jax.Array:
    """Logits of the cumulative at x `[C, n]`: `[C, n]` float32, increasing in x."""
    logits = x.astype(jnp.float32)[:, None, :]  # [C, 1, n]
    layers = len(filters) + 1
    for k in range(layers):
        # Full precision even where an accelerator's default is less: the probability is the difference of
        # two nearby logits, which TF32 or bfloat16 would lose in the tails.
        matrix = jax.nn.softplus(params[f"matrix_{k}"])
        logits = jnp.matmul(matrix, logits, precision=jax.lax.Precision.HIGHEST) + params[f"bias_{k}"]
        if k < layers - 1:
            logits = logits + jnp.tanh(params[f"factor_{k}"]) * jnp.tanh(logits)
    return logits[:, 0, :]


def box_probability(lower: jax.Array, upper: jax.Array) -> jax.Array:
    """`sigmoid(upper) - sigmoid(lower)` for logits, without cancellation in the right tail."""
    # Both sigmoids near 1 lose the difference; mirrored to the left tail they do not.
    # Not -sign(lower + upper), which is 0 in the middle of a symmetric density, its most probable place.
    sign = jnp.where(lower + upper > 0, -1.0, 1.0)
    return jnp.abs(jax.nn.sigmoid(sign * upper) - jax.nn.sigmoid(sign * lower))


def likelihood(params: Mapping[str, Any], y: jax.Array, *, filters: tuple[int, ...]) -> jax.Array:
    """`max(c(y + 1/2) - c(y - 1/2), 1e-9)` for y `[..., C]`, float32 of the same shape."""
    C = y.shape[-1]
    flat = y.reshape(-1, C).T.astype(jnp.float32)
    lower = cumulative_logits(params, flat - 0.5, filters=filters)
    upper = cumulative_logits(params, flat + 0.5, filters=filters)
    probability = lower_bound(box_probability(lower, upper), LIKELIHOOD_BOUND)
    return probability.T.reshape(y.shape)


def integer_probabilities(
    params: Mapping[str, Any], *, filters: tuple[int, ...], tail_mass: float = 2.0**-16, limit: int = 4096
) -> list[tuple[int, np.ndarray, float]]:
    """Probabilities of the integers for each channel, computed in float64 with numpy, for coding tables.

    Parameters
    ----------
    params, filters
        As for `likelihood`.
    tail_mass
        Each side is cut where less than half of this remains; what is cut goes to the escape.
    limit
        No table reaches further from zero than this; the rest goes to the escape.

    Returns
    -------
    list of (first, probabilities, tail)
        For each channel the first integer, the probabilities of it and its successors, and the mass
        outside: `probabilities.sum() + tail == 1` to rounding.
    """
    raw = {name: np.asarray(value, np.float64) for name, value in params.items()}
    C = raw["matrix_0"].shape[0]
    edges = np.arange(-limit, limit + 2) - 0.5
    logits = np.broadcast_to(edges, (C, 1, edges.size))
    layers = len(filters) + 1
    for k in range(layers):
        logits = np.logaddexp(0.0, raw[f"matrix_{k}"]) @ logits + raw[f"bias_{k}"]
        if k < layers - 1:
            logits = logits + np.tanh(raw[f"factor_{k}"]) * np.tanh(logits)
    logits = logits[:, 0, :]
    sign = np.where(logits[:, 1:] + logits[:, :-1] > 0, -1.0, 1.0)
    probabilities = np.abs(_sigmoid(sign * logits[:, 1:]) - _sigmoid(sign * logits[:, :-1]))
    below, above = _sigmoid(logits), _sigmoid(-logits)
    tables = []
    for c in range(C):
        first = int(np.argmax(below[c, 1:] >= tail_mass / 2)) if below[c, -1] >= tail_mass / 2 else 2 * limit
        kept = np.nonzero(above[c, :-1] >= tail_mass / 2)[0]
        last = max(int(kept[-1]) if kept.size else 0, first)
        tail = float(below[c, first] + above[c, last + 1])
        tables.append((first - limit, probabilities[c, first : last + 1], tail))
    return tables


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # Split by sign: the exponential never overflows.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


class DeepFactorized(nn.Module):
    """Likelihoods of latents under the deep factorized prior.

    Attributes
    ----------
    channels
        C, one distribution each.
    filters
        Hidden widths of the cumulative's network; (3, 3) in tensorflow-compression, (3, 3, 3) in the paper.
    init_scale
        The initial spread: about that of a logistic distribution of this scale.
    """

    channels: int
    filters: tuple[int, ...] = (3, 3)
    init_scale: float = 10.0

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """Likelihood of noisy or rounded y `[..., C]`, float32 of the same shape, at least 1e-9."""
        params: dict[str, jax.Array] = {}
        size = widths(self.filters)
        scale = self.init_scale ** (1 / (len(self.filters) + 1))
        for k in range(len(self.filters) + 1):
            value = float(np.log(np.expm1(1 / scale / size[k + 1])))
            shape = (self.channels, size[k + 1], size[k])
            params[f"matrix_{k}"] = self.param(
                f"matrix_{k}", nn.initializers.constant(value), shape, jnp.float32
            )
            params[f"bias_{k}"] = self.param(
                f"bias_{k}",
                lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -0.5, 0.5),
                (self.channels, size[k + 1], 1),
            )
            if k < len(self.filters):
                params[f"factor_{k}"] = self.param(
                    f"factor_{k}", nn.initializers.zeros, (self.channels, size[k + 1], 1), jnp.float32
                )
        return likelihood(params, y, filters=self.filters)
