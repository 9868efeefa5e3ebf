"""Turning values in [-1, 1] into bits +-1; the caller picks, no model asks whether it is training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Binariser = Callable[[jax.Array], jax.Array]


@jax.custom_jvp
def _choose(x: jax.Array, uniform: jax.Array) -> jax.Array:
    return jnp.where(uniform < 0.5 * (1.0 + x), jnp.ones((), x.dtype), -jnp.ones((), x.dtype))


@_choose.defjvp
def _choose_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    return _choose(*primals), tangents[0]


def stochastic_binarise(x: jax.Array, *, key: jax.Array) -> jax.Array:
    """+1 with probability (1 + x) / 2, else -1, so that the mean is x; with the gradient of the identity.

    Parameters
    ----------
    x
        Any shape, values in [-1, 1].
    key
        Of the choice.

    Notes
    -----
    Toderici et al., ICLR 2016, section 3.2: for training.
    """
    return _choose(x, jax.random.uniform(key, x.shape, x.dtype))


def sign_binarise(x: jax.Array) -> jax.Array:
    """-1 where x < 0, else +1, so that zero is +1; the gradient is zero. For coding."""
    return jnp.where(x < 0, -jnp.ones((), x.dtype), jnp.ones((), x.dtype))
