r"""Compare the size of every file with the rate that the float model estimates; fails beyond 1 % + 24 bytes.

python scripts/check_estimated_rate.py --images=data/kodak --output=results/estimated_rate.json

The estimate is -log2 of the prior's likelihoods of the rounded latents, summed; the file adds the header, the
rounding of the tables to 16 bits, the tail that escapes and the range coder's end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from jaxcodec.codecs.balle2017.codec import load_balle2017
from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import load_weights

_IMAGES = flags.DEFINE_string("images", "data/kodak", "Folder of pictures.")
_OUTPUT = flags.DEFINE_string("output", None, "Also write the rows as JSON.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    pictures = {path.name: read_image(path).pixels for path in list_images(_IMAGES.value)}
    codec, rows, failed = load_balle2017(), [], 0
    for entry in manifest.current("balle2017"):
        weights = load_weights(entry.file)
        coder = TransformCoder(TransformConfig(**weights.config))

        @jax.jit
        def estimate(params: Any, y: jax.Array, coder: TransformCoder = coder) -> jax.Array:
            likelihoods: Any = coder.apply({"params": params}, y, method=lambda module, y: module.prior(y))
            return -jnp.log2(likelihoods).sum() / 8.0

        excess = []
        for name, pixels in pictures.items():
            data = codec.encode(pixels, quality=entry.quality)
            estimated = float(estimate(weights.params, codec.decode_latents(data).astype("float32")))
            failed += abs(len(data) - estimated) > 0.01 * estimated + 24
            excess.append(100.0 * (len(data) / estimated - 1.0))
            rows.append({"quality": entry.quality, "file": name, "bytes": len(data), "estimated": estimated})
        print(
            f"quality {entry.quality}: files are {min(excess):+.2f} % to {max(excess):+.2f} % of the estimate"
        )
    print(f"{failed} of {len(rows)} files beyond 1 % + 24 bytes")
    if _OUTPUT.value:
        write_bytes(_OUTPUT.value, json.dumps(rows, indent=1).encode(), force=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    app.run(main)
