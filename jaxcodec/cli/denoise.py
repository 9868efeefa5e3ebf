"""`jaxcodec denoise`: noise out of small pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.fitted import add_fitting_parser, network_of, run_fitting, settings_of

if TYPE_CHECKING:
    import numpy as np

_EPILOG = """\
examples:
  jaxcodec denoise noisy.png -o clean.png
  jaxcodec denoise noisy.png -o clean.png --sigma 20    if you know the noise: its standard deviation, of 255
  jaxcodec denoise icons/ -o clean/                     every picture of a folder
  jaxcodec denoise noisy.png -o clean.png --sigma 0 --steps 400
                                                        exactly so many steps

The fit stops where the picture differs from its noisy original about as much as noise would make it; without
--sigma the noise is estimated, and fine texture counts as noise then.

"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_fitting_parser(
        commands,
        "denoise",
        help_line="take noise out of small pictures",
        description="Fit a network to each noisy picture and stop before it holds the noise.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--sigma", type=float, metavar="X", help="standard deviation of the noise in levels of 0..255"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""

    def make_work() -> Callable[[np.ndarray], np.ndarray]:
        from jaxcodec.codecs.coconet import tasks

        config, settings = network_of(arguments), settings_of(arguments, tasks.DENOISING)
        tasks.check_sigma(arguments.sigma)
        return lambda pixels: tasks.denoise(pixels, sigma=arguments.sigma, config=config, settings=settings)

    return run_fitting(arguments, make_work, action="denoising")
