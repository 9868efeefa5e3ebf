"""What the loop asks of a system: parameters, a loss, an optimiser."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import optax

Params = Any
"""A pytree of float32 arrays."""

Metrics = dict[str, jax.Array]
"""Scalars by name; `loss` is added by the step."""


class Task(Protocol):
    """A system as the loop sees it: pure functions of parameters."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters."""
        ...

    def loss(self, params: Params, batch: jax.Array, *, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """Scalar loss and its terms for a uint8 batch `[B, S, S, C]`; noise comes from `key`."""
        ...

    def optimiser(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """The update rule at a given learning rate."""
        ...
