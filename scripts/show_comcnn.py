r"""Show JPEG, JPEG restored by RecCNN, and ComCNN + JPEG + RecCNN at no more bytes, on parts of grey pictures.

python scripts/show_comcnn.py --images=CLASSIC/grey/house.png,CLASSIC/grey/lena.png --output=results/comcnn.png

A row per picture: the original and the three, each of the part of `--crop` pixels in the middle, enlarged; above each
its bytes and the PSNR of the whole picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw

from jaxcodec.codecs import classical
from jaxcodec.codecs.comcnn import load_comcnn, load_restorer
from jaxcodec.codecs.rate_control import encode_to_bpp
from jaxcodec.data.images import read_image, write_image
from jaxcodec.metrics.psnr import psnr_uint8

SCALE, TITLE = 2, 16

_IMAGES = flags.DEFINE_list("images", None, "The pictures.", required=True)
_QUALITY = flags.DEFINE_integer("quality", 5, "Of the JPEG.", lower_bound=1, upper_bound=100)
_CROP = flags.DEFINE_integer("crop", 128, "Pixels a side.", lower_bound=16)
_WEIGHTS = flags.DEFINE_string("weights", None, "Of comcnn; the zoo's if not given.")
_RESTORER = flags.DEFINE_string("restorer_weights", None, "Of the restorer; the zoo's if not given.")
_OUTPUT = flags.DEFINE_string("output", None, "The picture to write.", required=True)


def titled(pixels: np.ndarray, title: str) -> np.ndarray:
    """Return the middle of a grey picture, enlarged, with a line of text above it."""
    top, left = ((side - _CROP.value) // 2 for side in pixels.shape)
    part = pixels[top : top + _CROP.value, left : left + _CROP.value].repeat(SCALE, 0).repeat(SCALE, 1)
    picture = Image.new("L", (part.shape[1], part.shape[0] + TITLE), "white")
    picture.paste(Image.fromarray(part), (0, TITLE))
    ImageDraw.Draw(picture).text((2, 2), title, fill="black")
    return np.asarray(picture)


def row(image: np.ndarray) -> np.ndarray:
    """Return the four parts of one picture, side by side."""
    codec, restorer, plain = load_comcnn(_WEIGHTS.value), load_restorer(_RESTORER.value), classical.jpeg()
    data = plain.encode(image, quality=_QUALITY.value)
    ours = encode_to_bpp(codec, image, 8 * len(data) / image.size)
    shown = {
        "JPEG": (len(data), plain.decode(data)),
        "JPEG + RecCNN": (len(data), restorer.restore(data).pixels),
        "ComCNN + JPEG + RecCNN": (len(ours.data), codec.decode(ours.data)),
    }
    parts = [titled(image, "original")]
    for name, (size, pixels) in shown.items():
        parts.append(titled(pixels, f"{name}, {size} B, {psnr_uint8(image, pixels):.2f} dB"))
    return np.concatenate(parts, axis=1)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    pictures = [np.asarray(Image.fromarray(read_image(path).pixels).convert("L")) for path in _IMAGES.value]
    write_image(_OUTPUT.value, np.concatenate([row(image) for image in pictures]), force=True)


if __name__ == "__main__":
    app.run(main)
