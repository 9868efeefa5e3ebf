r"""Train on one device, on eight and by two processes of four, and compare the losses; resume eight's on two.

python -m scripts.check_topologies --steps=40 --output=results/topologies.txt

Devices are those that XLA makes of one CPU, processes talk over the loopback. All runs have the same global batch
and seed, so all losses should agree to float tolerance: `--tolerance`, relative, at every step. Each is
done with data on the device and streamed; the runs on eight devices also with parameters split (`--fsdp`). One run
on eight devices is stopped half way by SIGTERM (on two processes: of one of them) and resumed on two.
Exits with 1 if anything differs.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from jaxcodec.training.preemption import PREEMPTED_EXIT_CODE
from scripts.small_training import command, logged, make_photos, saved_steps, start

_STEPS = flags.DEFINE_integer("steps", 40, "Length of a run.", lower_bound=8)
_TOLERANCE = flags.DEFINE_float("tolerance", 1e-5, "Largest relative difference of a loss.")
_QUICK = flags.DEFINE_bool(
    "quick",
    False,
    "Streamed data only, without split parameters and the second resumption: for the test suite.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Also write what is printed to this file.")

# Large enough for --fsdp to split the kernels between hidden layers.
_NETWORK = {"batch_size": 8, "channels": 32, "latent_channels": 24}


def run(
    photos: Path, workdir: Path, *, devices: int, processes: int = 1, stop_at: int = 0, **options: Any
) -> int:
    """Train by so many processes of so many devices each; SIGTERM to the last at a step, if given; the exit code."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []
    for index in range(processes):
        flags_of_process: dict[str, Any] = {**_NETWORK, **options}
        if processes > 1:
            flags_of_process |= {"multihost": True, "coordinator_address": f"localhost:{port}"}
            flags_of_process |= {"num_processes": processes, "process_id": index}
        log = workdir.with_name(f"{workdir.name}_{index}.log")
        running.append(start(command(photos, workdir, **flags_of_process), log, devices=devices))
    if stop_at:
        while running[-1].poll() is None and len(logged(workdir)) < stop_at:
            time.sleep(0.002)
        running[-1].send_signal(signal.SIGTERM)
    codes = {process.wait() for process in running}
    return codes.pop() if len(codes) == 1 else -1


def check(folder: Path, *, steps: int, tolerance: float, quick: bool) -> tuple[list[str], bool]:
    """Do all runs in `folder`; return the report's lines and whether all is well."""
    photos = make_photos(folder / "photos")
    lines: list[str] = []
    well = True
    for loading in ("stream",) if quick else ("resident", "stream"):
        options: dict[str, Any] = {"steps": steps, "data_loading": loading, "save_every": steps}
        if quick:
            options["jax_disable_most_optimizations"] = True  # most of the time is compilation
        runs: dict[str, tuple[dict[str, Any], ...]] = {
            "8 devices": ({"devices": 8},),
            "2 processes of 4 devices": ({"devices": 4, "processes": 2},),
            "8 devices, resumed on 2": ({"devices": 8, "stop_at": steps // 2}, {"devices": 2}),
        }
        if not quick:
            runs["8 devices, parameters split"] = ({"devices": 8, "fsdp": True},)
            runs["2 processes of 4 devices, resumed on 2 devices"] = (
                {"devices": 4, "processes": 2, "stop_at": steps // 2},
                {"devices": 2},
            )
        one = folder / f"{loading}_one"
        codes = [run(photos, one, devices=1, **options)]
        reference = [line["loss"] for line in logged(one)]
        for number, (name, parts) in enumerate(runs.items()):
            workdir = folder / f"{loading}_{number}"
            codes = []
            saved = 0
            for part in parts:
                codes.append(run(photos, workdir, **options, **part))
                saved = saved or max(saved_steps(workdir))
            losses = [line["loss"] for line in logged(workdir)]
            same_length = len(losses) == len(reference) == steps
            worst = float(np.max(np.abs(np.divide(losses, reference) - 1))) if same_length else np.inf
            expected = [PREEMPTED_EXIT_CODE] * (len(parts) - 1) + [0]
            good = worst <= tolerance and codes == expected
            well &= good
            stopped = f", stopped at step {saved}" if len(parts) > 1 else ""
            lines.append(
                f"{loading:8s} {name}{stopped}: exit {codes}, {len(losses)} losses, largest relative difference "
                f"from one device {worst:.1e}{'' if good else '; NOT AS IT SHOULD BE'}"
            )
            print(lines[-1], flush=True)
    lines.append("all as it should be" if well else "FAILED")
    return lines, well


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    with tempfile.TemporaryDirectory() as folder:
        lines, well = check(Path(folder), steps=_STEPS.value, tolerance=_TOLERANCE.value, quick=_QUICK.value)
    print(lines[-1])
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text("\n".join(lines) + "\n")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    app.run(main)
