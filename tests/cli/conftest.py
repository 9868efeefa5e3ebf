"""Pictures and weights for the command, which is run through its entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_pictures import texture
from PIL import Image

from jaxcodec.cli import main

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
PACKAGE = Path(main.__code__.co_filename).resolve().parents[1]


@pytest.fixture
def jaxcodec(capsys):
    """Run the command in this process: its exit code, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def in_subprocess(tmp_path_factory):
    """Run Python in a process of its own, without this one's settings of jax."""
    cache = tmp_path_factory.mktemp("cache")

    def run(*arguments, stdin=b"", environment=None, **streams):
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
        mine |= {"PYTHONPATH": str(PACKAGE.parent), "XDG_CACHE_HOME": str(cache), **(environment or {})}
        command = [sys.executable, *map(str, arguments)]
        options = streams or {"input": stdin, "capture_output": True}
        return subprocess.run(command, env=mine, timeout=120, check=False, **options)

    return run


@pytest.fixture
def save(tmp_path):
    """Write a picture of smooth colours, or another one, and return its path."""

    def write(name, pixels=None, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(40, 56) if pixels is None else pixels).save(path, **options)
        return path

    return write


@pytest.fixture(scope="session")
def weights():
    """Path of the fixture network of this name."""
    index = json.loads((GOLDEN / "files.json").read_text(encoding="utf-8"))["weights"]
    return lambda network: GOLDEN / "weights" / index[network]


@pytest.fixture(scope="session")
def photo():
    """A part of a photo, large enough for MS-SSIM: uint8 `[176, 192, 3]`."""
    with Image.open(ROOT / "data" / "kodak" / "kodim21.png") as picture:
        return np.asarray(picture)[150:326, 200:392].copy()
