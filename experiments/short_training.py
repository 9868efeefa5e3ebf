"""Runs of other experiments, in processes of their own, that are not repeated once they have finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcodec.training.checkpoint import Checkpoints


def train(experiment: str, folder: Path, *arguments: str, steps: int) -> dict[str, Any]:
    """Run `python -m experiments.EXPERIMENT --workdir=FOLDER` for that many updates, unless it has been.

    Returns
    -------
    dict
        The last line of its log.

    Raises
    ------
    RuntimeError
        If it fails, with the command and the end of what it said.
    """
    if (last := _last_line(folder)).get("step") != steps:
        command = [
            sys.executable,
            "-m",
            f"experiments.{experiment}",
            f"--workdir={folder}",
            f"--steps={steps}",
        ]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode or (last := _last_line(folder)).get("step") != steps:
            raise RuntimeError(f"{' '.join([*command, *arguments])}\n{done.stderr[-2000:]}")
    return last


def averaged_params(folder: Path) -> tuple[dict[str, Any], Any, float]:
    """The settings of the network, its averaged parameters as numpy arrays, and training seconds of a run."""
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state, stored = checkpoints.read()
    params = jax.tree.map(np.asarray, state["ema_params"])
    return stored["description"]["network"], params, float(state["elapsed"])


def _last_line(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else {}
