import io

import numpy as np
import pytest
from PIL import Image

from jaxcodec.data.tiles import grid_tiles, high_entropy_tiles
from jaxcodec.errors import BadImage


def test_tiles_are_whole_and_do_not_overlap():
    photo = np.arange(70 * 100 * 3, dtype=np.uint32).reshape(70, 100, 3)
    tiles = grid_tiles(photo, 32)
    assert len(tiles) == 2 * 3
    np.testing.assert_array_equal(tiles[4], photo[32:64, 32:64])
    assert len(np.unique(np.stack(tiles))) == 6 * 32 * 32 * 3


def test_the_tiles_that_png_compresses_worst_are_chosen_from_each_photo():
    rng = np.random.default_rng(0)
    photos = []
    for seed in range(2):
        # Noise of a strength that differs from tile to tile.
        strength = np.repeat(
            np.repeat(np.random.default_rng(seed).permutation(16).reshape(4, 4), 32, 0), 32, 1
        )
        noise = rng.uniform(-1, 1, (128, 128, 3)) * strength[..., None]
        photos.append((128 + 5 * noise).astype(np.uint8))
    chosen = high_entropy_tiles(photos, size=32, per_photo=5)
    assert len(chosen) == 10

    def length(tile):
        file = io.BytesIO()
        Image.fromarray(tile).save(file, "PNG")
        return len(file.getvalue())

    for photo, mine in zip(photos, (chosen[:5], chosen[5:]), strict=True):
        lengths = sorted(length(tile) for tile in grid_tiles(photo, 32))
        assert sorted(length(tile) for tile in mine) == lengths[-5:]


def test_photos_without_a_tile_are_refused():
    with pytest.raises(BadImage, match="--crop_size"):
        high_entropy_tiles([np.zeros((40, 20, 3), np.uint8)], size=32)
