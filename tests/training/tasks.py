"""Tasks small enough to train in a test."""

from dataclasses import dataclass
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcodec.training.source import ResidentSource, StreamSource

BATCH = 4


def batch_of_noise(data, *, key):
    """Rows drawn from `data` `[n, S, S, C]`, uint8 `[4, S, S, C]`."""
    return jnp.take(data, jax.random.randint(key, (BATCH,), 0, data.shape[0]), axis=0)


def resident(data):
    """The source of such batches."""
    return ResidentSource(data, batch_of_noise, BATCH)


def streamed(data):
    """Batches of the same shape, of which number n is the same whoever reads it from where."""

    def batches(start, *, process_index, process_count, stack):
        share = BATCH // process_count
        for first in count(start, stack):
            rows = [
                np.random.default_rng(number).integers(0, len(data), BATCH)[share * process_index :][:share]
                for number in range(first, first + stack)
            ]
            yield data[np.stack(rows)]

    return StreamSource(batches, BATCH)


@dataclass(frozen=True)
class ChannelCoder:
    """A linear map of three channels to two and back, trained with noise on the two.

    `traces` collects one entry each time jax traces the loss, which is once per compilation.
    """

    optimise: Any = optax.adam
    traces: Any = None

    def init(self, key):
        """Fresh parameters."""
        return {"down": jax.random.uniform(key, (3, 2)) - 0.5, "up": jnp.full((2, 3), 0.3, jnp.float32)}

    def loss(self, params, batch, *, key):
        """Mean squared error under noise."""
        if self.traces is not None:
            self.traces.append(batch.shape)
        x = batch.astype(jnp.float32) / 255.0
        y = x @ params["down"]
        y = y + 0.05 * (jax.random.uniform(key, y.shape) - 0.5)
        mse = jnp.mean(jnp.square(y @ params["up"] - x))
        return 100.0 * mse, {"mse": mse}

    def optimiser(self, learning_rate):
        """Adam, unless asked otherwise."""
        return self.optimise(learning_rate)


@dataclass(frozen=True)
class Cliff:
    """The loss sqrt(w): descent from w = 1 reaches w < 0, and from there loss and gradient are no numbers."""

    def init(self, key):
        """One parameter, 1."""
        del key
        return {"w": jnp.ones((), jnp.float32)}

    def loss(self, params, batch, *, key):
        """The square root of the parameter."""
        del batch, key
        return jnp.sqrt(params["w"]), {}

    def optimiser(self, learning_rate):
        """Gradient descent."""
        return optax.sgd(learning_rate)
