"""`jaxcodec encode`: pictures to files."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.console import note, run_batch, say
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import Job, check_extension, check_output, plan
from jaxcodec.cli.numbers import gap_to, positive, quality
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
  jaxcodec encode photo.png --codec msroi --quality 50 --map map.png
                                                     a plain JPEG no larger than --codec jpeg --quality 50, its
                                                     bytes where the network sees objects; map.png shows where
  jaxcodec encode photo.png --codec msroi --mask mine.png
                                                     the same for your own mask: white matters, black does not

--bpp and --psnr search the qualities of any codec, in at most 8 encodings of a picture (a progressive codec:
one); the line of each file then tells the quality found and how far from the target it stays: learned codecs
with fractions of qualities come within 3 %, JPEG's whole ones may be coarser. A target out of a picture's reach
is an error.

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
        "--quality",
        type=quality,
        metavar="Q",
        help="more is better and larger; `jaxcodec list` shows the range; fractions where it says so",
    )
    goal.add_argument(
        "--bpp", type=positive, metavar="X", help="the largest file of at most X bits per pixel"
    )
    goal.add_argument(
        "--psnr", type=positive, metavar="X", help="the smallest file that decodes to a PSNR of at least X dB"
    )
    parser.add_argument("--closest", action="store_true", help="with --bpp: the nearest file, even if above")
    parser.add_argument("--weights", metavar="FILE", help="weights of your own training")
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="with --codec msroi: a picture of what matters (white), for the network's map",
    )
    parser.add_argument(
        "--map",
        metavar="FILE",
        help="with --codec msroi and one input: write the map that was used as a picture",
    )
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    if arguments.closest and arguments.bpp is None:
        raise BadOption("--closest goes with --bpp; give a rate, or leave it out")
    prepare_jax(arguments.device)
    from jaxcodec.codecs.checks import check_quality
    from jaxcodec.codecs.registry import best_general_codec, load
    from jaxcodec.data.files import list_images
    from jaxcodec.data.images import read_image
    from jaxcodec.metrics.rate import bits_per_pixel
    from jaxcodec.zoo.weights import load_weights

    name = arguments.codec
    if name is None:
        name = load_weights(arguments.weights).codec if arguments.weights else best_general_codec()
    codec = load(name, weights=arguments.weights)
    if arguments.mask is not None or arguments.map is not None:
        codec = _with_mask(codec, arguments)
    chosen = check_quality(arguments.quality, codec)
    jobs, refused = plan(
        arguments.inputs, arguments.output, extension=codec.extension, list_folder=list_images
    )
    if arguments.map is not None and len(jobs) != 1:
        raise BadOption("--map goes with one input; code the pictures one by one, or leave it out")
    if arguments.output is not None and [job.target for job in jobs] == [Path(arguments.output)]:
        check_extension(arguments.output, codec.extension, codec.name)

    def encode(job: Job) -> None:
        job.check_target(force=arguments.force)
        if arguments.map is not None:
            check_output(Path(arguments.map), force=arguments.force)
        picture = read_image(job.read() if job.source is None else job.source)
        for sentence in picture.notes:
            note(f"{job.name}: {sentence}")
        if arguments.bpp is None and arguments.psnr is None:
            data, reached = codec.encode(picture.pixels, quality=chosen), ""
        else:
            found = _encode_to_target(codec, picture.pixels, arguments)
            data, reached = found.data, f"  {_reached(found, arguments.bpp)}"
        job.write(data, force=arguments.force)
        if arguments.map is not None:
            _write_map(codec, picture.pixels, arguments)
        height, width = picture.pixels.shape[:2]
        bpp = bits_per_pixel(len(data), height, width)
        # What goes through stdout is the file; the line then goes to stderr.
        say(
            f"{job.name} -> {job.target_name}  {len(data)} bytes  {bpp:.3f} bpp{reached}",
            file=sys.stderr if job.target is None else None,
        )

    return 1 if run_batch(jobs, encode, action="encoding") + refused else 0


def _with_mask(codec: Codec, arguments: argparse.Namespace) -> Codec:
    """Return `msroi` with the user's mask, if there is one."""
    from jaxcodec.codecs.msroi import MsRoiCodec, MsRoiOptions
    from jaxcodec.data.images import read_image

    if not isinstance(codec, MsRoiCodec):
        raise BadOption(
            f"--mask and --map go with --codec msroi; {codec.name} knows no map, so leave them out"
        )
    if arguments.mask is None:
        return codec
    mask = read_image(Path(arguments.mask)).pixels
    if mask.ndim == 3:
        mask = mask.mean(-1).round().astype("uint8")
    return codec.with_options(MsRoiOptions(mask=mask))


def _write_map(codec: Codec, pixels: np.ndarray, arguments: argparse.Namespace) -> None:
    """Write the map, enlarged to the picture, in grey: it may serve as a mask."""
    from jaxcodec.codecs.msroi import MsRoiCodec
    from jaxcodec.codecs.msroi.jpeg import resize_map
    from jaxcodec.data.images import write_image

    assert isinstance(codec, MsRoiCodec)  # `_with_mask` has asked
    saliency = resize_map(codec.saliency(pixels), *pixels.shape[:2])
    write_image(
        Path(arguments.map), (255.0 * saliency).round().clip(0, 255).astype("uint8"), force=arguments.force
    )


def _encode_to_target(codec: Codec, pixels: np.ndarray, arguments: argparse.Namespace) -> TargetedFile:
    from jaxcodec.codecs.rate_control import encode_to_bpp, encode_to_psnr

    if arguments.bpp is not None:
        return encode_to_bpp(codec, pixels, arguments.bpp, closest=arguments.closest)
    return encode_to_psnr(codec, pixels, arguments.psnr)


def _reached(found: TargetedFile, bpp: float | None) -> str:
    """`2.4 % below 0.5  31.20 dB  quality 37  7 encodings`."""
    psnr = f"{found.psnr:.2f} dB" if math.isfinite(found.psnr) else "lossless"
    encodings = f"{found.encodings} encoding{'s' if found.encodings > 1 else ''}"
    gap = "" if bpp is None else f"{gap_to(found.bpp, bpp)}  "
    return f"{gap}{psnr}  quality {found.quality}  {encodings}"
