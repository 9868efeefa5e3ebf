"""`jaxcodec complete`: holes in small pictures filled."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.fitted import add_fitting_parser, network_of, run_fitting, settings_of

if TYPE_CHECKING:
    import numpy as np

_EPILOG = """\
examples:
  jaxcodec complete photo.png -o whole.png --mask hole.png

The mask is a picture of the same size, white where pixels are to be filled (128 and more); all others stay exactly as
they are. One mask serves all pictures of a call, so they have one size.

"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_fitting_parser(
        commands,
        "complete",
        help_line="fill holes in small pictures",
        description="Fit a network to the pixels around a hole and fill it with what the network has there.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--mask", required=True, metavar="FILE", help="a picture, white where pixels are missing"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""

    def make_work() -> Callable[[np.ndarray], np.ndarray]:
        from jaxcodec.codecs.coconet import tasks
        from jaxcodec.data.images import read_image

        config, settings = network_of(arguments), settings_of(arguments, tasks.FITTING)
        mask = read_image(Path(arguments.mask)).pixels
        hole = (mask if mask.ndim == 2 else mask.mean(axis=2)) >= 128
        return lambda pixels: tasks.complete(pixels, hole, config=config, settings=settings)

    return run_fitting(arguments, make_work, action="completing")
