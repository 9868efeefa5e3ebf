"""A training of a few seconds, run by the command that a user runs; for the checks of interruptions and topologies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_ROOT = Path(__file__).resolve().parents[1]
_MACHINE = ("elapsed", "steps_per_second", "examples_per_second", "input_wait", "device_memory_gib")


def make_photos(folder: Path, count: int = 6, width: int = 96, height: int = 80) -> Path:
    """Write smooth random pictures to train on, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / f"{index}.png")
    return folder


def command(photos: Path, workdir: Path, **options: Any) -> list[str]:
    """The training command, for a network of a few channels; `options` are further flags."""
    arguments = {
        "train_data": photos,
        "workdir": workdir,
        "channels": 6,
        "latent_channels": 8,
        "crop_size": 32,
        "batch_size": 2,
        "init": "random",
        "log_every": 1,
        "jax_compilation_cache_dir": workdir.parent / "compiled",
        "jax_persistent_cache_min_compile_time_secs": 0,
        **options,
    }
    return [sys.executable, "-m", "experiments.balle2017", *(f"--{k}={v}" for k, v in arguments.items())]


def start(arguments: Sequence[str], log: Path, *, devices: int = 1) -> subprocess.Popen[bytes]:
    """Run a command on so many devices of the CPU, its output into a file."""
    with log.open("ab") as file:
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "PYTHONPATH": str(_ROOT),
        }
        return subprocess.Popen(arguments, cwd=_ROOT, env=environment, stdout=file, stderr=file)


def logged(workdir: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's log, without what depends on the machine's speed."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    return [{name: value for name, value in line.items() if name not in _MACHINE} for line in lines]


def saved_steps(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
