"""Small tiles of photos to train on, and the choice of those that are hardest to compress."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcodec.data.images import image_bytes
from jaxcodec.errors import BadImage


def grid_tiles(photo: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut uint8 `[H, W, 3]` into whole tiles `[size, size, 3]`, without overlap; a rest is left over."""
    height, width = photo.shape[:2]
    return [
        photo[row : row + size, column : column + size]
        for row in range(0, height - size + 1, size)
        for column in range(0, width - size + 1, size)
    ]


def high_entropy_tiles(
    photos: Sequence[np.ndarray], *, size: int = 32, per_photo: int = 100
) -> list[np.ndarray]:
    """Return from each photo the tiles that PNG compresses worst, at most `per_photo`, in their order.

    Toderici et al., CVPR 2017, section 4: the "high entropy" training set.

    Raises
    ------
    BadImage
        If no photo holds a tile.
    """
    chosen: list[np.ndarray] = []
    for photo in photos:
        tiles = grid_tiles(photo, size)
        lengths = [len(image_bytes(np.ascontiguousarray(tile))) for tile in tiles]
        worst = sorted(range(len(tiles)), key=lambda i: lengths[i], reverse=True)[:per_photo]
        chosen += [tiles[i] for i in sorted(worst)]
    if not chosen:
        raise BadImage(
            f"no photo is as large as a tile of {size}x{size}; give larger ones or lower --crop_size"
        )
    return chosen
