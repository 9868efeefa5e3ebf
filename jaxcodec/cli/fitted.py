"""What `denoise`, `upsample` and `complete` share: options of the network, and fitting it to picture after picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.console import note, run_batch, say
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import Job, plan

if TYPE_CHECKING:
    import numpy as np

    from jaxcodec.codecs.coconet import FitSettings, NetworkConfig

ABOUT = """\
A network from a pixel's coordinates to its colour is fitted to each picture alone (CocoNet, Bricman and Ionescu 2018);
nothing was learned from others. It is meant for small pictures, such as thumbnails and icons: fitting takes seconds to
minutes, and of a large photo a network of this size holds only a blur. Classical filters are quicker and often better:
compare. The same --seed gives the same result on one machine.
"""


def add_fitting_parser(
    commands: Any, name: str, *, help_line: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """Add a subcommand with the options that all of them have, and return its parser."""
    parser = commands.add_parser(
        name,
        help=help_line,
        description=description,
        epilog=epilog + ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="a picture, a folder of pictures, or -")
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE_OR_DIR",
        required=True,
        help="a file, a folder for several inputs, or - for stdout",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="updates of the network (at most, if it may stop)"
    )
    parser.add_argument("--width", type=int, default=100, metavar="N", help="units of a layer, default 100")
    parser.add_argument("--depth", type=int, default=10, metavar="N", help="hidden layers, default 10")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random weights, default 0")
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    return parser


def network_of(arguments: argparse.Namespace) -> NetworkConfig:
    """Return the network that was asked for; `BadOption` if there is none of that shape."""
    from jaxcodec.codecs.coconet import NetworkConfig

    return NetworkConfig(width=arguments.width, depth=arguments.depth)


def settings_of(arguments: argparse.Namespace, default: FitSettings) -> FitSettings:
    """Return how to fit: the default, but for steps and seed; `BadOption` for less than one step."""
    steps = default.steps if arguments.steps is None else arguments.steps
    return replace(default, steps=steps, seed=arguments.seed)


def run_fitting(
    arguments: argparse.Namespace, make_work: Callable[[], Callable[[np.ndarray], np.ndarray]], *, action: str
) -> int:
    """Do the work of a subcommand for every picture and return the exit code.

    Parameters
    ----------
    arguments
        As parsed.
    make_work
        Called once, when jax may be imported: checks the options and returns what makes one picture of another.
    action
        For the progress bar, such as `"denoising"`.
    """
    prepare_jax(arguments.device)
    from jaxcodec.data.files import list_images
    from jaxcodec.data.images import image_bytes, read_image

    work = make_work()
    jobs, refused = plan(arguments.inputs, arguments.output, extension=".png", list_folder=list_images)

    def one(job: Job) -> None:
        job.check_target(force=arguments.force)
        picture = read_image(job.read() if job.source is None else job.source)
        for sentence in picture.notes:
            note(f"{job.name}: {sentence}")
        result = work(picture.pixels)
        extension = ".png" if job.target is None else job.target.suffix or ".png"
        job.write(image_bytes(result, extension=extension), force=arguments.force)
        height, width = result.shape[:2]
        say(
            f"{job.name} -> {job.target_name}  {width} x {height}",
            file=sys.stderr if job.target is None else None,
        )

    return 1 if run_batch(jobs, one, action=action) + refused else 0
