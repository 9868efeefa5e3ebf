"""`jaxcodec restore`: JPEG files to pictures with fewer of JPEG's blocks and rings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcodec.cli.console import note, run_batch, say
from jaxcodec.cli.device import add_device_option, prepare_jax
from jaxcodec.cli.files import Job, plan
from jaxcodec.errors import BadImage

if TYPE_CHECKING:
    import numpy as np

    from jaxcodec.codecs.comcnn import Restored

_EXTENSIONS = (".jpg", ".jpeg")

_EPILOG = """\
examples:
  jaxcodec restore old.jpg                      old.png; refused if that exists
  jaxcodec restore old.jpg -o better.png        .png .ppm .bmp .tif .webp are lossless
  jaxcodec restore album/ -o better/            every JPEG of a folder
  cat old.jpg | jaxcodec restore - > better.png

A network (RecCNN, Jiang et al. 2017) restores the luma of a JPEG file of any quality, told by the file itself how
coarsely it was quantised; chroma stays as it is. The coarser, the more there is to gain. EXIF orientation and colour
profile are applied, as `encode` does.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "restore",
        help="take JPEG's blocks and rings out of pictures",
        description="Restore JPEG files to pictures, by default .png beside them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="a JPEG file, a folder of some, or -")
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE_OR_DIR",
        help="a file, a folder for several inputs, or - for stdout",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of your own training")
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    prepare_jax(arguments.device)
    from jaxcodec.codecs.comcnn import load_restorer
    from jaxcodec.data.images import image_bytes

    restorer = load_restorer(arguments.weights)
    jobs, refused = plan(arguments.inputs, arguments.output, extension=".png", list_folder=list_jpegs)

    def restore(job: Job) -> None:
        job.check_target(force=arguments.force)
        pixels, notes = upright(restorer.restore(job.read()))
        for sentence in notes:
            note(f"{job.name}: {sentence}")
        extension = ".png" if job.target is None else job.target.suffix or ".png"
        job.write(image_bytes(pixels, extension=extension), force=arguments.force)
        height, width = pixels.shape[:2]
        say(
            f"{job.name} -> {job.target_name}  {width} x {height}",
            file=sys.stderr if job.target is None else None,
        )

    return 1 if run_batch(jobs, restore, action="restoring") + refused else 0


def list_jpegs(folder: Path) -> list[Path]:
    """Return the JPEG files directly in a folder, by their extension, sorted by name; `BadImage` if there is none."""
    found = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in _EXTENSIONS and not path.name.startswith(".")
    )
    if not found:
        raise BadImage(f"{folder}: no files to restore here ({', '.join(_EXTENSIONS)})")
    return found


def upright(restored: Restored) -> tuple[np.ndarray, list[str]]:
    """Return the pixels turned as EXIF says and converted to sRGB, uint8, and a sentence for each."""
    import numpy as np
    from PIL import Image, ImageOps

    from jaxcodec.data.colour import to_srgb

    picture, notes = Image.fromarray(restored.pixels), []
    if restored.orientation in range(2, 9):
        picture.getexif()[274] = restored.orientation  # the tag that Pillow turns by
        picture = ImageOps.exif_transpose(picture)
        notes.append(
            f"The picture was turned upright, as its EXIF orientation ({restored.orientation}) asks."
        )
    picture, more = to_srgb(picture, restored.profile)
    return np.array(picture), notes + more
