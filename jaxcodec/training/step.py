"""Training state and one step, as pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxcodec.training.schedule import Schedule
from jaxcodec.training.task import Metrics, Params, Task


@flax.struct.dataclass
class TrainState:
    """Everything that a resumed run needs; a pytree.

    Attributes
    ----------
    step
        int32 scalar, updates done.
    elapsed
        float32 scalar, seconds of training at the last chunk's start, over all runs of this state.
    params, ema_params
        The weights, and their exponential moving average (which is what gets exported).
    opt_state
        The optimiser's state.
    """

    step: jax.Array
    elapsed: jax.Array
    params: Params
    ema_params: Params
    opt_state: Any


BatchFunction = Callable[..., jax.Array]
"""`batch(data, key=key) -> uint8 [B, S, S, C]`, traceable."""


def init_state(task: Task, key: jax.Array, params: Params | None = None) -> TrainState:
    """A state at step 0, from fresh parameters or from `params`."""
    params = task.init(key) if params is None else params
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        elapsed=jnp.zeros((), jnp.float32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=task.optimiser(1.0).init(params),
    )


def make_chunk(
    task: Task,
    batch: BatchFunction | None,
    *,
    schedule: Schedule,
    steps: int | None,
    max_seconds: float | None,
    ema_decay: float,
    clip_norm: float,
    steps_per_call: int,
) -> Callable[[TrainState, Any, jax.Array, jax.Array], tuple[TrainState, Metrics]]:
    """Return `chunk(state, data, key, elapsed) -> (state, metrics)`: `steps_per_call` updates in one call.

    `batch` draws each batch from `data`; where it is None, `data` holds the batches, `[K, B, S, S, C]` for K
    `steps_per_call`. The schedule follows `step / steps`, or `elapsed / max_seconds` where no steps are
    given. The key of a step is `fold_in(key, step)`, so a resumed run draws what the uninterrupted one would
    have. Each metric is `[K]`, one value a step.
    """
    if (steps is None) == (max_seconds is None):
        raise ValueError("give exactly one of steps and max_seconds")

    def update(state: TrainState, data: Any, key: jax.Array) -> tuple[TrainState, Metrics]:
        key_batch, key_loss = jax.random.split(jax.random.fold_in(key, state.step))
        pixels = data if batch is None else batch(data, key=key_batch)
        (loss, terms), gradient = jax.value_and_grad(
            lambda params: task.loss(params, pixels, key=key_loss), has_aux=True
        )(state.params)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradient)))
        scale = jnp.minimum(1.0, clip_norm / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda g: g * scale, gradient)
        if steps is not None:
            progress = state.step / steps
        else:
            assert max_seconds is not None
            progress = state.elapsed / max_seconds
        learning_rate = schedule(progress)
        # Some rules follow the loss; the others ignore it.
        optimiser = optax.with_extra_args_support(task.optimiser(learning_rate))
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        # Early on the average would be mostly the initial weights: let it follow faster.
        decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, state.ema_params, params)
        metrics = {"loss": loss, "gradient_norm": norm, "learning_rate": learning_rate, **terms}
        new = dataclasses.replace(
            state, step=state.step + 1, params=params, ema_params=ema, opt_state=opt_state
        )
        return new, metrics

    def chunk(state: TrainState, data: Any, key: jax.Array, elapsed: jax.Array) -> tuple[TrainState, Metrics]:
        state = dataclasses.replace(state, elapsed=elapsed)
        if steps_per_call == 1:
            state, metrics = update(state, data if batch else data[0], key)
            return state, {name: value[None] for name, value in metrics.items()}
        return jax.lax.scan(
            lambda carry, pixels: update(carry, data if batch else pixels, key),
            state,
            None if batch else data,
            length=steps_per_call,
        )

    return chunk
