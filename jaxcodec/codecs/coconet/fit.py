"""Fitting networks to pictures: many pictures of one size at once, each with a network of its own.

The networks share nothing but the coordinates and the order in which pixels are drawn. The loss is the sum of the
pictures' mean squared errors, and Adam works weight by weight, so each network takes the steps that it would take
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcodec.codecs.coconet.grid import coordinates
from jaxcodec.codecs.coconet.model import NetworkConfig, Params, apply, init
from jaxcodec.codecs.progress import report
from jaxcodec.errors import BadImage, BadOption
from jaxcodec.ops.quantise import straight_through_round

Watcher = Callable[[int, Params], bool]
"""Takes the steps done and the parameters; whether to stop."""


@dataclass(frozen=True)
class FitSettings:
    """How networks are fitted.

    Attributes
    ----------
    steps
        Updates, unless a watcher stops before.
    learning_rate
        Adam's, at the beginning.
    cosine
        Whether it falls to zero along half a cosine; constant otherwise, as in the authors' code.
    batch_size
        Pixels per update, drawn with replacement; None for all of them. The authors' code takes 128.
    seed
        Of the weights and of the drawing.
    segment
        Updates between two calls of a watcher; a compiled program runs that many.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    cosine: bool = False
    batch_size: int | None = None
    seed: int = 0
    segment: int = 100

    def __post_init__(self) -> None:
        for field in ("steps", "segment", "batch_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise BadOption(f"{field} of a fit is at least 1, not {value}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise BadOption(f"learning_rate of a fit is above 0, not {self.learning_rate}")

    def rates(self) -> np.ndarray:
        """The learning rate of each step, float32 `[steps]`."""
        progress = np.arange(self.steps) / self.steps
        shares = 0.5 + 0.5 * np.cos(np.pi * progress) if self.cosine else np.ones(self.steps)
        return (self.learning_rate * shares).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Quantum:
    """Weights that are rounded, in the forward pass, to whole multiples of a step.

    Attributes
    ----------
    steps
        As the parameters, `[B]` each: the step of each tensor.
    limit
        The largest multiple, in magnitude.
    """

    steps: tuple[dict[str, jax.Array], ...]
    limit: int

    def rounded(self, params: Params, rounding: Callable[[jax.Array], jax.Array] = jnp.round) -> Params:
        """Return the weights as multiples, `step * clip(round(w / step), -limit, limit)`."""

        def multiple(weight: jax.Array, step: jax.Array) -> jax.Array:
            each = step.reshape(step.shape + (1,) * (weight.ndim - 1))
            return jnp.clip(rounding(weight / each), -self.limit, self.limit) * each

        return jax.tree.map(multiple, tuple(map(dict, params)), self.steps)


@partial(jax.jit, static_argnames=("count", "config"))
def init_many(key: jax.Array, count: int, config: NetworkConfig) -> Params:
    """Return the parameters of `count` networks; the first is the same whatever their number."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))
    return jax.vmap(partial(init, config=config))(keys)


def fit(
    pictures: np.ndarray,
    config: NetworkConfig,
    settings: FitSettings,
    *,
    known: np.ndarray | None = None,
    start: Params | None = None,
    quantum: Quantum | None = None,
    watch: Watcher | None = None,
) -> Params:
    """Fit a network to each of several pictures.

    Parameters
    ----------
    pictures
        uint8 `[B, H, W, C]`.
    config
        Of all the networks.
    settings
        How long and how.
    known
        bool `[B, H, W]`: the pixels to fit to, at least one of each picture; all by default.
    start
        Parameters to begin with; random ones by default.
    quantum
        If given, the loss is that of rounded weights, and gradients pass the rounding unchanged.
    watch
        Called after every segment; a fit ends where it returns True.

    Returns
    -------
    Params
        With a leading B.

    Raises
    ------
    BadImage
        If the pictures do not have the network's channels, or nothing is known of one.
    """
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or pictures.shape[3] != config.channels:
        raise BadImage(
            f"a fit takes uint8 [B, H, W, {config.channels}], got {pictures.dtype} {list(pictures.shape)}"
        )
    count, height, width, _ = pictures.shape
    weights = np.ones((count, height * width), np.float32)
    if known is not None:
        weights = np.asarray(known, np.float32).reshape(weights.shape)
        if not weights.any(axis=1).all():
            raise BadImage("every pixel of the picture is masked, so there is nothing to fit to")
    inputs = jnp.asarray(coordinates(height, width, inputs=config.inputs, octaves=config.octaves))
    targets = jnp.asarray(pictures.reshape(count, height * width, -1), jnp.float32) / 255.0
    # The mean over the known pixels, for minibatches in expectation.
    weights *= weights.shape[1] / weights.sum(axis=1, keepdims=True)
    params = init_many(jax.random.key(settings.seed), count, config) if start is None else start
    state = params, optax.scale_by_adam().init(params)
    key = jax.random.key(settings.seed + 1)
    rates = settings.rates()
    batch = settings.batch_size
    for done in range(0, settings.steps, settings.segment):
        some = jnp.asarray(rates[done : done + settings.segment])
        state = _advance(
            state,
            some,
            jax.random.fold_in(key, done),
            inputs,
            targets,
            jnp.asarray(weights),
            quantum and quantum.steps,
            config=config,
            batch_size=None if batch is None or batch >= len(inputs) else batch,
            limit=quantum.limit if quantum else 0,
        )
        done += len(some)
        jax.block_until_ready(state[0])
        report(done, settings.steps)
        if watch is not None and watch(done, state[0]):
            break
    return state[0]


@partial(jax.jit, static_argnames=("config", "batch_size", "limit"))
def _advance(
    state: tuple[Params, Any],
    rates: jax.Array,
    key: jax.Array,
    inputs: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    steps: tuple[dict[str, jax.Array], ...] | None,
    *,
    config: NetworkConfig,
    batch_size: int | None,
    limit: int,
) -> tuple[Params, Any]:
    """Take as many updates as there are learning rates."""
    adam = optax.scale_by_adam()

    def loss(params: Params, x: jax.Array, colours: jax.Array, shares: jax.Array) -> jax.Array:
        if steps is not None:
            params = Quantum(steps, limit).rounded(params, straight_through_round)
        predicted = jax.vmap(partial(apply, config=config), in_axes=(0, None))(params, x)
        errors = jnp.mean((predicted - colours) ** 2, axis=2)
        return jnp.sum(jnp.mean(shares * errors, axis=1))

    def update(state: tuple[Params, Any], at: tuple[jax.Array, jax.Array]) -> tuple[tuple[Params, Any], None]:
        (params, moments), (rate, key) = state, at
        x, colours, shares = inputs, targets, weights
        if batch_size is not None:
            drawn = jax.random.randint(key, (batch_size,), 0, len(inputs))
            x, colours, shares = inputs[drawn], targets[:, drawn], weights[:, drawn]
        gradient = jax.grad(loss)(params, x, colours, shares)
        directions, moments = adam.update(gradient, moments)
        return (jax.tree.map(lambda p, d: p - rate * d, params, directions), moments), None

    return jax.lax.scan(update, state, (rates, jax.random.split(key, len(rates))))[0]
