r"""How near `--bpp` comes to its target on every picture of a folder, and how good the pictures are at that rate.

python scripts/check_rate_control.py --images=data/kodak --output=results/rate_control.txt
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import app, flags
from tqdm import tqdm

from jaxcodec.codecs.rate_control import TargetedFile, encode_to_bpp
from jaxcodec.codecs.registry import load
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.errors import BadOption
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.metrics.ssim import ms_ssim_uint8, ssim_uint8

_IMAGES = flags.DEFINE_string("images", "data/kodak", "Folder or glob of pictures.")
_CODECS = flags.DEFINE_list("codecs", ["balle2017", "theis2017", "jpeg"], "Codecs.")
_TARGETS = flags.DEFINE_list("bpp", ["0.25", "0.5", "1.0"], "Targets, in bits per pixel.")
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many pictures.")
_OUTPUT = flags.DEFINE_string("output", None, "The table, as text.", required=True)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    pictures = [(path.name, read_image(path).pixels) for path in list_images(_IMAGES.value)[: _LIMIT.value]]
    lines = [
        f"files for a target rate, {len(pictures)} pictures: how far below the target, in per cent, and files coded",
        f"{'codec':12}{'target':>8}{'mean':>8}{'worst':>8}  {'picture':14}{'encodings at most':>18}"
        f"{'out of reach':>14}{'mean bpp':>10}{'PSNR':>8}{'SSIM':>9}{'MS-SSIM':>9}",
    ]
    for name in _CODECS.value:
        codec = load(name)
        for target in map(float, _TARGETS.value):
            gaps: list[tuple[float, str]] = []
            measured: list[tuple[float, ...]] = []
            encodings, out_of_reach = 0, []
            for file, pixels in tqdm(pictures, desc=f"{name} {target:g}", disable=None):
                try:
                    found: TargetedFile = encode_to_bpp(codec, pixels, target)
                except BadOption:
                    out_of_reach.append(file)
                    continue
                gaps.append((100.0 * (1.0 - found.bpp / target), file))
                encodings = max(encodings, found.encodings)
                decoded = codec.decode(found.data)
                measures = (measure(pixels, decoded) for measure in (psnr_uint8, ssim_uint8, ms_ssim_uint8))
                measured.append((found.bpp, *measures))
            mean = sum(gap for gap, _ in gaps) / max(1, len(gaps))
            worst, where = max(gaps, default=(float("nan"), "-"))
            lines.append(
                f"{name:12}{target:8g}{mean:8.2f}{worst:8.2f}  {where:14}{encodings:18d}{len(out_of_reach):14d}"
                + "{:10.4f}{:8.2f}{:9.4f}{:9.4f}".format(*np.mean(measured or [[np.nan] * 4], axis=0))
                + (f"  ({', '.join(out_of_reach)})" if out_of_reach else "")
            )
    text = "\n".join(lines) + "\n"
    print(text, end="")
    write_bytes(_OUTPUT.value, text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
