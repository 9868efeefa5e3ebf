"""Where jax computes and keeps compiled programs, settled before it is imported."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from jaxcodec.errors import BadOption

_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device",
        choices=tuple(_PLATFORMS),
        help="where learned codecs compute; by default an accelerator if jax finds one, else the CPU",
    )


def prepare_jax(device: str | None) -> None:
    """Choose the device, keep compiled programs between runs, and leave the GPU's memory to others.

    Variables that the user has set stay as they are, but for `--device`. In a process that has imported jax
    already, whose settings are not ours, only the device is checked.

    Raises
    ------
    BadOption
        If the device asked for is not there.
    """
    if "jax" not in sys.modules:
        if device is not None:
            os.environ["JAX_PLATFORMS"] = _PLATFORMS[device]
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own log, which no user can act on
        _keep_compiled_programs()
    if device is not None and device != "cpu":
        _check_device(device)


def cache_folder() -> Path:
    """Return where compiled programs are kept: under `$XDG_CACHE_HOME`, or `.cache` in the user's home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of the variable asks to ignore a relative path.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "jaxcodec" / "compiled"


def _keep_compiled_programs() -> None:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or not ours to write: compile anew each time
        return
    if os.access(folder, os.W_OK):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _check_device(device: str) -> None:
    import jax

    extra = {"gpu": "cuda", "tpu": "tpu"}[device]
    missing = (
        f"--device {device}: jax finds no {device.upper()} here; leave the option out to use the CPU, or, if "
        f"there is one, pip install 'jaxcodec[{extra}]'"
    )
    try:
        platform = jax.devices()[0].platform
    except (RuntimeError, AssertionError) as error:  # which one depends on the platform
        raise BadOption(missing) from error
    if platform != device:
        raise BadOption(missing)
