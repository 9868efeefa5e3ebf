"""The loop: shard, compile, restore, run chunks of steps, log, check, save.

How a run starts, in this order: the newest checkpoint in its folder; else the given initial parameters
(warm start); else fresh parameters. Rerunning the same command therefore resumes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcodec.errors import JaxcodecError
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.training.metrics_writer import MetricsWriter
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.step import BatchFunction, TrainState, init_state, make_chunk
from jaxcodec.training.task import Metrics, Params, Task


class NonFiniteLoss(JaxcodecError):
    """The loss or the gradient is no longer a number; the last good checkpoint stays."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to train.

    Attributes
    ----------
    steps, max_seconds
        Exactly one: the length of the run in updates, or in seconds of training (over all resumptions).
    schedule
        Learning rate over the run.
    clip_norm
        Largest global norm of the gradient.
    ema_decay
        Decay per step of the averaged weights.
    steps_per_call
        Updates inside one compiled call; some hundred on an accelerator, 1 on a CPU.
    log_every, save_every
        Steps between log lines and between checkpoints.
    seed
        Of initialisation, crops and noise.
    """

    steps: int | None = None
    max_seconds: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    steps_per_call: int = 1
    log_every: int = 100
    save_every: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.max_seconds is None):
            raise ValueError("give exactly one of steps and max_seconds")
        if self.steps is not None and self.steps % self.steps_per_call:
            raise ValueError(f"steps {self.steps} is not a multiple of steps_per_call {self.steps_per_call}")


def train(
    task: Task,
    data: Any,
    batch: BatchFunction,
    config: LoopConfig,
    workdir: Path,
    *,
    initial_params: Params | None = None,
    description: dict[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainState:
    """Train until the steps or the seconds are used up, and return the final state.

    Parameters
    ----------
    task
        The system.
    data, batch
        Device-resident data (a pytree) and the traceable function that draws a batch from it.
    config
        See `LoopConfig`.
    workdir
        Gets `checkpoints/` and `metrics.jsonl`.
    initial_params
        A warm start, used only where there is no checkpoint.
    description
        Stored beside the state, so that an export knows the network.
    clock
        Seconds; `max_seconds` counts it.

    Raises
    ------
    NonFiniteLoss
        At the first log point after the loss or the gradient norm was not finite.
    """
    # --- Devices: one axis over all of them; the batch is split, the state is replicated.
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, P())

    # --- State: never built on the host.
    key = jax.random.key(config.seed)
    if initial_params is None:
        state = jax.jit(lambda k: init_state(task, k), out_shardings=replicated)(
            jax.random.fold_in(key, 2**31 - 1)
        )
    else:
        state = jax.jit(lambda p: init_state(task, key, p), out_shardings=replicated)(initial_params)
    data = jax.device_put(data, replicated)
    stored = {"loop": asdict(config), "description": description or {}}

    # --- Step.
    chunk = make_chunk(
        task,
        lambda data, *, key: jax.lax.with_sharding_constraint(
            batch(data, key=key), NamedSharding(mesh, P("data"))
        ),
        schedule=config.schedule,
        steps=config.steps,
        max_seconds=config.max_seconds,
        ema_decay=config.ema_decay,
        clip_norm=config.clip_norm,
        steps_per_call=config.steps_per_call,
    )
    compiled = jax.jit(chunk, donate_argnums=0, out_shardings=(replicated, replicated))
    # Before the clock starts: a minute of compilation would eat the warm-up of a run given in seconds.
    run_chunk = compiled.lower(state, data, key, jnp.zeros((), jnp.float32)).compile()

    writer = MetricsWriter(workdir)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        if checkpoints.latest_step() is not None:
            state = checkpoints.restore(state)
            logging.info("resumed from step %d", checkpoints.latest_step())

        # --- Loop.
        step, before = int(state.step), float(state.elapsed)
        start = clock()
        pending: list[Metrics] = []
        last_log, last_save, logged_at = step, step, start
        while True:
            elapsed = before + (clock() - start)
            if config.steps is not None and step >= config.steps:
                break
            if config.max_seconds is not None and elapsed >= config.max_seconds:
                break
            if len(pending) > 1:
                # At most two chunks in flight, so that the clock and the schedule do not run ahead.
                jax.block_until_ready(pending[-2])
            state, metrics = run_chunk(state, data, key, jnp.asarray(elapsed, jnp.float32))
            pending.append(metrics)
            step += config.steps_per_call
            save = step - last_save >= config.save_every
            if save or step - last_log >= config.log_every:
                # Logging checks for finite losses, so it comes before any save.
                _log(writer, step, pending, (step - last_log) / (clock() - logged_at), elapsed)
                pending, last_log, logged_at = [], step, clock()
            if save:
                checkpoints.save(step, state, stored)
                last_save = step
        if pending:
            _log(writer, step, pending, (step - last_log) / max(clock() - logged_at, 1e-9), elapsed)
        state = dataclasses.replace(state, elapsed=jnp.asarray(elapsed, jnp.float32))
        checkpoints.save(step, state, stored)
    return state


def _log(
    writer: MetricsWriter, step: int, pending: list[Metrics], steps_per_second: float, elapsed: float
) -> None:
    host = jax.device_get(pending)
    mean = {name: float(np.mean([m[name] for m in host])) for name in host[0]}
    mean.pop("finite")
    if min(float(m["finite"]) for m in host) < 1.0:
        raise NonFiniteLoss(
            f"loss {mean['loss']}, gradient norm {mean['gradient_norm']} before step {step}; "
            "lower --learning_rate or lengthen --warmup, then rerun: the last checkpoint is still good"
        )
    writer.write(step, {**mean, "steps_per_second": steps_per_second, "elapsed": elapsed})
