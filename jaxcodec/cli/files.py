"""Which files a command reads and which it writes: folders, `-`, names of outputs, nothing overwritten."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxcodec.cli.console import fail
from jaxcodec.data.files import PICTURE_EXTENSIONS, write_bytes
from jaxcodec.errors import BadImage, BadOption, JaxcodecError, OutputExists

CODED_EXTENSIONS = frozenset(
    [".jxc", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".avif", ".heic", ".heif", ".jxl"]
)
_KNOWN_EXTENSIONS = CODED_EXTENSIONS.union(PICTURE_EXTENSIONS)
_SAME_FORMAT = {".jpeg": ".jpg", ".heif": ".heic", ".j2k": ".jp2", ".tiff": ".tif"}


@dataclass(frozen=True)
class Job:
    """A file to read and the one to write; None is stdin and stdout.

    `make_folder` says whether the output's folder, which `-o` named, is to be made.
    """

    source: Path | None
    target: Path | None
    make_folder: bool = False

    @property
    def name(self) -> str:
        """How messages call the input."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        """How messages call the output."""
        return "standard output" if self.target is None else str(self.target)

    def read(self) -> bytes:
        """Return the input's bytes."""
        return sys.stdin.buffer.read() if self.source is None else self.source.read_bytes()

    def check_target(self, *, force: bool) -> None:
        """Raise what `write` would, as far as is known before the work is done."""
        if self.target is None:
            if sys.stdout.isatty():
                raise BadOption(
                    f"{self.name}: standard output is a terminal; give -o FILE, or send it to a pipe"
                )
        else:
            check_output(self.target, force=force)

    def write(self, data: bytes, *, force: bool) -> None:
        """Write the output, whole or not at all."""
        if self.target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        if self.make_folder:
            self.target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.target, data, force=force)


def check_output(path: Path, *, force: bool) -> None:
    """Raise `OutputExists` if a file is there that may not be overwritten."""
    if path.is_file() and not force:
        raise OutputExists(f"{path} exists; choose another name, or overwrite it with --force")


def list_coded(folder: Path) -> list[Path]:
    """Return the files directly in a folder that `decode` takes, by their extension, sorted by name.

    Raises
    ------
    BadImage
        If there are none.
    """
    found = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in CODED_EXTENSIONS and not path.name.startswith(".")
    )
    if not found:
        raise BadImage(f"{folder}: no files to decode here ({', '.join(sorted(CODED_EXTENSIONS))})")
    return found


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    extension: str,
    list_folder: Callable[[Path], list[Path]],
) -> tuple[list[Job], int]:
    """Return what to read and write, and how many inputs were refused, each with a line on stderr.

    Parameters
    ----------
    inputs
        Files, folders, and `-`.
    output
        `-o`: a file for a single input, a folder (existing, with a slash at its end, or for several inputs),
        or `-`; None writes next to the inputs, and from stdin to stdout.
    extension
        Of the outputs, with the dot, where `-o` names no file.
    list_folder
        Gives the inputs in a folder; its errors refuse the folder.

    Raises
    ------
    BadOption
        If `-o` is a single file and there are several inputs.
    """
    sources: list[Path | None] = []
    refused, several = 0, len(inputs) > 1
    for name in inputs:
        if name == "-":
            sources.append(None)
        elif Path(name).is_dir():
            several = True
            try:
                sources += list_folder(Path(name))
            except (JaxcodecError, OSError) as error:
                fail(str(error))
                refused += 1
        else:
            sources.append(Path(name))
    into_folder = _is_folder(output, several=several)
    jobs: list[Job] = []
    taken: dict[str | None, str] = {}
    read = {os.path.realpath(source) for source in sources if source is not None}
    for source in sources:
        job = Job(source, _target(source, output, into_folder, extension), make_folder=into_folder)
        place = None if job.target is None else os.path.realpath(job.target)
        if place in taken:
            fail(f"{job.name}: would write {job.target_name}, as {taken[place]} does; give it its own -o")
            refused += 1
        elif place in read:
            fail(f"{job.name}: would overwrite {job.target_name}, an input; choose another name")
            refused += 1
        else:
            taken[place] = job.name
            jobs.append(job)
    return jobs, refused


def _is_folder(output: str | None, *, several: bool) -> bool:
    """Return whether `-o` names a folder."""
    if output is None:
        return False
    if output == "-":
        if several:
            raise BadOption("-o - takes one input; several cannot share standard output, so give a folder")
        return False
    separators = tuple(filter(None, (os.sep, os.altsep)))
    if not (several or output.endswith(separators) or Path(output).is_dir()):
        return False
    if Path(output).exists() and not Path(output).is_dir():
        raise BadOption(f"-o {output} is a file; for several inputs give a folder")
    return True


def _target(source: Path | None, output: str | None, into_folder: bool, extension: str) -> Path | None:
    """Return where an input's output goes; None is stdout."""
    if output is None:
        return None if source is None else source.with_name(_renamed(source, extension))
    if into_folder:
        return Path(output, _renamed(source or Path("stdin"), extension))
    return None if output == "-" else Path(output)


def _renamed(source: Path, extension: str) -> str:
    """Return the name with another extension, which replaces only one that says what the file is."""
    known = source.suffix.lower() in _KNOWN_EXTENSIONS
    return f"{source.stem if known else source.name}{extension}"


def check_extension(output: str | None, extension: str, codec: str) -> None:
    """Refuse `-o photo.webp` for a codec that writes another format, which programs would then stumble over.

    Raises
    ------
    BadOption
        If the extension is known and not the codec's.
    """
    given = Path(output or "").suffix.lower()
    if given not in _KNOWN_EXTENSIONS:
        return
    if _SAME_FORMAT.get(given, given) != extension:
        raise BadOption(
            f"-o {output}: {codec} writes {extension} files; name it so, or choose the codec with --codec "
            "(jaxcodec list)"
        )
