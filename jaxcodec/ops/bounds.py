"""Lower bounds that do not trap a parameter, and the parameterisation of GDN's non-negative weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_vjp
def lower_bound(x: jax.Array, bound: float | jax.Array) -> jax.Array:
    """`max(x, bound)`, with a gradient that still lets x return from below the bound.

    The gradient with respect to x is passed where `x >= bound`, and also below it where a descent step
    would raise x (the incoming gradient is negative); elsewhere it is zero. `max` itself would leave a
    parameter that once fell below the bound there for ever.
    """
    return jnp.maximum(x, bound)


def _lower_bound_forward(x: jax.Array, bound: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    return jnp.maximum(x, bound), (x, bound)


def _lower_bound_backward(residual: tuple[jax.Array, Any], gradient: jax.Array) -> tuple[jax.Array, Any]:
    x, bound = residual
    passes = (x >= bound) | (gradient < 0)
    return jnp.where(passes, gradient, 0).astype(x.dtype), jnp.zeros_like(jnp.asarray(bound, x.dtype))


lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)

SQUARE_OFFSET = 2.0**-36
"""Keeps the gradient of the square away from zero at the bound."""


def square_parameter(value: jax.Array) -> jax.Array:
    """Return the raw parameter that stands for `value >= 0`: `sqrt(value + 2^-36)`; see `from_square_parameter`."""
    return jnp.sqrt(jnp.maximum(value + SQUARE_OFFSET, SQUARE_OFFSET))


def from_square_parameter(raw: jax.Array, *, minimum: float = 0.0) -> jax.Array:
    """Return `max(raw, sqrt(minimum + 2^-36))^2 - 2^-36`, at least `minimum`.

    Squaring makes the step of a fixed-rate optimiser shrink with the value, so that small weights are
    not thrown across zero (Ballé, Laparra and Simoncelli, ICLR 2017, section 6.1; the constants are
    those of tensorflow-compression's `GDNParameter`).
    """
    bound = (minimum + SQUARE_OFFSET) ** 0.5
    return jnp.square(lower_bound(raw, bound)) - SQUARE_OFFSET
