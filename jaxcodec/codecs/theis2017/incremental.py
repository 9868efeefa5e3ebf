"""Incremental training: latent channels are enabled one group after the other.

Theis, Shi, Cunningham and Huszár (ICLR 2017), section 2.4: latents are multiplied by a mask, and another one is
enabled as soon as training with those enabled makes little progress. The paper masks coefficients and gives no
threshold; here it is channels, and progress is the relative fall of the loss between two averages of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class EnableState(NamedTuple):
    """Of `enable_on_plateau`: updates since the last comparison, sum of the losses, the average before."""

    count: jax.Array
    total: jax.Array
    before: jax.Array


def channel_mask(enabled: jax.Array, channels: int) -> jax.Array:
    """Ones for the first `enabled` (float32 scalar) of `channels`, zeros for the rest; no gradient."""
    return (jnp.arange(channels) < jax.lax.stop_gradient(enabled)).astype(jnp.float32)


def enable_on_plateau(
    *, channels: int, group: int, window: int, threshold: float
) -> optax.GradientTransformationExtraArgs:
    """The update rule of the number of enabled channels, a float32 scalar parameter.

    Whenever the mean loss of `window` updates is not below `1 - threshold` times that of the ones before, the
    next `group` channels are enabled.

    Parameters
    ----------
    channels
        There are so many, where it ends.
    group, window, threshold
        See above.
    """

    def init(params: Any) -> EnableState:
        del params
        return EnableState(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.full((), jnp.inf, jnp.float32))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        count, total = state.count + 1, state.total + extra["value"]
        due = count == window
        mean = total / window
        # Not "mean >= ...": the first comparison is with infinity.
        stalled = due & ~(mean < (1.0 - threshold) * state.before)
        step = jax.tree.map(
            lambda enabled: jnp.where(stalled, jnp.minimum(group, channels - enabled), 0.0), params
        )
        # What the loss is after a group is enabled is compared with nothing before it.
        before = jnp.where(stalled, jnp.inf, mean)
        after = EnableState(
            jnp.where(due, 0, count), jnp.where(due, 0.0, total), jnp.where(due, before, state.before)
        )
        return step, after

    return optax.GradientTransformationExtraArgs(init, update)
