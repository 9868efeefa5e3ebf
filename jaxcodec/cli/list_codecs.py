"""`jaxcodec list`: the codecs there are."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from typing import Any

from jaxcodec.cli.console import say, table

_EPILOG = """\
examples:
  jaxcodec list
  jaxcodec list --json

A learned codec is installed when its weights are, and any when the package that it needs is.
"""
# What a codec's extra has to bring; the others need nothing more than Pillow.
_PACKAGES = {"hevc": "pillow_heif", "jxl": "pillow_jxl", "msroi": "jpeglib", "comcnn-hevc": "pillow_heif"}


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "list",
        help="list the codecs",
        description="List the codecs, their qualities, and what is installed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    from jaxcodec.codecs.registry import available

    rows = [
        {
            "name": codec.name,
            "kind": codec.kind,
            "qualities": list(codec.qualities),
            "extension": codec.extension,
            "requires": codec.requires and f"jaxcodec[{codec.requires}]",
            "installed": bool(codec.qualities) and _has_package(codec.name),
            "description": codec.description,
        }
        for codec in available()
    ]
    if arguments.json:
        say(json.dumps({"codecs": rows}, indent=1, ensure_ascii=False))
        return 0
    header = ("name", "kind", "qualities", "files", "installed", "description")
    cells = [
        (
            row["name"],
            row["kind"],
            span(row["qualities"]) or "-",
            row["extension"],
            "yes" if row["installed"] else _remedy(row),
            row["description"],
        )
        for row in rows
    ]
    say(table(header, cells))
    return 0


def span(qualities: Sequence[float]) -> str:
    """Return ascending qualities in short: `1..6` where none is left out, `1.04..6.5 (fractions)`, else `1,2,4`."""
    if any(quality != int(quality) for quality in qualities):
        return f"{qualities[0]}..{qualities[-1]} (fractions)"
    if len(qualities) > 2 and list(qualities) == list(range(int(qualities[0]), int(qualities[-1]) + 1)):
        return f"{qualities[0]:g}..{qualities[-1]:g}"
    return ",".join(f"{quality:g}" for quality in qualities)


def _has_package(codec: str) -> bool:
    return codec not in _PACKAGES or importlib.util.find_spec(_PACKAGES[codec]) is not None


def _remedy(row: dict[str, Any]) -> str:
    return f"no: pip install '{row['requires']}'" if row["requires"] else "no weights"
