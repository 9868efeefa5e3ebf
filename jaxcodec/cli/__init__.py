"""The `jaxcodec` command: one module per subcommand, each with `add_parser` and `run`.

Nothing here imports jax or Pillow before a subcommand needs it, so `--help`, `--version` and `list`
are quick. A user's mistake is one line on stderr and exit code 1; anything else that goes wrong is a bug and
shows its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from jaxcodec.cli import bench, complete, decode, demo, denoise, encode, info, list_codecs, restore, upsample
from jaxcodec.cli.console import fail, message_of
from jaxcodec.errors import JaxcodecError
from jaxcodec.version import __version__

_EPILOG = """\
examples:
  jaxcodec demo                                try it on a packaged photo, beside JPEG
  jaxcodec encode photo.png                    writes photo.jxc
  jaxcodec decode photo.jxc -o back.png        and the picture again
  jaxcodec restore old.jpg -o better.png       fewer blocks and rings in an existing JPEG
  jaxcodec denoise icon.png -o clean.png       also upsample, complete: a network fitted to a small picture
  jaxcodec list                                codecs, qualities, what is installed
  jaxcodec bench photos/ --codecs jpeg,webp -o results.json --plot results.png

`jaxcodec COMMAND --help` tells more. Exit codes: 0 done, 1 something could not be done (stderr says what;
the other files of a batch were done), 2 wrong usage, 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command; each subcommand sets `run`."""
    parser = argparse.ArgumentParser(
        prog="jaxcodec",
        description="Learned image compression with real files: pictures in, small files out, and back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jaxcodec {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (encode, decode, restore, denoise, upsample, complete, info, list_codecs, bench, demo):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit code."""
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its help, the version, or what is wrong
        return int(stop.code or 0)
    if not hasattr(arguments, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has gone; Python would complain of it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (JaxcodecError, OSError, MemoryError) as error:
        fail(message_of(error))
        return 1
    except KeyboardInterrupt:
        fail("interrupted")
        return 130
