"""`jaxcodec info`: what a file says of itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jaxcodec.cli.console import fail, message_of, note, say
from jaxcodec.cli.files import Job
from jaxcodec.errors import JaxcodecError, UnknownCodec

_EPILOG = """\
examples:
  jaxcodec info photo.jxc
  jaxcodec info photo.jxc --json
  jaxcodec info photo.jpg
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
    if arguments.json:
        say(json.dumps(fields, indent=1))
    else:
        width = max(map(len, fields))
        for name, value in fields.items():
            say(f"{name.replace('_', ' '):{width}}  {_text(value)}")
    if trouble is not None:
        fail(f"{job.name}: {trouble}")
    return 0 if trouble is None else 1


def _jxc_fields(data: bytes) -> tuple[dict[str, Any], str | None]:
    """Return what the header says, and what is wrong with the rest of the file, if anything is."""
    from jaxcodec.coding.codec_ids import codec_name
    from jaxcodec.coding.container import read_header, unpack
    from jaxcodec.coding.range_coder import CODER_IDS
    from jaxcodec.metrics.rate import bits_per_pixel
    from jaxcodec.zoo import manifest

    header = read_header(data)
    chunks, trouble = None, None
    try:
        chunks = [len(chunk) for chunk in unpack(data)[1]]
    except JaxcodecError as error:
        trouble = str(error)
    try:
        codec = codec_name(header.codec_id)
    except UnknownCodec:
        codec = f"number {header.codec_id}, unknown to this version"
    coders = {number: name for name, number in CODER_IDS.items()}
    has_weights = any(header.weights_hash)
    installed = manifest.find(header.weights_hash) if has_weights else None
    fields = {
        "format": "jxc",
        "codec": codec,
        "coder": coders.get(header.coder_id, f"number {header.coder_id}, unknown to this version"),
        "quality": header.quality,
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "bit_depth": header.bit_depth,
        "weights": header.weights_hash.hex() if has_weights else None,
        "weights_installed": installed is not None and installed.exists() if has_weights else None,
        "bytes": len(data),
        "bpp": bits_per_pixel(len(data), header.height, header.width),
        "chunks": chunks and len(chunks),
        "chunk_bytes": chunks,
    }
    return fields, trouble


def _native_fields(data: bytes) -> dict[str, Any]:
    """Return format and size of a JPEG, WebP, ... file, which is decoded for it and so is checked."""
    from jaxcodec.codecs.native_formats import CODEC_OF_FORMAT, jpeg_xl_size, native_format
    from jaxcodec.data.images import read_image
    from jaxcodec.metrics.rate import bits_per_pixel

    file_format = native_format(data)
    assert file_format is not None  # `run` has asked
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


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
