"""Pictures for the tests of reading them."""

import io

import numpy as np
from PIL import Image


def photo(height=24, width=36, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([90 + 60 * np.sin(x / 9), 120 + 50 * np.cos(y / 7), 100 + 2 * x - y], axis=-1)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def saved(picture, file_format="PNG", **arguments):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **arguments)
    return buffer.getvalue()
