from functools import partial

import jax
import numpy as np
import pytest

from jaxcodec.data.crops import random_crops, store_photos
from jaxcodec.errors import BadImage

SIZES = [(8, 8), (8, 23), (40, 9), (17, 30)]
CROP = 8


def labelled_photo(index, height, width):
    """A photo in which every pixel says where it is: (photo, row, column)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, index), rows, columns], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def photos():
    return [labelled_photo(index, *size) for index, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def crops(photos):
    """Some thousand crops, drawn inside jit from a store on the device."""
    store = jax.device_put(store_photos(photos, crop_size=CROP))
    draw = jax.jit(partial(random_crops, batch_size=4000, crop_size=CROP))
    return np.asarray(draw(store, key=jax.random.key(0)))


def test_every_crop_is_a_rectangle_of_one_photo_or_its_mirror_image(photos, crops):
    assert crops.shape == (4000, CROP, CROP, 3)
    assert crops.dtype == np.uint8
    for crop in crops:
        index, row = crop[0, 0, 0], crop[0, 0, 1]
        mirrored = crop[0, 0, 2] > crop[0, -1, 2]
        column = crop[0, -1, 2] if mirrored else crop[0, 0, 2]
        expected = photos[index][row : row + CROP, column : column + CROP]
        np.testing.assert_array_equal(crop, expected[:, ::-1] if mirrored else expected)


def test_all_photos_positions_and_both_mirror_images_are_drawn(crops):
    corners, mirrored = crops[:, 0].min(axis=1), crops[:, 0, 0, 2] > crops[:, 0, -1, 2]
    counts = np.bincount(corners[:, 0], minlength=len(SIZES))
    # 1,000 expected of each photo, standard deviation 27; 2,000 mirrored, standard deviation 32.
    assert (np.abs(counts - 1000) < 140).all()
    assert abs(int(mirrored.sum()) - 2000) < 160
    for index, (height, width) in enumerate(SIZES):
        of_photo = corners[corners[:, 0] == index]
        assert set(of_photo[:, 1]) == set(range(height - CROP + 1))
        assert set(of_photo[:, 2]) == set(range(width - CROP + 1))


def test_crops_follow_their_key(photos):
    store = store_photos(photos, crop_size=CROP)
    draw = jax.jit(partial(random_crops, store, batch_size=16, crop_size=CROP))
    first = draw(key=jax.random.key(1))
    np.testing.assert_array_equal(first, draw(key=jax.random.key(1)))
    assert (first != draw(key=jax.random.key(2))).any()


def test_grey_photos_are_repeated_over_the_channels():
    photo = np.arange(64, dtype=np.uint8).reshape(8, 8)
    store = store_photos([photo], crop_size=8)
    np.testing.assert_array_equal(store.pixels, np.repeat(photo.reshape(-1, 1), 3, axis=1))


@pytest.mark.parametrize("size", [(8, 7), (7, 8)])
def test_a_photo_smaller_than_the_crop_is_named(photos, size):
    with pytest.raises(BadImage, match=f"photo 4 is {size[1]}x{size[0]}, smaller than the crop of 8"):
        store_photos([*photos, labelled_photo(4, *size)], crop_size=8)


def test_an_empty_set_is_refused():
    with pytest.raises(BadImage, match="no training photos"):
        store_photos([], crop_size=8)


def test_crops_are_not_mirrored_when_told_so(photos):
    store = store_photos(photos, crop_size=CROP)
    drawn = random_crops(store, key=jax.random.key(0), batch_size=200, crop_size=CROP, flip=False)
    assert (np.diff(np.asarray(drawn)[:, 0, :, 2].astype(int), axis=1) == 1).all()


def test_shrinking_is_anti_aliased_and_stays_within_the_photo():
    # Of a checkerboard every shrunken crop is grey; of columns that rise, a crop still rises within their range.
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    ramp = np.broadcast_to(np.arange(64) * 3, (64, 64))
    for photo, spread in ((board, None), (ramp, 3 * 63)):
        store = store_photos([photo.astype(np.uint8)], crop_size=16)
        crops = np.asarray(
            random_crops(
                store, key=jax.random.key(0), batch_size=64, crop_size=16, min_scale=0.25, flip=False
            )
        ).astype(int)
        if spread is None:
            # Factors of 2 and more remove the finest pattern; a factor of 1 keeps it.
            deviation = crops[:, 2:-2, 2:-2].std(axis=(1, 2, 3))
            assert (deviation < 3).mean() > 0.4
            assert deviation.max() > 60
            np.testing.assert_allclose(crops[deviation < 3][:, 2:-2, 2:-2].mean(), 127.5, atol=1)
        else:
            slope = (crops[:, 8, -3, 0] - crops[:, 8, 2, 0]) / (11 * 3)
            assert slope.min() >= 0.95
            assert slope.max() > 2.5
            assert slope.max() < 4.05
            assert crops.max() <= spread
            assert crops[:, :, 0].min() < 10


def test_shrinking_never_makes_a_photo_smaller_than_the_crop():
    photo = np.broadcast_to(np.arange(20) * 10, (20, 20)).astype(np.uint8)
    store = store_photos([photo], crop_size=16)
    crops = np.asarray(
        random_crops(store, key=jax.random.key(0), batch_size=64, crop_size=16, min_scale=0.1, flip=False)
    ).astype(int)
    slope = (crops[:, 8, 12, 0] - crops[:, 8, 3, 0]) / 90
    assert slope.max() < 1.4  # 20 / 16 = 1.25


def test_crops_begin_on_the_grid_and_still_reach_the_photos_ends():
    # The value says where a pixel lies: rows in the first channel, columns in the second.
    row, column = np.mgrid[:13, :20].astype(np.uint8)
    store = store_photos([np.stack([row, column, row], axis=-1)], crop_size=6)
    crops = np.asarray(
        random_crops(store, key=jax.random.key(0), batch_size=400, crop_size=6, flip=False, grid=4)
    )
    assert set(crops[:, 0, 0, 0].tolist()) == {0, 4}
    assert set(crops[:, 0, 0, 1].tolist()) == {0, 4, 8, 12}
