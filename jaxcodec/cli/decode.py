"""`jaxcodec decode`: files to pictures."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from jaxcodec.cli.console import note, run_batch, say
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import Job, list_coded, plan

_EPILOG = """\
examples:
  jaxcodec decode photo.jxc                     photo.png; refused if that exists
  jaxcodec decode photo.jxc -o back.png         .png .ppm .bmp .tif .webp are lossless; .jpg works too
  jaxcodec decode coded/ -o pictures/           every coded file of a folder
  jaxcodec decode - < photo.jxc | display       from stdin to stdout, as PNG
  jaxcodec decode mine.jxc --weights runs/mine.safetensors
  jaxcodec decode photo.jxc --iterations 3      a coarser picture, from a progressive codec's file
  jaxcodec decode cut.jxc --allow-truncated     what the beginning of such a file still holds

The file says which codec and weights made it. JPEG, JPEG 2000, WebP, AVIF, HEIC and JPEG XL files are
decoded as well. A file that is cut or damaged is refused, never decoded to something wrong. Only files of
progressive codecs decode in part, and when they are cut only if asked to; `jaxcodec info` shows their
iterations.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "decode",
        help="turn coded files into pictures",
        description="Decode files to pictures, by default .png beside them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="a coded file, a folder of some, or -")
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE_OR_DIR",
        help="a file, a folder for several inputs, or - for stdout",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of your own that made the file")
    parser.add_argument(
        "--iterations", type=int, metavar="K", help="decode the first K iterations of a progressive file"
    )
    parser.add_argument(
        "--allow-truncated",
        action="store_true",
        help="decode the whole iterations that a cut progressive file still holds",
    )
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    prepare_jax(arguments.device)
    from jaxcodec.codecs.base import count_iterations
    from jaxcodec.codecs.registry import decode as decode_bytes
    from jaxcodec.data.images import image_bytes

    jobs, refused = plan(arguments.inputs, arguments.output, extension=".png", list_folder=list_coded)

    def decode(job: Job) -> None:
        job.check_target(force=arguments.force)
        data = job.read()
        pixels = decode_bytes(
            data,
            weights=arguments.weights,
            iterations=arguments.iterations,
            allow_truncated=arguments.allow_truncated,
        )
        extension = ".png" if job.target is None else job.target.suffix or ".png"
        job.write(image_bytes(pixels, extension=extension), force=arguments.force)
        if arguments.allow_truncated:
            held, written = count_iterations(data)
            if held < written:
                note(f"{job.name}: the file is cut; it holds {held} of {written} iterations")
        height, width = pixels.shape[:2]
        say(
            f"{job.name} -> {job.target_name}  {width} x {height}",
            file=sys.stderr if job.target is None else None,
        )

    return 1 if run_batch(jobs, decode, action="decoding") + refused else 0
