"""`jaxcodec upsample`: small pictures made larger."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.fitted import add_fitting_parser, network_of, run_fitting, settings_of
from jaxcodec.cli.numbers import positive

if TYPE_CHECKING:
    import numpy as np

_EPILOG = """\
examples:
  jaxcodec upsample icon.png -o large.png --factor 4
  jaxcodec upsample icons/ -o large/ --factor 2.5       any factor; sides are rounded to whole pixels

"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_fitting_parser(
        commands,
        "upsample",
        help_line="make small pictures larger",
        description="Fit a network to each picture and ask it for the colours between the pixels.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--factor", type=positive, required=True, metavar="X", help="pixels of the result per pixel"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""

    def make_work() -> Callable[[np.ndarray], np.ndarray]:
        from jaxcodec.codecs.coconet import tasks

        config, settings = network_of(arguments), settings_of(arguments, tasks.FITTING)
        return lambda pixels: tasks.upsample(pixels, arguments.factor, config=config, settings=settings)

    return run_fitting(arguments, make_work, action="enlarging")
