"""Learning rates as a function of progress in [0, 1], so that steps and seconds use the same curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then cosine decay or one drop.

    Attributes
    ----------
    peak
        The learning rate after the warm-up.
    warmup
        Share of the run spent rising from 0 to `peak`.
    shape
        `cosine`: falls to `final` x peak; `stepped`: falls to `final` x peak at once at `drop_at`.
    final
        The last learning rate as a share of the peak.
    drop_at
        When the stepped schedule drops, as a share of the run.
    """

    peak: float = 1e-4
    warmup: float = 0.04
    shape: Literal["cosine", "stepped"] = "cosine"
    final: float = 0.01
    drop_at: float = 0.8

    def __post_init__(self) -> None:
        if self.peak <= 0 or not 0 <= self.warmup < 1 or not 0 <= self.final <= 1:
            raise ValueError("a schedule needs peak > 0, 0 <= warmup < 1, 0 <= final <= 1")
        if self.shape not in ("cosine", "stepped"):
            raise ValueError(f"schedule shape {self.shape!r} is not one of cosine, stepped")

    def __call__(self, progress: jax.Array) -> jax.Array:
        """Learning rate at `progress` in [0, 1], float32 scalar."""
        progress = jnp.clip(jnp.asarray(progress, jnp.float32), 0.0, 1.0)
        rise = jnp.minimum(progress / max(self.warmup, 1e-6), 1.0)
        if self.shape == "cosine":
            after = jnp.clip((progress - self.warmup) / (1.0 - self.warmup), 0.0, 1.0)
            fall = self.final + (1.0 - self.final) * 0.5 * (1.0 + jnp.cos(jnp.pi * after))
        else:
            fall = jnp.where(progress < self.drop_at, 1.0, self.final)
        return self.peak * rise * fall
