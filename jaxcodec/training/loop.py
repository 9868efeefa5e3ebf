"""The loop: lay out, restore, compile, run chunks of steps, log, check, save, stop when asked.

How a run starts, in this order: the newest checkpoint in its folder; else the given initial parameters
(warm start); else fresh parameters. Rerunning the same command therefore resumes, on the same number of devices
or another. Every process of a run executes this file in the same order; process 0 writes the log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcodec.errors import BadOption
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.training.metrics_writer import MetricsWriter
from jaxcodec.training.preemption import Preempted, PreemptionNotice
from jaxcodec.training.profile import ProfileWindow, device_memory
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.sharding import check_batch_size, data_mesh, state_shardings
from jaxcodec.training.source import Feed, ResidentSource, Source
from jaxcodec.training.step import TrainState, init_state, make_chunk
from jaxcodec.training.task import Metrics, Params, Task
from jaxcodec.training.window import Window
from jaxcodec.version import __version__


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
    keep, keep_every
        How many of the latest checkpoints stay; and that those at multiples of `keep_every` stay for good.
    seed
        Of initialisation, crops and noise.
    fsdp
        Split parameters over the devices (`sharding.state_shardings`), not only batches.
    tensorboard
        Write TensorBoard events beside `metrics.jsonl`.
    profile_steps
        First step and number of steps of which a trace is written to `profile/`.
    """

    steps: int | None = None
    max_seconds: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    steps_per_call: int = 1
    log_every: int = 100
    save_every: int = 2000
    keep: int = 2
    keep_every: int | None = None
    seed: int = 0
    fsdp: bool = False
    tensorboard: bool = False
    profile_steps: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.max_seconds is None):
            raise ValueError("give exactly one of steps and max_seconds")
        if self.steps is not None and self.steps % self.steps_per_call:
            raise ValueError(f"steps {self.steps} is not a multiple of steps_per_call {self.steps_per_call}")


def train(
    task: Task,
    source: Source,
    config: LoopConfig,
    workdir: epath.PathLike,
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
    source
        Where batches come from.
    config
        See `LoopConfig`.
    workdir
        Gets `checkpoints/`, `metrics.jsonl` and, when asked, `profile/` and TensorBoard events; may be `gs://`.
    initial_params
        A warm start, used only where there is no checkpoint.
    description
        Stored beside the state, so that an export knows the network. Its entry `network` must not change
        over a resumption.
    clock
        Seconds; `max_seconds` counts it, on process 0.

    Raises
    ------
    NonFiniteLoss
        Soon after the first loss or gradient norm that is not finite; no checkpoint after it is written.
    Preempted
        After SIGTERM, when the state is saved.
    BadOption
        If the batch does not divide among the devices, or `workdir` holds another network.
    """
    check_batch_size(source.batch_size)
    workdir = epath.Path(workdir)
    mesh = data_mesh()
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(workdir / "checkpoints", keep=config.keep, keep_every=config.keep_every, clean=True)
        )
        # --- State: never built on the host.
        state, saved = _start(task, config, mesh, checkpoints, initial_params, description or {})
        step, before = int(state.step), float(state.elapsed)
        examples, window = saved.get("examples", 0), Window(**saved.get("window", {}))

        # --- Step: compiled before the clock starts, or a minute of it would eat the warm-up.
        feed = stack.enter_context(
            Feed(source, mesh, start=examples // source.batch_size, steps_per_call=config.steps_per_call)
        )
        replicated = NamedSharding(mesh, P())
        key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=replicated)()
        compiled = jax.jit(
            _chunk(task, source, config, mesh),
            donate_argnums=0,
            out_shardings=(jax.tree.map(lambda x: x.sharding, state), replicated),
        )
        done = _done(config, step, before)
        data = None if done else feed.take()
        run_chunk = None if done else compiled.lower(state, data, key, np.float32(0.0)).compile()

        writer = None
        if jax.process_index() == 0:
            writer = stack.enter_context(
                MetricsWriter(workdir, resumed_at=step, tensorboard=config.tensorboard)
            )
        profile = stack.enter_context(ProfileWindow(workdir / "profile", config.profile_steps))
        notice = stack.enter_context(PreemptionNotice())

        def save() -> None:
            progress = {"examples": examples, "seed": config.seed, "window": window.to_dict()}
            stored = {
                "version": __version__,
                "loop": asdict(config),
                "description": description or {},
                "progress": progress,
            }
            checkpoints.save(step, state, stored)
            if writer is not None:
                writer.flush()

        # --- Loop.
        start, elapsed = clock(), before
        pending: list[tuple[int, Metrics]] = []
        speed = _Speed(clock, step, feed.waited)
        while run_chunk is not None:
            elapsed = _agreed(before + (clock() - start))
            if _done(config, step, elapsed):
                break
            profile.before(step, state)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, metrics = run_chunk(state, data, key, np.float32(elapsed))
            pending.append((step, metrics))
            previous, step = step, step + config.steps_per_call
            examples += source.batch_size * config.steps_per_call
            profile.after(step, state)
            if len(pending) > 1:
                # At most two chunks in flight, so that the clock and the schedule do not run ahead.
                _collect(window, pending[:1])
                pending = pending[1:]
            stop = notice.reached(step // config.steps_per_call)
            log = _crosses(previous, step, config.log_every)
            keep = stop or _crosses(previous, step, config.save_every)
            if log or keep:
                _collect(window, pending)  # checks for finite losses, so it comes before any save
                pending = []
            if log:
                _log(writer, step, window, speed.since(step, feed.waited, source.batch_size), elapsed)
                window = Window()
            if keep:
                save()
            if stop:
                checkpoints.wait()
                raise Preempted(f"asked to stop: saved step {step} in {workdir}; the same command resumes")
            data = feed.take()

        # --- End.
        _collect(window, pending)
        if window.steps and run_chunk is not None:
            _log(writer, step, window, speed.since(step, feed.waited, source.batch_size), elapsed)
            window = Window()
        state = dataclasses.replace(
            state, elapsed=jax.device_put(np.float32(elapsed), state.elapsed.sharding)
        )
        save()
        checkpoints.wait()
    return state


def _start(
    task: Task,
    config: LoopConfig,
    mesh: Mesh,
    checkpoints: Checkpoints,
    initial_params: Params | None,
    description: dict[str, Any],
) -> tuple[TrainState, dict[str, Any]]:
    """The first state, laid out over the mesh, and where in the data it stands."""

    def fresh(params: Params | None) -> TrainState:
        key = jax.random.key(config.seed)
        # No step has this number: the initial parameters share no randomness with any.
        return init_state(task, jax.random.fold_in(key, 2**31 - 1), params)

    shapes = jax.eval_shape(fresh, initial_params)
    shardings = state_shardings(shapes, mesh, fsdp=config.fsdp)
    if checkpoints.latest_step() is None:
        return jax.jit(fresh, out_shardings=shardings)(initial_params), {}
    stored = checkpoints.configuration()
    _check_network(stored["description"], description, checkpoints)
    like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    state, stored = checkpoints.restore(like)
    progress = stored["progress"]
    if progress["seed"] != config.seed:
        logging.warning("the checkpoint was trained with seed %d; going on with another", progress["seed"])
    logging.info("resumed from step %d", int(state.step))
    return state, progress


def _check_network(saved: dict[str, Any], asked: dict[str, Any], checkpoints: Checkpoints) -> None:
    before, now = saved.get("network"), asked.get("network")
    if before != now:
        raise BadOption(
            f"{checkpoints.folder} holds a run of the network {before}, but {now} is asked for; "
            "choose another --workdir, or the flags of that run"
        )


def _chunk(task: Task, source: Source, config: LoopConfig, mesh: Mesh) -> Callable[..., Any]:
    split = NamedSharding(mesh, P("data"))
    batch = None
    if isinstance(source, ResidentSource):
        draw = source.batch

        def batch(data: Any, *, key: jax.Array) -> jax.Array:
            return jax.lax.with_sharding_constraint(draw(data, key=key), split)

    return make_chunk(
        task,
        batch,
        schedule=config.schedule,
        steps=config.steps,
        max_seconds=config.max_seconds,
        ema_decay=config.ema_decay,
        clip_norm=config.clip_norm,
        steps_per_call=config.steps_per_call,
    )


def _done(config: LoopConfig, step: int, elapsed: float) -> bool:
    if config.steps is not None:
        return step >= config.steps
    assert config.max_seconds is not None
    return elapsed >= config.max_seconds


def _agreed(elapsed: float) -> float:
    """Process 0's clock, for all: who stops at another step than the others leaves them waiting."""
    if jax.process_count() == 1:
        return elapsed
    return float(multihost_utils.broadcast_one_to_all(jnp.float32(elapsed)))


def _crosses(previous: int, step: int, every: int) -> bool:
    return step // every > previous // every


def _collect(window: Window, pending: list[tuple[int, Metrics]]) -> None:
    for first_step, metrics in pending:
        window.add(jax.device_get(metrics), first_step=first_step)


class _Speed:
    """Rates since the last log line."""

    def __init__(self, clock: Callable[[], float], step: int, waited: float) -> None:
        self._clock, self._last = clock, (clock(), step, waited)

    def since(self, step: int, waited: float, batch_size: int) -> dict[str, float]:
        now = self._clock()
        then, last_step, last_waited = self._last
        self._last = (now, step, waited)
        seconds = max(now - then, 1e-9)
        rate = (step - last_step) / seconds
        return {
            "steps_per_second": rate,
            "examples_per_second": rate * batch_size,
            "input_wait": (waited - last_waited) / seconds,
        }


def _log(
    writer: MetricsWriter | None, step: int, window: Window, speed: dict[str, float], elapsed: float
) -> None:
    if writer is not None:
        writer.write(step, {**window.means(), **speed, **device_memory(), "elapsed": elapsed})
