"""Thumbnails of 32 x 32 pixels from photos, by averaging over areas: whole photos and square parts of them.

A photo's thumbnails share its content, so training and test sets are split by photo, never by thumbnail: make each
from photos of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxcodec.errors import BadImage, BadOption

SIDE = 32
"""Pixels per side of a thumbnail."""

CROP_SIDES = (64, 96, 128, 192, 256, 384, 512)
"""Sides of the square parts, in pixels; the whole photo is one more thumbnail."""


def reduce_area(photo: np.ndarray, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Average the photo, or `box` = (left, top, right, bottom) of it, down to uint8 `[32, 32, 3]`.

    The sides are reduced independently, so a part that is not square is distorted, as in Toderici et al. (ICLR
    2016). Where a side is no multiple of 32 a pixel counts for the thumbnail's pixel that holds its centre.
    """
    return np.asarray(Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.BOX, box=box))


def make_thumbnails(
    photos: Sequence[np.ndarray],
    *,
    per_photo: int,
    seed: int,
    crop_sides: Sequence[int] = CROP_SIDES,
) -> np.ndarray:
    """Thumbnails of every photo: the whole, then square parts of random sides at random places.

    Parameters
    ----------
    photos
        uint8 `[H, W, 3]` or `[H, W]` (grey is repeated), at least 32 pixels a side.
    per_photo
        How many of each; the first is the whole photo.
    seed
        With the photo's number it decides where the parts lie, so a photo's thumbnails do not depend on the others
        before it.
    crop_sides
        Sides to choose from, equally likely; those that exceed a photo are left out for it.

    Returns
    -------
    np.ndarray
        uint8 `[per_photo * n, 32, 32, 3]`, photo by photo.

    Raises
    ------
    BadImage
        If there is no photo, or one is smaller than a thumbnail.
    BadOption
        If `per_photo` is below 1 or a crop's side below 32.
    """
    if not photos:
        raise BadImage("no photos to make thumbnails of; give a folder or a glob that holds some")
    if per_photo < 1 or not crop_sides or min(crop_sides) < SIDE:
        raise BadOption(f"thumbnails need at least 1 per photo and crops of at least {SIDE} pixels")
    made = np.empty((len(photos), per_photo, SIDE, SIDE, 3), np.uint8)
    for number, photo in enumerate(photos):
        height, width = photo.shape[:2]
        if min(height, width) < SIDE:
            raise BadImage(f"photo {number} is {width}x{height}, smaller than a thumbnail; remove it")
        colour = photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, axis=2)
        rng = np.random.default_rng([seed, number])
        fitting = [side for side in crop_sides if side <= min(height, width)] or [SIDE]
        made[number, 0] = reduce_area(colour)
        for index in range(1, per_photo):
            side = int(rng.choice(fitting))
            left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
            made[number, index] = reduce_area(colour, (left, top, left + side, top + side))
    return made.reshape(-1, SIDE, SIDE, 3)
