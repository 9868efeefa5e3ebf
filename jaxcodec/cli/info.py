"""`jaxcodec info`: what a file says of itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.console import fail, message_of, note, say, table
from jaxcodec.cli.files import Job
from jaxcodec.cli.numbers import gap_to, positive
from jaxcodec.errors import JaxcodecError, TruncatedFile, UnknownCodec

if TYPE_CHECKING:
    from jaxcodec.coding.container import Header
    from jaxcodec.coding.jpeg_segment import JpegSegment

_EPILOG = """\
examples:
  jaxcodec info photo.jxc
  jaxcodec info photo.jxc --json
  jaxcodec info photo.jpg

The file of a progressive codec has a chunk per iteration: for each, its bytes, and bytes and bits per pixel
of the file of all iterations so far, which is what `encode --quality K` writes. They are shown of a cut file
as well, as far as it goes; the exit code is then 1.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "info",
        help="show what a file says of itself",
        description="Show the header of a .jxc file, or format and size of another one, and check it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="a coded file, or - for stdin")
    parser.add_argument(
        "--bpp", type=positive, metavar="X", help="also tell how far the file is from X bits per pixel"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    from jaxcodec.codecs.native_formats import native_format

    job = Job(None if arguments.file == "-" else Path(arguments.file), None)
    trouble = None
    try:
        data = job.read()
        if native_format(data) is not None:
            fields = _native_fields(data)
        else:
            fields, trouble = _jxc_fields(data)
    except (JaxcodecError, OSError) as error:
        message = message_of(error)
        fail(message if job.name in message else f"{job.name}: {message}")
        return 1
    fields = {"file": job.name, **fields}
    if arguments.bpp is not None:
        fields["gap"] = gap_to(float(fields["bpp"]), arguments.bpp)
    if arguments.json:
        say(json.dumps(fields, indent=1))
    else:
        iterations: Any = fields.pop("iterations", None)
        width = max(map(len, fields))
        for name, value in fields.items():
            say(f"{name.replace('_', ' '):{width}}  {_text(value)}")
        if iterations:
            header = [name.replace("_", " ") for name in iterations[0]]
            rows = [[_text(value) for value in row.values()] for row in iterations]
            say(table(header, rows, right=range(len(header))))
    if trouble is not None:
        fail(f"{job.name}: {trouble}")
    return 0 if trouble is None else 1


def _jxc_fields(data: bytes) -> tuple[dict[str, Any], str | None]:
    """Return what the header says, and what is wrong with the rest of the file, if anything is."""
    from jaxcodec.coding.codec_ids import codec_name
    from jaxcodec.coding.container import read_header
    from jaxcodec.coding.range_coder import CODER_IDS
    from jaxcodec.metrics.rate import bits_per_pixel
    from jaxcodec.zoo import manifest

    header = read_header(data)
    chunks, cut, trouble = _chunks(data)
    try:
        codec = codec_name(header.codec_id)
    except UnknownCodec:
        codec = f"number {header.codec_id}, unknown to this version"
    coders = {0: "none, raw bits"} | {number: name for name, number in CODER_IDS.items()}
    has_weights = any(header.weights_hash)
    installed = manifest.find(header.weights_hash) if has_weights else None
    fields = {
        "format": "jxc",
        "codec": codec,
        "coder": coders.get(header.coder_id, f"number {header.coder_id}, unknown to this version"),
        "quality": _quality(header),
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "bit_depth": header.bit_depth,
        "weights": header.weights_hash.hex() if has_weights else None,
        "weights_installed": installed is not None and installed.exists() if has_weights else None,
        "bytes": len(data),
        "bpp": bits_per_pixel(len(data), header.height, header.width),
        "chunks": chunks and len(chunks),
        "chunk_bytes": chunks and [len(chunk) for chunk in chunks],
    }
    if chunks and (len(chunks) > 1 or cut):
        fields |= {
            "cut": cut,
            "iterations_written": header.quality,
            "iterations": _iterations(header, chunks),
        }
    return fields, trouble


def _quality(header: Header) -> float:
    """The quality as users know it: files of a ladder have it in hundredths."""
    from jaxcodec.codecs.base import quality_number
    from jaxcodec.zoo import manifest
    from jaxcodec.zoo.weights import has_ladder

    installed = manifest.find(header.weights_hash)
    if installed is not None and installed.exists() and has_ladder(installed):
        return quality_number(header.quality)
    return header.quality


def _chunks(data: bytes) -> tuple[list[bytes] | None, bool, str | None]:
    """Return the whole chunks, whether the file was cut after them, and what is wrong with it."""
    from jaxcodec.coding.container import unpack

    try:
        return unpack(data)[1], False, None
    except TruncatedFile as error:
        trouble = str(error)
        try:
            return unpack(data, allow_truncated=True)[1], True, trouble
        except JaxcodecError:
            return None, True, trouble
    except JaxcodecError as error:
        return None, False, str(error)


def _iterations(header: Header, chunks: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return a row per iteration: its chunk, and the file that ends with it."""
    from jaxcodec.coding.container import pack
    from jaxcodec.metrics.rate import bits_per_pixel

    rows = []
    for number, chunk in enumerate(chunks, 1):
        size = len(pack(replace(header, quality=number), chunks[:number]))
        rows.append(
            {
                "iteration": number,
                "chunk_bytes": len(chunk),
                "file_bytes": size,
                "bpp": bits_per_pixel(size, header.height, header.width),
            }
        )
    return rows


def _native_fields(data: bytes) -> dict[str, Any]:
    """Return format and size of a JPEG, WebP, ... file, which is decoded for it and so is checked."""
    from jaxcodec.codecs.native_formats import CODEC_OF_FORMAT, jpeg_xl_size, native_format
    from jaxcodec.coding.jpeg_segment import split_segment
    from jaxcodec.data.images import read_image
    from jaxcodec.metrics.rate import bits_per_pixel

    file_format = native_format(data)
    assert file_format is not None  # `run` has asked
    split = split_segment(data) if file_format == "JPEG" else None
    if split is not None:
        return _segment_fields(data, *split)
    channels = None
    if file_format == "JPEG XL":  # read_image leaves it to the codec, which may not be installed
        width, height = jpeg_xl_size(data)
    else:
        picture = read_image(data)
        for sentence in picture.notes:
            note(f"as read: {sentence}")
        height, width = picture.pixels.shape[:2]
        channels = 1 if picture.pixels.ndim == 2 else 3
    return {
        "format": file_format,
        "codec": CODEC_OF_FORMAT[file_format],
        "width": width,
        "height": height,
        "channels": channels,
        "bytes": len(data),
        "bpp": bits_per_pixel(len(data), height, width),
    }


def _segment_fields(data: bytes, segment: JpegSegment, payload: bytes) -> dict[str, Any]:
    """Return what the segment of a JPEG file says, and the size that viewers show."""
    from jaxcodec.coding.codec_ids import codec_name
    from jaxcodec.metrics.rate import bits_per_pixel
    from jaxcodec.zoo import manifest

    shown = _native_fields(payload)
    installed = manifest.find(segment.weights_hash)
    return {
        "format": "JPEG",
        "codec": codec_name(segment.codec_id),
        "width": segment.width,
        "height": segment.height,
        "channels": shown["channels"],
        "shown_width": shown["width"],
        "shown_height": shown["height"],
        "weights": segment.weights_hash.hex(),
        "weights_installed": installed is not None and installed.exists(),
        "bytes": len(data),
        "bpp": bits_per_pixel(len(data), segment.height, segment.width),
    }


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
