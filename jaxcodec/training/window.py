"""Metrics between two log lines: sums that survive a restart, and the check that all losses are numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxcodec.errors import JaxcodecError


class NonFiniteLoss(JaxcodecError):
    """The loss or the gradient is no longer a number; the last good checkpoint stays."""


@dataclass
class Window:
    """Sums of the metrics since the last log line.

    The sums are stored in checkpoints, so that a resumed run writes the very lines of an uninterrupted one.

    Attributes
    ----------
    steps
        How many steps were added.
    sums
        Of each metric.
    """

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, metrics: dict[str, np.ndarray], *, first_step: int) -> None:
        """Add a chunk's metrics, each `[K]` for K steps, of which the first is `first_step`.

        Raises
        ------
        NonFiniteLoss
            At the first step whose loss or gradient norm is not finite; names the step and the term.
        """
        for index in range(len(metrics["loss"])):
            values = {name: float(series[index]) for name, series in metrics.items()}
            if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
                raise NonFiniteLoss(_blame(values, first_step + index))
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps += 1

    def means(self) -> dict[str, float]:
        """Mean of each metric over the window."""
        return {name: value / self.steps for name, value in self.sums.items()}

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint; floats survive JSON exactly."""
        return {"steps": self.steps, "sums": dict(self.sums)}


def _blame(values: dict[str, float], step: int) -> str:
    # The terms of the loss say more than the loss that they make.
    order = [name for name in values if name not in ("loss", "gradient_norm")] + ["loss", "gradient_norm"]
    offender = next(name for name in order if not math.isfinite(values[name]))
    if math.isfinite(values["loss"]):
        offender = "gradient_norm"
    shown = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    return (
        f"step {step}: {offender} is {values[offender]} ({shown}); lower --learning_rate or lengthen --warmup, "
        "then rerun: the last checkpoint is still good"
    )
