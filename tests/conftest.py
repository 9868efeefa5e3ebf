"""What every test shares: the CPU, strict broadcasting, seeded randomness, reference values."""

import json
import os
from pathlib import Path

# Before jax is imported; a developer may still ask for another platform.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling small programs that run once; this takes about half of that.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import numpy as np
import pytest
import safetensors
from absl import flags

# A missing axis is a mistake more often than an intention: broadcasting between ranks is written out.
jax.config.update("jax_numpy_rank_promotion", "raise")

# grain reads an absl flag when it starts workers, and there is no app.run here that parses flags.
flags.FLAGS.mark_as_parsed()

GOLDEN = Path(__file__).parent / "golden"


_LONG = ("tests/training/", "tests/experiments/", "tests/codecs/")
"""Modules of these folders take the longest: begun first, they do not leave one worker alone with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the long modules to the front; `--no-loadscope-reorder` keeps this order under xdist."""
    items.sort(
        key=lambda item: next((i for i, at in enumerate(_LONG) if item.nodeid.startswith(at)), len(_LONG))
    )


@pytest.fixture
def key():
    """A jax key, the same for every test."""
    return jax.random.key(0)


@pytest.fixture
def rng():
    """A numpy generator, fresh and the same for every test."""
    return np.random.default_rng(0)


@pytest.fixture
def strict_dtypes():
    """No implicit promotion between types while the test runs (optax would not pass, so not for all)."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def tfc_golden():
    """Arrays by name of scripts/make_tfc_goldens.py; `origin` says how they were made."""
    with safetensors.safe_open(str(GOLDEN / "tfc.safetensors"), framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
        return arrays | {"origin": json.loads(file.metadata()["origin"])}
