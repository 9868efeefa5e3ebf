"""Generalised divisive normalisation (GDN) and its approximate inverse, as plain functions.

Ballé, Laparra and Simoncelli, "End-to-end optimized image compression", ICLR 2017, equations (1) and (2):

    GDN:   y_i = x_i / (beta_i + sum_j gamma_ij |x_j|^alpha)^epsilon
    IGDN:  x_i = y_i * (beta_i + sum_j gamma_ij |y_j|^alpha)^epsilon

with alpha = 2 and epsilon = 1/2 in the paper. alpha = epsilon = 1 is the simplified form (no square root;
the default of tensorflow-compression 2). IGDN is one fixed-point step of the inverse, with parameters of
its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def normalisation_pool(x: jax.Array, beta: jax.Array, gamma: jax.Array, *, alpha: float = 2.0) -> jax.Array:
    """`beta_i + sum_j gamma_ij |x_j|^alpha`, float32, for x `[..., C]`, beta `[C]`, gamma `[C, C]`.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    C = x.shape[-1]
    if beta.shape != (C,) or gamma.shape != (C, C):
        raise ValueError(
            f"GDN over {C} channels needs beta [{C}], gamma [{C}, {C}], got {beta.shape}, {gamma.shape}"
        )
    x = x.astype(jnp.float32)
    if alpha == 2.0:
        power = jnp.square(x)
    elif alpha == 1.0:
        power = jnp.abs(x)
    else:
        power = jnp.abs(x) ** alpha
    # gamma is transposed so that row i of gamma holds the weights of output i, as in the paper.
    pool = power @ gamma.T
    return pool + jnp.broadcast_to(beta, pool.shape)


def _power(pool: jax.Array, epsilon: float) -> jax.Array:
    if epsilon == 0.5:
        return jnp.sqrt(pool)
    return pool if epsilon == 1.0 else pool**epsilon


def gdn(
    x: jax.Array, beta: jax.Array, gamma: jax.Array, *, alpha: float = 2.0, epsilon: float = 0.5
) -> jax.Array:
    """`x_i / (beta_i + sum_j gamma_ij |x_j|^alpha)^epsilon`, in the type of x; `[..., C] -> [..., C]`."""
    return (x / _power(normalisation_pool(x, beta, gamma, alpha=alpha), epsilon)).astype(x.dtype)


def inverse_gdn(
    y: jax.Array, beta: jax.Array, gamma: jax.Array, *, alpha: float = 2.0, epsilon: float = 0.5
) -> jax.Array:
    """`y_i (beta_i + sum_j gamma_ij |y_j|^alpha)^epsilon`, in the type of y; `[..., C] -> [..., C]`."""
    return (y * _power(normalisation_pool(y, beta, gamma, alpha=alpha), epsilon)).astype(y.dtype)
