"""`jaxcodec bench`: rate, distortion and time of codecs over a folder of pictures."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcodec.cli.console import fail, message_of, note, progress_bar, say
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import check_output
from jaxcodec.cli.numbers import quality
from jaxcodec.errors import BadImage, BadOption, JaxcodecError
from jaxcodec.version import __version__

_EPILOG = """\
examples:
  jaxcodec bench kodak/ --codecs jpeg,webp,balle2017 -o results.json --plot results.png
  jaxcodec bench kodak/ --codecs balle2017 --qualities 1,2,3 -o results.json
  jaxcodec bench kodak/ --codecs jpeg,balle2017 --compare published.json older.json -o results.json

Rate is file bytes * 8 / pixels; PSNR and MS-SSIM are of the decoded 8-bit picture, averaged over the
pictures. OUT.json holds the averages per quality and a row per picture, in the schema of CompressAI's
results, which --compare reads as well. The table printed at the end compares all with jpeg, or with the
first where there is no jpeg. Without --qualities, each codec is measured on its own ladder, ten steps for
the classical ones.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "bench",
        help="measure codecs on your pictures",
        description="Measure rate, PSNR, MS-SSIM and time of codecs over pictures, and compare the curves.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", help="a folder of pictures, or a quoted pattern")
    parser.add_argument("--codecs", required=True, metavar="A,B,...", help="names from `jaxcodec list`")
    parser.add_argument("--qualities", metavar="1,2,...", help="for all codecs; default: their own ladders")
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="FILE.json",
        help="results of ours, or published ones",
    )
    parser.add_argument("-o", dest="output", required=True, metavar="OUT.json", help="the results")
    parser.add_argument("--plot", metavar="OUT.png", help="rate-distortion plot (.png, .pdf, .svg)")
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    prepare_jax(arguments.device)
    from jaxcodec.codecs.registry import load

    names = list(dict.fromkeys(name.strip() for name in arguments.codecs.split(",") if name.strip()))
    if not names:
        raise BadOption("--codecs names none; see `jaxcodec list`")
    return measure(
        [load(name) for name in names],
        arguments.folder,
        qualities=parse_qualities(arguments.qualities),
        compare_with=arguments.compare,
        output=arguments.output,
        plot=arguments.plot,
        force=arguments.force,
    )


def parse_qualities(text: str | None) -> list[float] | None:
    """Return the numbers of `1,2,3`, None for None; `BadOption` if they are none."""
    if text is None:
        return None
    try:
        return [quality(number) for number in text.split(",")]
    except ValueError as error:
        raise BadOption(f"--qualities {text}: give numbers with commas between, such as 1,2,3") from error


def measure(
    codecs: Sequence[Any],
    folder: str,
    *,
    qualities: Sequence[float] | None,
    compare_with: Sequence[str],
    output: str,
    plot: str | None,
    force: bool,
) -> int:
    """Measure codecs over pictures, write the results, print the table, and return the exit code.

    A picture that cannot be read is left out for all codecs, a codec that fails on a picture is left out
    whole; each has its line on stderr and makes the exit code 1.
    """
    from jaxcodec.codecs.checks import check_quality
    from jaxcodec.data.files import list_images, write_bytes
    from jaxcodec.evaluation import bench, comparison
    from jaxcodec.evaluation import plot as plotting

    # Whatever can be wrong is found before hours of measuring.
    outputs = [Path(name) for name in (output, plot) if name is not None]
    for path in outputs:
        check_output(path, force=force)
        if not path.absolute().parent.is_dir():
            raise BadOption(f"{path}: there is no folder {path.parent}; make it first")
    if plot is not None:
        if os.path.realpath(plot) == os.path.realpath(output):
            raise BadOption(f"-o and --plot both name {plot}; give two names")
        plotting.check_plot(Path(plot).suffix)
    others = [(curve, Path(path).stem) for path in compare_with for curve in comparison.read_curves(path)]
    for codec in codecs:
        for wanted in qualities or ():
            check_quality(wanted, codec)
    pictures, failures = _readable(list_images(folder))

    steps = sum(len(set(qualities or codec.ladder)) for codec in codecs) * len(pictures)
    records = []
    with progress_bar(steps, "measuring", "file") as step:
        for codec in codecs:
            try:
                record = bench.bench_codec(
                    codec,
                    pictures,
                    read=_pixels,
                    qualities=qualities,
                    description=_description(codec.name),
                    warm_up=_is_learned(codec.name),
                    on_measured=step,
                )
            except (JaxcodecError, OSError, MemoryError) as error:
                fail(f"{codec.name} is left out: {message_of(error)}")
                failures += 1
                continue
            records.append(record)
            for sentence in bench.missing_values(record):
                note(sentence)
    if not records:
        return 1
    counted = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
    text = json.dumps({"codecs": records}, indent=1, allow_nan=False)
    write_bytes(output, text.encode() + b"\n", force=force)
    say(f"{output}: {', '.join(record['name'] for record in records)} on {counted}")
    curves = comparison.with_distinct_names(
        [(comparison.curve_of(record), "") for record in records] + others
    )
    anchor = comparison.choose_anchor(curves)
    if len(curves) > 1:
        say(comparison.format_table(comparison.compare(curves, anchor), anchor))
    if plot is not None:
        title = f"{counted} of {Path(folder).name or folder}"
        write_bytes(plot, plotting.plot_bytes(curves, extension=Path(plot).suffix, title=title), force=force)
        say(f"{plot}: the curves")
    return 1 if failures else 0


def _readable(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Return the pictures that can be read, and how many cannot, each of those with a line on stderr."""
    from jaxcodec.data.images import read_image

    good, bad = [], 0
    with progress_bar(len(paths), "reading", "file") as step:
        for path in paths:
            try:
                notes = read_image(path).notes
            except JaxcodecError as error:
                fail(f"{error}; it is left out")
                bad += 1
            else:
                good.append(path)
                for sentence in notes:
                    note(f"{path}: {sentence}")
            step("")
    if not good:
        raise BadImage("none of the pictures can be read; there is nothing to measure")
    return good, bad


def _pixels(path: Path) -> Any:
    from jaxcodec.data.images import read_image

    return read_image(path).pixels


def _is_learned(name: str) -> bool:
    from jaxcodec.codecs.registry import available

    return any(codec.name == name and codec.kind == "learned" for codec in available())


def _description(name: str) -> str:
    """Return a sentence on the codec and on what its times were taken on."""
    from jaxcodec.codecs.registry import available

    text = next((codec.description for codec in available() if codec.name == name), name)
    machine = f"{os.cpu_count()} CPUs ({platform.machine()})"
    if _is_learned(name):
        import jax

        device = jax.devices()[0]
        machine += "" if device.platform == "cpu" else f" and {device.device_kind}"
    else:
        import PIL

        text += f", Pillow {PIL.__version__}"
    return f"{text[:1].upper()}{text[1:]}. jaxcodec {__version__}, one picture at a time on {machine}."
