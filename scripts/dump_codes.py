r"""Write the bits that a recurrent codec makes of photos, for experiments/binary_rnn.py to train on.

python scripts/dump_codes.py --weights=weights/FILE.safetensors --images=PHOTOS --output=codes.npz

From the middle of each photo a square of `--crop` pixels is coded with all iterations. The entropy coder has to be
trained on codes of the very weights that it will ship with: export those first, without a coder.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from tqdm import tqdm

from jaxcodec.codecs.toderici2017 import load_toderici2017
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image

_WEIGHTS = flags.DEFINE_string("weights", None, "Weight file of toderici2017.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Folder or glob of photos.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The .npz file; packed bits uint8 [n, T, h, w, D / 8].", required=True
)
_CROP = flags.DEFINE_integer(
    "crop", 256, "Pixels per side of what is coded, a multiple of 16.", lower_bound=16
)
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many photos.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    if _CROP.value % 16:
        raise app.UsageError(f"--crop={_CROP.value} is not a multiple of 16")
    codec, packed = load_toderici2017(_WEIGHTS.value), []
    for path in tqdm(list_images(_IMAGES.value)[: _LIMIT.value], disable=None, unit="photo"):
        image = read_image(path).pixels
        top, left = ((extent - _CROP.value) // 2 for extent in image.shape[:2])
        if min(top, left) < 0:
            continue
        part = image[top : top + _CROP.value, left : left + _CROP.value]
        (codes,) = codec.codes(part, quality=codec.qualities[-1])
        packed.append(np.packbits(codes, axis=-1))
    if not packed:
        raise app.UsageError(f"no photo of {_IMAGES.value} is as large as --crop={_CROP.value}")
    buffer = io.BytesIO()
    np.savez(buffer, codes=np.stack(packed))
    write_bytes(_OUTPUT.value, buffer.getvalue(), force=True)
    print(f"{_OUTPUT.value}: {len(packed)} photos")


if __name__ == "__main__":
    app.run(main)
