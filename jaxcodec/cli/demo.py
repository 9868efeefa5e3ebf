"""`jaxcodec demo`: the packaged photo, coded and beside JPEG."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.console import note, progress_bar, say, table
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import check_output
from jaxcodec.errors import BadOption

if TYPE_CHECKING:
    from jaxcodec.evaluation.demonstration import Coded

_EPILOG = """\
examples:
  jaxcodec demo
  jaxcodec demo -o somewhere/ --force

Codes a packaged photo (768 x 512) with the best learned codec at a few qualities, and with JPEG at the
smallest quality that gives at least as many bytes. Writes the photo, the .jxc and JPEG files, the decoded
pictures, and comparison.png, which shows both beside the original. The first run compiles the networks and
takes longer.
"""
_COUNT = 4  # qualities shown
_CLOSEST_TO = 0.3  # bits per pixel of the files that comparison.png shows: where the differences are plain
_CROP = (232, 56, 488, 312)  # the lighthouse: edges, flat sky and texture


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="try it on a packaged photo",
        description="Code a packaged photo and compare it with JPEG at the same number of bytes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o", dest="output", default="demo", metavar="DIR", help="where to write (default: demo)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    prepare_jax(arguments.device)
    from jaxcodec.codecs.registry import best_general_codec, load

    show(load(best_general_codec()), Path(arguments.output), force=arguments.force)
    return 0


def show(codec: Any, folder: Path, *, force: bool) -> None:
    """Write the demonstration of a codec to a folder, and print its table.

    Raises
    ------
    OutputExists
        If one of its files is there and `force` is False; nothing is written then.
    """
    from importlib.resources import files

    from jaxcodec.codecs.registry import load
    from jaxcodec.data.files import write_bytes
    from jaxcodec.data.images import image_bytes, read_image
    from jaxcodec.evaluation.demonstration import code, quality_of_size, side_by_side, spread

    if folder.exists() and not folder.is_dir():
        raise BadOption(f"-o {folder} is a file; give a folder")
    photo = read_image((files("jaxcodec") / "demo" / "lighthouse.webp").read_bytes()).pixels
    qualities = spread(codec.ladder, _COUNT)
    comparison = folder / "comparison.png"
    original = folder / "original.png"
    for path in (original, comparison, *(path for q in qualities for path in _paths(folder, codec, q))):
        check_output(path, force=force)
    jpeg = load("jpeg")
    pairs: list[tuple[Coded, Coded]] = []
    note(f"coding a photo of {photo.shape[1]} x {photo.shape[0]} with {codec.name} and JPEG ...")
    with progress_bar(len(qualities), "coding", "quality") as step:
        for quality in qualities:
            ours = code(codec, photo, quality)
            pairs.append((ours, code(jpeg, photo, quality_of_size(jpeg, photo, len(ours.data)))))
            step("")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(original, image_bytes(photo), force=force)
    rows = []
    for quality, (ours, theirs) in zip(qualities, pairs, strict=True):
        coded, decoded, beside = _paths(folder, codec, quality)
        write_bytes(coded, ours.data, force=force)
        write_bytes(decoded, image_bytes(ours.decoded), force=force)
        write_bytes(beside, theirs.data, force=force)
        rows += [_row(coded, ours), _row(beside, theirs)]
    shown = min(pairs, key=lambda pair: abs(pair[0].bpp - _CLOSEST_TO))
    write_bytes(comparison, image_bytes(side_by_side(photo, shown, crop=_CROP)), force=force)
    say(table(("file", "bytes", "bpp", "PSNR, dB", "MS-SSIM"), rows, right=(1, 2, 3, 4)))
    say(f"side by side: {comparison}")


def _paths(folder: Path, codec: Any, quality: float) -> tuple[Path, Path, Path]:
    """Return where the file of a quality, its decoded picture and the JPEG of the same size go."""
    stem = f"{codec.name}-q{quality}"
    beside = f"jpeg-like-q{quality}.jpg"
    return folder / f"{stem}{codec.extension}", folder / f"{stem}-decoded.png", folder / beside


def _row(path: Path, coded: Coded) -> tuple[str, ...]:
    return path.name, str(len(coded.data)), f"{coded.bpp:.3f}", f"{coded.psnr:.2f}", f"{coded.ms_ssim:.4f}"
