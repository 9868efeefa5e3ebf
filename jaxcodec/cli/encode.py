"""`jaxcodec encode`: pictures to files."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.console import note, run_batch, say
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import Job, check_extension, plan
from jaxcodec.errors import BadOption

if TYPE_CHECKING:
    import numpy as np

    from jaxcodec.codecs.base import Codec
    from jaxcodec.codecs.rate_control import TargetedFile

_EPILOG = """\
examples:
  jaxcodec encode photo.png                          photo.jxc, by the best learned codec
  jaxcodec encode photo.png -o small.jxc --quality 2
  jaxcodec encode holiday/ -o coded/                 every picture of a folder
  jaxcodec encode photo.png --codec webp --quality 60 -o photo.webp
  jaxcodec encode mine.png --weights runs/mine.safetensors
  cat photo.png | jaxcodec encode - > photo.jxc
  jaxcodec encode photo.png --bpp 0.5                the best file of at most 0.5 bits per pixel
  jaxcodec encode holiday/ --codec jpeg --psnr 34    the smallest of at least 34 dB, of each picture

--bpp and --psnr search the qualities of any codec, in at most 8 encodings of a picture (a progressive codec:
one); the line of each file then tells the quality found. A target out of a picture's reach is an error.

Any picture will do: rotated, grey, 16-bit, CMYK or transparent ones, and those with colour profiles, are
converted, and a line on stderr says so; animations are refused. Nothing is overwritten without --force.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "encode",
        help="code pictures to files",
        description="Code pictures to files, by default .jxc beside them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="a picture, a folder of pictures, or -")
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE_OR_DIR",
        help="a file, a folder for several inputs, or - for stdout",
    )
    parser.add_argument("--codec", metavar="NAME", help="from `jaxcodec list`; default: the best learned one")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--quality", type=int, metavar="Q", help="more is better and larger; `jaxcodec list` shows the range"
    )
    goal.add_argument("--bpp", type=_target, metavar="X", help="the largest file of at most X bits per pixel")
    goal.add_argument(
        "--psnr", type=_target, metavar="X", help="the smallest file that decodes to a PSNR of at least X dB"
    )
    parser.add_argument("--closest", action="store_true", help="with --bpp: the nearest file, even if above")
    parser.add_argument("--weights", metavar="FILE", help="weights of your own training")
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    parser.set_defaults(run=run)


def _target(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text} makes no sense; give a number above 0")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    if arguments.closest and arguments.bpp is None:
        raise BadOption("--closest goes with --bpp; give a rate, or leave it out")
    prepare_jax(arguments.device)
    from jaxcodec.codecs.base import check_quality
    from jaxcodec.codecs.registry import best_general_codec, load
    from jaxcodec.data.files import list_images
    from jaxcodec.data.images import read_image
    from jaxcodec.metrics.rate import bits_per_pixel
    from jaxcodec.zoo.weights import load_weights

    name = arguments.codec
    if name is None:
        name = load_weights(arguments.weights).codec if arguments.weights else best_general_codec()
    codec = load(name, weights=arguments.weights)
    quality = check_quality(arguments.quality, codec)
    jobs, refused = plan(
        arguments.inputs, arguments.output, extension=codec.extension, list_folder=list_images
    )
    if arguments.output is not None and [job.target for job in jobs] == [Path(arguments.output)]:
        check_extension(arguments.output, codec.extension, codec.name)

    def encode(job: Job) -> None:
        job.check_target(force=arguments.force)
        picture = read_image(job.read() if job.source is None else job.source)
        for sentence in picture.notes:
            note(f"{job.name}: {sentence}")
        if arguments.bpp is None and arguments.psnr is None:
            data, reached = codec.encode(picture.pixels, quality=quality), ""
        else:
            found = _encode_to_target(codec, picture.pixels, arguments)
            data, reached = found.data, f"  {_reached(found)}"
        job.write(data, force=arguments.force)
        height, width = picture.pixels.shape[:2]
        bpp = bits_per_pixel(len(data), height, width)
        # What goes through stdout is the file; the line then goes to stderr.
        say(
            f"{job.name} -> {job.target_name}  {len(data)} bytes  {bpp:.3f} bpp{reached}",
            file=sys.stderr if job.target is None else None,
        )

    return 1 if run_batch(jobs, encode, action="encoding") + refused else 0


def _encode_to_target(codec: Codec, pixels: np.ndarray, arguments: argparse.Namespace) -> TargetedFile:
    from jaxcodec.codecs.rate_control import encode_to_bpp, encode_to_psnr

    if arguments.bpp is not None:
        return encode_to_bpp(codec, pixels, arguments.bpp, closest=arguments.closest)
    return encode_to_psnr(codec, pixels, arguments.psnr)


def _reached(found: TargetedFile) -> str:
    """`31.20 dB  quality 37  7 encodings`."""
    psnr = f"{found.psnr:.2f} dB" if math.isfinite(found.psnr) else "lossless"
    encodings = f"{found.encodings} encoding{'s' if found.encodings > 1 else ''}"
    return f"{psnr}  quality {found.quality}  {encodings}"
