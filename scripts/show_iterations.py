r"""Draw what a progressive codec makes of pictures, iteration by iteration, with the rate and PSNR of each.

python scripts/show_iterations.py --weights=FILE.safetensors --images='data/kodak/kodim0[4-5].png' --output=figure.png
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw

from jaxcodec.codecs.base import ProgressiveCodec, first_iterations
from jaxcodec.codecs.registry import load
from jaxcodec.data.files import list_images
from jaxcodec.data.images import read_image, write_image
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.rate import bits_per_pixel
from jaxcodec.zoo.weights import load_weights

_WEIGHTS = flags.DEFINE_string("weights", None, "Weight file of a progressive codec.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Folder or glob; a row each.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The figure, .png or .webp.", required=True)
_CROP = flags.DEFINE_integer(
    "crop", 192, "Pixels per side of what is shown, from the middle.", lower_bound=16
)
_LABEL = 16


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    codec = load(load_weights(_WEIGHTS.value).codec, weights=_WEIGHTS.value)
    if not isinstance(codec, ProgressiveCodec):
        raise app.UsageError(f"{codec.name} is not progressive")
    rows = [_row(codec, read_image(path).pixels) for path in list_images(_IMAGES.value)]
    write_image(_OUTPUT.value, np.concatenate(rows), force=True)


def _row(codec: ProgressiveCodec, image: np.ndarray) -> np.ndarray:
    whole = codec.encode(image, quality=codec.qualities[-1])
    cells = [_cell(image, image, "original")]
    for k in map(int, codec.qualities):
        decoded = codec.decode_progressive(whole, iterations=k)
        rate = bits_per_pixel(len(first_iterations(whole, k)), *image.shape[:2])
        cells.append(_cell(decoded, image, f"{k}: {rate:.2f} bpp {psnr_uint8(image, decoded):.1f} dB"))
    return np.concatenate(cells, axis=1)


def _cell(shown: np.ndarray, original: np.ndarray, label: str) -> np.ndarray:
    size = min(_CROP.value, *original.shape[:2])
    top, left = ((extent - size) // 2 for extent in original.shape[:2])
    cell = Image.new("RGB", (size, size + _LABEL), "white")
    cell.paste(Image.fromarray(shown[top : top + size, left : left + size]).convert("RGB"), (0, _LABEL))
    ImageDraw.Draw(cell).text((2, 2), label, fill="black")
    return np.asarray(cell)


if __name__ == "__main__":
    app.run(main)
