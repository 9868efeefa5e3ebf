"""Generalised divisive normalisation as a Flax module."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.ops.bounds import from_square_parameter, square_parameter
from jaxcodec.ops.gdn import gdn, inverse_gdn


class GDN(nn.Module):
    """GDN over the last axis, `[..., C] -> [..., C]`; see `jaxcodec.ops.gdn` for the formula.

    Notes
    -----
    beta >= 1e-6 and gamma >= 0 are kept as squares (`jaxcodec.ops.bounds`), initially beta = 1 and
    gamma = 0.1 I, as in tensorflow-compression. The paper also keeps gamma symmetric; like the authors'
    later code this does not. The norm is computed in float32 whatever the type of x.

    Attributes
    ----------
    inverse
        IGDN (multiply) instead of GDN (divide).
    alpha, epsilon
        The exponents; 2 and 1/2 in the paper, 1 and 1 for the simplified form.
    minimum
        The lower bound of beta.
    gamma_init
        The initial diagonal of gamma.
    """

    inverse: bool = False
    alpha: float = 2.0
    epsilon: float = 0.5
    minimum: float = 1e-6
    gamma_init: float = 0.1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise x `[..., C]`."""
        C = x.shape[-1]
        raw_beta = self.param("beta", lambda _: square_parameter(jnp.ones((C,), jnp.float32)))
        raw_gamma = self.param(
            "gamma", lambda _: square_parameter(self.gamma_init * jnp.eye(C, dtype=jnp.float32))
        )
        beta = from_square_parameter(raw_beta, minimum=self.minimum)
        gamma = from_square_parameter(raw_gamma)
        function = inverse_gdn if self.inverse else gdn
        return function(x, beta, gamma, alpha=self.alpha, epsilon=self.epsilon)
