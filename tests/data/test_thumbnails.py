"""Thumbnails: averages over areas, the whole photo first, every photo on its own."""

import numpy as np
import pytest

from jaxcodec.data.thumbnails import CROP_SIDES, make_thumbnails, reduce_area
from jaxcodec.errors import BadImage, BadOption


def photo(rng, height, width, channels=3):
    shape = (height, width, channels) if channels else (height, width)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def test_a_thumbnail_is_the_mean_over_areas(rng):
    pixels = photo(rng, 128, 96)
    means = pixels.reshape(32, 4, 32, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(reduce_area(pixels), means, atol=1.0)  # Pillow rounds rows, then columns


def test_a_part_is_reduced_as_if_it_were_cut_out(rng):
    pixels = photo(rng, 150, 170)
    np.testing.assert_array_equal(reduce_area(pixels, (7, 20, 71, 84)), reduce_area(pixels[20:84, 7:71]))


def test_the_first_thumbnail_is_the_whole_photo_and_the_others_are_parts_of_it(rng):
    pixels = photo(rng, 100, 70)
    pixels[..., 0] = np.arange(70)  # the column, so a part tells where it lies
    made = make_thumbnails([pixels], per_photo=20, seed=3, crop_sides=(32, 64))
    assert made.shape == (20, 32, 32, 3)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made[0], reduce_area(pixels))
    steps = np.diff(made[1:, 0, :, 0].astype(int), axis=1)
    assert {round(step) for step in steps.mean(axis=1)} == {1, 2}  # a part of 32 columns, or of 64


def test_a_photo_gives_the_same_thumbnails_in_any_company(rng):
    first, second, other = (photo(rng, 80, 90) for _ in range(3))
    made = make_thumbnails([first, second], per_photo=4, seed=1, crop_sides=(40,))
    again = make_thumbnails([other, second], per_photo=4, seed=1, crop_sides=(40,))
    np.testing.assert_array_equal(made[4:], again[4:])
    assert (made[:4] != again[:4]).any()
    assert (make_thumbnails([first], per_photo=4, seed=2, crop_sides=(40,))[1:] != made[1:4]).any()


def test_grey_is_repeated(rng):
    grey = photo(rng, 64, 64, 0)
    made = make_thumbnails([grey], per_photo=2, seed=0)
    np.testing.assert_array_equal(made[..., 0], made[..., 2])


def test_a_photo_smaller_than_every_crop_still_gives_thumbnails(rng):
    assert min(CROP_SIDES) > 40
    assert make_thumbnails([photo(rng, 40, 50)], per_photo=3, seed=0).shape == (3, 32, 32, 3)


def test_what_cannot_be_done_is_refused(rng):
    with pytest.raises(BadImage, match="no photos"):
        make_thumbnails([], per_photo=1, seed=0)
    with pytest.raises(BadImage, match="photo 1 is 20x40"):
        make_thumbnails([photo(rng, 40, 40), photo(rng, 40, 20)], per_photo=1, seed=0)
    with pytest.raises(BadOption, match="at least 32"):
        make_thumbnails([photo(rng, 40, 40)], per_photo=1, seed=0, crop_sides=(16,))
