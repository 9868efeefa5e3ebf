"""What `results/interruptions.txt` and `results/topologies.txt` record, for a few steps; whole processes are run."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from jaxcodec.errors import BadOption
from jaxcodec.training.sharding import check_batch_size, state_shardings

ROOT = Path(__file__).parents[2]


def run(module, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_runs_that_are_killed_and_resumed_log_what_uninterrupted_ones_do():
    said = run("scripts.check_interruptions", "--kills=1", "--steps=24", "--seed=1")
    assert said.count("log equal bit for bit") == 2


def test_losses_agree_between_devices_and_processes_and_over_a_change_of_devices():
    said = run("scripts.check_topologies", "--steps=8", "--quick")
    assert said.count("largest relative difference") == 3


def test_parameters_are_split_along_their_longest_axis_that_divides_when_asked():
    mesh = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))
    shapes = {
        "kernel": (5, 5, 64, 96),
        "odd": (5, 5, 99, 65),
        "square": (128, 128),
        "bias": (96,),
        "step": (),
    }
    state = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    split = {name: s.spec for name, s in state_shardings(state, mesh, fsdp=True).items()}
    assert split == {
        "kernel": P(None, None, None, "data"),
        "odd": P(),
        "square": P("data"),
        "bias": P(),
        "step": P(),
    }
    assert {s.spec for s in state_shardings(state, mesh, fsdp=False).values()} == {P()}


def test_a_batch_that_does_not_divide_among_the_devices_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    check_batch_size(16)
    with pytest.raises(BadOption, match=r"batch of 12 does not divide among 8 devices.*multiple of 8"):
        check_batch_size(12)
