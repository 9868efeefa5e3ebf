r"""Encode and decode a large photo and report the peak memory; fails above a limit.

    python scripts/check_large_photo.py --weights=FILE

takes a mirrored Kodak picture of 6000x4000. Without --weights, a network with random weights of the usual
size is used: memory depends on the channels only.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from PIL import Image

from jaxcodec.codecs.balle2017.codec import TransformCodec
from jaxcodec.codecs.balle2017.export import export
from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.zoo.weights import load_weights

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Weight file of balle2017 or bmshj2018; random weights if not given."
)
_CHANNELS = flags.DEFINE_integer("channels", 192, "N = M of the random network.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 6000, "Pixels.", lower_bound=1)
_HEIGHT = flags.DEFINE_integer("height", 4000, "Pixels.", lower_bound=1)
_PHOTO = flags.DEFINE_string("photo", "data/kodak/kodim20.png", "Mirrored on until it is large enough.")
_LIMIT = flags.DEFINE_float("limit_gib", 4.0, "Fail above this peak.")


def peak_gib() -> float:
    """Return the peak resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def large_photo(height: int, width: int) -> np.ndarray:
    """Return the photo, mirrored at its edges as often as needed, uint8 `[height, width, 3]`."""
    with Image.open(_PHOTO.value) as picture:
        part = np.asarray(picture.convert("RGB"))
    rows = [min(k, 2 * part.shape[0] - 1 - k) for k in np.arange(height) % (2 * part.shape[0])]
    columns = [min(k, 2 * part.shape[1] - 1 - k) for k in np.arange(width) % (2 * part.shape[1])]
    return part[rows][:, columns]


def random_weights(folder: Path) -> Path:
    """Write a weight file of an untrained network."""
    config = TransformConfig("bls2017", _CHANNELS.value, _CHANNELS.value)
    coder = TransformCoder(config)
    x = jnp.zeros((1, 64, 64, 3), jnp.float32)
    params: Any = coder.init(jax.random.key(0), x, quantise=jnp.round)["params"]
    return export(
        folder, codec="balle2017", quality=1, config=config, params=jax.tree.map(np.asarray, params)
    )


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    with tempfile.TemporaryDirectory() as folder:
        weights = load_weights(_WEIGHTS.value or random_weights(Path(folder)))
        codec = TransformCodec(weights.codec, {weights.quality: weights.path})
        image = large_photo(_HEIGHT.value, _WIDTH.value)
        start = time.monotonic()
        data = codec.encode(image)
        encoded, peak_encoding = time.monotonic(), peak_gib()
        decoded = codec.decode(data)
        seconds = time.monotonic() - encoded
    if decoded.shape != image.shape:
        raise SystemExit(f"decoded to {decoded.shape}, not {image.shape}")
    result = {
        "width": _WIDTH.value,
        "height": _HEIGHT.value,
        "network": weights.config,
        "device": jax.devices()[0].platform,
        "file_bytes": len(data),
        "encoding_seconds": round(encoded - start, 1),
        "decoding_seconds": round(seconds, 1),
        "peak_gib_after_encoding": round(peak_encoding, 2),
        "peak_gib": round(peak_gib(), 2),
    }
    print(json.dumps(result, indent=1))
    if result["peak_gib"] > _LIMIT.value:
        raise SystemExit(f"the peak of {result['peak_gib']} GiB is over --limit_gib={_LIMIT.value}")


if __name__ == "__main__":
    app.run(main)
