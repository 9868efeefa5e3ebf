"""Writing files so that nobody ever sees half of one, and finding the pictures of a folder."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from pathlib import Path

from jaxcodec.errors import BadImage, BadOption, OutputExists

PICTURE_EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jp2", ".jpeg"),
    *(".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)


def write_bytes(path: str | Path, data: bytes, *, force: bool = False) -> Path:
    """Write a file whole or not at all, and return its path.

    The bytes go to a temporary file in the same folder, which then takes the name in one step. A device or a
    pipe (`/dev/null`) is written as it is.

    Raises
    ------
    OutputExists
        If there is such a file and `force` is False.
    BadOption
        If the folder does not exist or the system refuses to write.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))  # a link stays one: what it points to is replaced
    if os.path.isdir(target):  # these do not raise on names that are too long
        raise BadOption(f"{path} is a folder; name a file in it")
    if not os.path.isdir(target.parent):
        raise BadOption(f"{path}: there is no folder {path.parent}; make it first")
    special = os.path.exists(target) and not os.path.isfile(target)
    if os.path.isfile(target) and not force:
        raise OutputExists(f"{path} exists; choose another name, or overwrite it with --force (force=True)")
    try:
        if special:
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        raise BadOption(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        # "x" makes it with the user's own permission mask, which tempfile's functions do not
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def list_images(place: str | Path) -> list[Path]:
    """Return the pictures of a folder, or the files of a glob pattern (`**` enters folders), sorted by path.

    Of a folder these are the files directly in it with one of `PICTURE_EXTENSIONS` in any case, hidden ones
    left out; of a pattern, or a single file's name, whatever files match.

    Raises
    ------
    BadImage
        If there is none.
    """
    if os.path.isdir(place):
        found = [
            path
            for path in Path(place).iterdir()
            if path.suffix.lower() in PICTURE_EXTENSIONS and not path.name.startswith(".")
        ]
    elif os.path.isfile(place):  # before the pattern: a name may hold brackets
        found = [Path(place)]
    else:
        found = [Path(match) for match in glob.glob(str(place), recursive=True)]
    pictures = sorted(path for path in found if path.is_file())
    if not pictures:
        raise BadImage(
            f"{place}: no pictures here; give a folder with some, or a pattern such as 'photos/*.png'"
        )
    return pictures
