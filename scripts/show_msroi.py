r"""Show what msroi does: the map, and the most and the least salient part of a picture beside plain JPEG's.

python scripts/show_msroi.py --image=data/kodak/kodim04.png --quality=20 --output=results/msroi.png

Left: the picture under its map. Beside it, enlarged: the original, plain JPEG, and msroi at no more bytes, of the 96x96
pixels with the highest mean of the map, and of those with the lowest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw

from jaxcodec.codecs import classical
from jaxcodec.codecs.msroi import load_msroi
from jaxcodec.codecs.msroi.jpeg import resize_map
from jaxcodec.data.images import read_image, write_image

CROP, SCALE, TITLE = 96, 2, 16

_IMAGE = flags.DEFINE_string("image", "data/kodak/kodim04.png", "The picture.")
_QUALITY = flags.DEFINE_integer("quality", 20, "Of the plain JPEG.", lower_bound=1, upper_bound=100)
_OUTPUT = flags.DEFINE_string("output", None, "The picture to write.", required=True)


def most_and_least(saliency: np.ndarray) -> list[tuple[int, int]]:
    """Return (top, left) of the squares of `CROP` pixels with the highest and the lowest mean of a map `[H, W]`."""
    sums = np.pad(saliency.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    means = sums[CROP:, CROP:] - sums[:-CROP, CROP:] - sums[CROP:, :-CROP] + sums[:-CROP, :-CROP]
    found = [np.unravel_index(place, means.shape) for place in (means.argmax(), means.argmin())]
    return [(int(top), int(left)) for top, left in found]


def titled(pixels: np.ndarray, title: str) -> np.ndarray:
    """Return a picture with a line of text above it."""
    picture = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + TITLE), "white")
    picture.paste(Image.fromarray(pixels), (0, TITLE))
    ImageDraw.Draw(picture).text((2, 2), title, fill="black")
    return np.asarray(picture)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    codec, image = load_msroi(), read_image(_IMAGE.value).pixels
    plain = classical.jpeg().encode(image, quality=_QUALITY.value)
    ours = codec.encode(image, quality=_QUALITY.value)
    saliency = resize_map(codec.saliency(image), *image.shape[:2])
    pictures = {
        "original": image,
        f"JPEG, {len(plain)} bytes": codec.decode(plain),
        f"msroi, {len(ours)} bytes": codec.decode(ours),
    }
    columns = []
    for title, pixels in pictures.items():
        crops = [pixels[top : top + CROP, left : left + CROP] for top, left in most_and_least(saliency)]
        enlarged = [crop.repeat(SCALE, 0).repeat(SCALE, 1) for crop in crops]
        columns.append(titled(np.concatenate(enlarged), title))
    below = np.concatenate(columns, axis=1)
    shade = (image * (0.25 + 0.75 * saliency[..., None])).round().astype(np.uint8)
    scale = below.shape[0] / (image.shape[0] + TITLE) / 2  # small: the file is for a look
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    beside = titled(np.asarray(Image.fromarray(shade).resize(size, Image.Resampling.BOX)), "the map")
    beside = np.pad(beside, ((0, below.shape[0] - beside.shape[0]), (0, 0), (0, 0)), constant_values=255)
    write_image(_OUTPUT.value, np.concatenate([beside, below], axis=1), force=True)


if __name__ == "__main__":
    app.run(main)
