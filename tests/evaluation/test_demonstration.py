"""The demonstration: JPEG gets no fewer bytes, and the picture shows what was decoded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcodec.codecs.registry import load
from jaxcodec.evaluation.demonstration import code, quality_of_size, side_by_side, spread

KODIM = Path(__file__).resolve().parents[2] / "data" / "kodak" / "kodim21.png"


@pytest.fixture(scope="module")
def photo():
    with Image.open(KODIM) as picture:
        return np.asarray(picture)[150:326, 200:392].copy()


@pytest.mark.parametrize("size", [0, 2000, 5000, 20000, 10**6])
def test_jpeg_gets_at_least_the_bytes_and_not_a_quality_more(size, photo):
    jpeg = load("jpeg")
    sizes = {quality: len(jpeg.encode(photo, quality=quality)) for quality in jpeg.qualities}
    enough = [quality for quality, length in sizes.items() if length >= size]
    assert quality_of_size(jpeg, photo, size) == (enough[0] if enough else 100)


def test_qualities_are_spread_from_the_first_to_the_last():
    assert spread((1, 2, 3, 4, 5, 6, 7), 4) == [1, 3, 5, 7]
    assert spread((1, 2), 4) == [1, 2]
    assert spread((7,), 4) == [7]


def test_the_part_shows_every_decoded_pixel_four_times(photo):
    contenders = [code(load("webp"), photo, 5), code(load("jpeg"), photo, 5)]
    picture = side_by_side(photo, contenders, crop=(10, 20, 74, 68))
    assert picture.dtype == np.uint8
    for column, pixels in enumerate([photo, *(coded.decoded for coded in contenders)]):
        part = pixels[20:68, 10:74].repeat(2, axis=0).repeat(2, axis=1)
        left = 12 + column * (128 + 12)
        np.testing.assert_array_equal(picture[-108:-12, left : left + 128], part)
