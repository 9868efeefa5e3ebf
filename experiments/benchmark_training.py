r"""Speed of the training step, per system, type and batch size, beside CompressAI's on the same device.

python -m experiments.benchmark_training --compressai_python=PYTHON --output=results/training_speed.json

What is timed is the step that experiments run (`jaxcodec.training.step.make_chunk`): crops cut on the device from
photos that lie there, loss, gradient, clipping, Adam, averaged weights, `--steps_per_call` of them in one call.
Model FLOP/s count the multiply-accumulates of the paper's layers, three times for training (forward, and the
gradients for inputs and for weights), two operations each; work beyond that (polyphase zeros, the prior) earns
nothing. They are also given as a share of the device's matmul peak, measured in the same run.

CompressAI (`pip install compressai`) runs in a process of its own, under another Python; all take turns, call by
call, so a drift of the machine's speed hits all. A compiled mode takes it a minute or two per batch size, so it
is timed at the largest of `--batch_sizes` only, unless told otherwise. On a GPU ours compile for about a minute
each: choose with `--systems` and `--batch_sizes` where time is short. For a smoke run on a CPU:

JAX_PLATFORMS=cpu python -m experiments.benchmark_training --batch_sizes=2 --crop_size=64 --channels=8 \
  --latent_channels=8 --calls=2 --steps_per_call=2
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.balle2017 import RateDistortion
from experiments.benchmark_kernels import origins, top_kernels
from experiments.benchmark_training_peer import Peer, PeerFailed
from jaxcodec.codecs.balle2017.model import STRIDE, TransformCoder, TransformConfig
from jaxcodec.data.crops import PhotoStore, random_crops, store_photos
from jaxcodec.data.files import write_bytes
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.step import init_state, make_chunk
from jaxcodec.training.task import Task

# The experiments whose tasks are timed define flags too, some of the same names: these are kept apart.
FLAGS = flags.FlagValues()
_listed = partial(flags.DEFINE_list, flag_values=FLAGS)
_text = partial(flags.DEFINE_string, flag_values=FLAGS)
_whole = partial(flags.DEFINE_integer, flag_values=FLAGS, lower_bound=1)

_SYSTEMS = _listed("systems", None, "Names of systems, or parts of names; all when not given.")
_BATCH_SIZES = _listed("batch_sizes", ["16", "32", "64"], "Crops per step.")
_CROP_SIZE = _whole("crop_size", 256, "Pixels per side, a multiple of 16.")
_DTYPES = _listed("dtypes", ["float32", "bfloat16"], "Arithmetic of the convolutions.")
_CHANNELS = _whole("channels", None, "N of all systems, for smoke runs.")
_LATENTS = _whole("latent_channels", None, "M of all systems, for smoke runs.")
_CALLS = _whole("calls", 5, "Timed calls; the median counts.")
_STEPS = _whole("steps_per_call", None, "Steps in one call; 1 on a CPU, else 20.")
_MATMUL = _whole("matmul_size", None, "Of the peak's square matrices; 1024 on a CPU, else 8192.")
_COMPRESSAI = _text("compressai_python", None, "A Python interpreter that can import compressai.")
_MODELS = _listed("compressai_models", ["bmshj2018-factorized", "mbt2018-mean"], "Its models.")
_PEER_SIZES = _listed("compressai_batch_sizes", None, "Its batch sizes; the largest of ours.")
_PEER_MODES = _listed(
    "compressai_modes",
    ["eager", "channels_last", "torch.compile", "channels_last torch.compile"],
    "Its modes.",
)
_PROFILE = _text("profile", None, "Folder for traces of the first system at the largest batch size.")
_OUTPUT = _text("output", None, "Also write the figures as JSON.")

_PLACES = (FLAGS["compressai_python"], FLAGS["profile"], FLAGS["output"])

FLOPS_PER_MAC = 6
"""Multiply and add; forward, and backward for the inputs and for the weights."""


@dataclass(frozen=True)
class System:
    """What is timed under one name.

    Attributes
    ----------
    task
        `task(dtype, space_to_depth_first)`.
    macs_per_pixel
        Multiply-accumulates of the forward pass as the paper's layers define them.
    peer
        The model of CompressAI that has the same layers.
    """

    task: Callable[[Any, bool], Task]
    macs_per_pixel: float
    peer: str | None = None


class _WidePriorCoder(TransformCoder):
    PRIOR_FILTERS = (3, 3, 3, 3)


@dataclass(frozen=True)
class _WidePrior(RateDistortion):
    """With the prior of CompressAI, whose cumulative has two hidden layers more."""

    @property
    def coder(self) -> TransformCoder:
        return _WidePriorCoder(self.config, self.dtype, self.space_to_depth_first)


def systems(channels: int | None = None, latent_channels: int | None = None) -> dict[str, System]:
    """The table of systems by name; the arguments replace N and M of all."""

    def transform_coder(
        transform: Any, N: int, M: int, kind: type[RateDistortion] = RateDistortion, peer: str | None = None
    ) -> System:
        config = TransformConfig(transform, channels or N, latent_channels or M)

        def task(dtype: Any, space_to_depth_first: bool) -> Task:
            return kind(config, 0.013, dtype, space_to_depth_first=space_to_depth_first)

        return System(task, sum(config.macs_per_pixel()), peer)

    return {
        "bmshj2018 N=128 M=192, CompressAI's prior": transform_coder(
            "bmshj2018", 128, 192, _WidePrior, "bmshj2018-factorized"
        ),
        "bmshj2018 N=128 M=192": transform_coder("bmshj2018", 128, 192),
        "balle2017 N=128 M=192": transform_coder("bls2017", 128, 192),
        "balle2017 N=192 M=192": transform_coder("bls2017", 192, 192),
    }


# --- timing ---


def noise_photos(crop_size: int) -> PhotoStore:
    """Sixteen photos of noise, on the device: 24 MB for crops of 256."""
    rng = np.random.default_rng(0)
    shape = (2 * crop_size, 3 * crop_size, 3)
    photos = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(16)]
    return jax.device_put(store_photos(photos, crop_size=crop_size))


class Ours:
    """A compiled training step with its state: a call runs `steps_per_call` steps, and returns seconds."""

    def __init__(self, task: Task, store: PhotoStore, batch_size: int, crop_size: int, steps: int) -> None:
        chunk = make_chunk(
            task,
            partial(random_crops, batch_size=batch_size, crop_size=crop_size),
            schedule=Schedule(),
            steps=10**6,
            max_seconds=None,
            ema_decay=0.999,
            clip_norm=1.0,
            steps_per_call=steps,
        )
        self._state = jax.jit(partial(init_state, task))(jax.random.key(0))
        self._rest = (store, jax.random.key(1), jnp.zeros((), jnp.float32))
        start = time.perf_counter()
        self.compiled = jax.jit(chunk, donate_argnums=0).lower(self._state, *self._rest).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> float:
        """Run the steps, wait for them, and return the seconds that they took."""
        start = time.perf_counter()
        self._state, metrics = self.compiled(self._state, *self._rest)
        jax.block_until_ready((self._state, metrics))
        seconds = time.perf_counter() - start
        if not np.isfinite(metrics["loss"]).all():
            raise FloatingPointError("the loss is not finite: times of such a step mean nothing")
        return seconds


def matmul_peak(dtype: str, size: int) -> float:
    """FLOP/s of a chain of `size` x `size` matrix products: the best of five calls."""
    products = 20 if size > 2048 else 4
    x, w = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in range(2))
    w = w / size**0.5

    @jax.jit
    def chain(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, products, lambda _, x: x @ w, x)

    chain(x, w).block_until_ready()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        chain(x, w).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 * products / min(times)


def profile(run: Ours, folder: Path, steps_per_call: int) -> list[dict[str, Any]]:
    """Trace two calls into `folder` and return the top ten kernels, each with where it comes from."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's calls would fill the trace
    jax.profiler.start_trace(str(folder), profiler_options=options)
    try:
        run(), run()
    finally:
        jax.profiler.stop_trace()
    newest = max(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    trace = json.loads(gzip.decompress(newest.read_bytes()))
    kernels = top_kernels(trace, module="jit_chunk", steps=2 * steps_per_call)
    where = origins(run.compiled.as_text())
    return [{**kernel, "from": sorted({where.get(name, "") for name in kernel["hlo"]})} for kernel in kernels]


# --- the run ---


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    if _CROP_SIZE.value % STRIDE:
        raise app.UsageError(f"--crop_size={_CROP_SIZE.value} is not a multiple of {STRIDE}")
    # The other process needs memory on the same card; read when jax first asks for the device.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    on_cpu = jax.default_backend() == "cpu"
    precision = None if on_cpu else "tensorfloat32"
    jax.config.update("jax_default_matmul_precision", precision)
    table = systems(_CHANNELS.value, _LATENTS.value)
    wanted = _SYSTEMS.value or [""]
    table = {name: system for name, system in table.items() if any(part in name for part in wanted)}
    if not table:
        raise app.UsageError(
            f"--systems={','.join(wanted)}: none is named so; there are {', '.join(systems())}"
        )
    if unknown := set(_DTYPES.value) - {"float32", "bfloat16"}:
        raise app.UsageError(f"--dtypes={','.join(unknown)}: there are float32 and bfloat16")
    batch_sizes = _sizes(_BATCH_SIZES)
    steps = _STEPS.value or (1 if on_cpu else 20)
    size = _MATMUL.value or (1024 if on_cpu else 8192)
    try:
        peer = Peer(_COMPRESSAI.value) if _COMPRESSAI.value else None
    except PeerFailed as error:
        raise app.UsageError(f"--compressai_python={_COMPRESSAI.value}: {error}") from error
    peer_sizes = _sizes(_PEER_SIZES) if _PEER_SIZES.value else [max(batch_sizes)]
    report: dict[str, Any] = {
        "environment": environment() | ({"compressai": peer.environment} if peer else {}),
        # Where things lie on this machine is nobody's business.
        "settings": {flag: FLAGS[flag].value for flag in FLAGS if FLAGS[flag] not in _PLACES}
        | {"steps_per_call": steps, "matmul_size": size, "matmul_precision": precision},
        "matmul_peak_flops": {d: matmul_peak(d, size) for d in _DTYPES.value},
        "rows": [],
        "ratios": [],
        "profile": [],
    }
    print(json.dumps(report["environment"]))
    print("matmul peak in FLOP/s:", json.dumps(report["matmul_peak_flops"]))
    print(f"{'system':45} {'mode':36} {'batch':>5} {'crops/s':>8} {'step ms':>9} {'TFLOP/s':>8} {'peak':>7}")
    for batch_size in batch_sizes:
        _measure(report, table, peer if batch_size in peer_sizes else None, batch_size, steps)
        if _OUTPUT.value:  # after each, so that a run cut short leaves what it measured
            write_bytes(_OUTPUT.value, json.dumps(report, indent=1).encode(), force=True)
    if peer:
        peer.close()


def _sizes(flag: flags.FlagHolder) -> list[int]:
    if not all(size.isdecimal() and int(size) > 0 for size in flag.value):
        raise app.UsageError(f"--{flag.name}={','.join(flag.value)}: give whole numbers, such as 16,32")
    return [int(size) for size in flag.value]


def environment() -> dict[str, Any]:
    """Versions, device and threads of this process."""
    return {
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "machine": platform.machine(),
        "threads": len(os.sched_getaffinity(0)),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def _measure(
    report: dict[str, Any], table: dict[str, System], peer: Peer | None, batch_size: int, steps: int
) -> None:
    """Compile everything for one batch size, time it in turns, and add to the report."""
    crop_size: int = _CROP_SIZE.value
    store = noise_photos(crop_size)
    on_cpu = jax.default_backend() == "cpu"
    runs: dict[tuple[str, str], Callable[[], float]] = {}
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for (name, system), dtype in itertools.product(table.items(), _DTYPES.value):
        run = Ours(system.task(jnp.dtype(dtype), not on_cpu), store, batch_size, crop_size, steps)
        run()
        runs[name, dtype] = run
        facts[name, dtype] = {
            "framework": "jaxcodec",
            "dtype": dtype,
            "macs_per_pixel": system.macs_per_pixel,
            "compile_s": run.compile_seconds,
        }
        largest = batch_size == max(_sizes(_BATCH_SIZES))
        if _PROFILE.value and largest and name == next(iter(table)):
            folder = Path(_PROFILE.value) / f"{dtype}_batch{batch_size}"
            entry = {"system": name, "dtype": dtype, "batch_size": batch_size}
            report["profile"].append(entry | {"kernels": profile(run, folder, steps)})
            _print_kernels(report["profile"][-1])
    if peer:
        _prepare_peer(peer, runs, facts, batch_size, steps)
    times: dict[tuple[str, str], list[float]] = {label: [] for label in runs}
    for _ in range(_CALLS.value):
        for label, call in runs.items():
            if on_cpu:
                time.sleep(0.3)  # the threads of who ran before spin on for a while, on the same cores
            try:
                times[label].append(call() / steps)
            except PeerFailed as error:
                facts[label]["error"] = str(error)
    for label, fact in facts.items():
        row = {"system": label[0], "mode": label[1], "batch_size": batch_size, **fact}
        if "error" not in row:
            step = statistics.median(times[label])
            speed = FLOPS_PER_MAC * fact["macs_per_pixel"] * batch_size * crop_size**2 / step
            row |= {
                "step_s": step,
                "step_s_of_each_call": times[label],
                "crops_per_s": batch_size / step,
                "model_flops_per_s": speed,
                "share_of_peak": speed / report["matmul_peak_flops"][fact["dtype"]],
            }
        report["rows"].append(row)
        _print_row(row)
    _compare(report, table, batch_size)
    if peer:
        with contextlib.suppress(PeerFailed):
            peer.ask(drop=True)


def _prepare_peer(
    peer: Peer,
    runs: dict[tuple[str, str], Callable[[], float]],
    facts: dict[tuple[str, str], dict[str, Any]],
    batch_size: int,
    steps: int,
) -> None:
    for model, dtype, how in itertools.product(_MODELS.value, _DTYPES.value, _PEER_MODES.value):
        mode = {"dtype": dtype, "channels_last": "channels_last" in how, "compile": "compile" in how}
        name, label = f"CompressAI {model}", f"{dtype} {how}"
        facts[name, label] = {"framework": "compressai", "dtype": dtype}
        request = {
            "prepare": f"{model} {label}",
            "model": model,
            "mode": mode,
            "channels": _CHANNELS.value or 128,
            "latent_channels": _LATENTS.value or 192,
            "batch_size": batch_size,
            "crop_size": _CROP_SIZE.value,
        }
        start = time.perf_counter()
        try:
            answer = peer.ask(**request)
        except PeerFailed as error:
            facts[name, label]["error"] = str(error)
            continue
        facts[name, label] |= answer | {"compile_s": time.perf_counter() - start}
        runs[name, label] = lambda key=request["prepare"]: peer.ask(time=key, steps=steps)["seconds"]


def _compare(report: dict[str, Any], table: dict[str, System], batch_size: int) -> None:
    """Add the ratios of ours to CompressAI's best mode, for systems that it has too."""
    rows = [row for row in report["rows"] if row["batch_size"] == batch_size and "step_s" in row]
    for name, system in table.items():
        theirs = [row for row in rows if row["system"] == f"CompressAI {system.peer}"]
        for ours in [row for row in rows if row["system"] == name and theirs]:
            best = min(theirs, key=lambda row: row["step_s"])
            # Call by call: both of a pair met the same state of the machine.
            pairs = zip(best["step_s_of_each_call"], ours["step_s_of_each_call"], strict=True)
            ratio = {
                "system": name,
                "mode": ours["mode"],
                "batch_size": batch_size,
                "their_best_mode": best["mode"],
                "crops_per_s_ours_over_theirs": statistics.median(a / b for a, b in pairs),
            }
            report["ratios"].append(ratio)
            print(
                f"{name}, {ours['mode']}, batch {batch_size}: {ratio['crops_per_s_ours_over_theirs']:.2f} x "
                f"CompressAI's best ({best['mode']})"
            )


def _print_row(row: dict[str, Any]) -> None:
    start = f"{row['system']:45} {row['mode']:36} {row['batch_size']:5}"
    if "error" in row:
        print(start, "failed:", row["error"].splitlines()[0][:100])
        return
    print(
        f"{start} {row['crops_per_s']:8.1f} {1e3 * row['step_s']:9.2f} "
        f"{row['model_flops_per_s'] / 1e12:8.3g} {row['share_of_peak']:7.1%}"
    )


def _print_kernels(entry: dict[str, Any]) -> None:
    print(f"top kernels of {entry['system']}, {entry['dtype']}, batch {entry['batch_size']}:")
    for kernel in entry["kernels"]:
        print(
            f"  {kernel['ms_per_step']:9.3f} ms {kernel['share']:6.1%} {kernel['calls_per_step']:6.1f} x "
            f"{kernel['kernel'][:50]:50} {kernel['from'][0][-70:]}"
        )


def _parse(argv: list[str]) -> list[str]:
    flags.FLAGS(argv[:1])
    if {"--help", "-help", "-h"} & set(argv):
        print(__doc__, FLAGS.get_help(), sep="\n")
        sys.exit(0)
    try:
        return FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
