"""Random crops from photos that lie on the device: no input pipeline at all, for sets of up to some GB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.errors import BadImage, TooLarge


class PhotoStore(NamedTuple):
    """Photos of any sizes in one flat buffer.

    Attributes
    ----------
    pixels
        uint8 `[P, 3]`, all photos in raster order, one after the other.
    start, height, width
        int32 `[n]`: each photo's first pixel, and size.
    """

    pixels: jax.Array | np.ndarray
    start: jax.Array | np.ndarray
    height: jax.Array | np.ndarray
    width: jax.Array | np.ndarray


def centre_crops(photos: Sequence[np.ndarray], *, size: int) -> list[np.ndarray]:
    """The middle `[size, size, 3]` of each photo uint8 `[H, W, 3]` that is large enough.

    Raises
    ------
    BadImage
        If none is.
    """
    crops = []
    for photo in photos:
        top, left = ((extent - size) // 2 for extent in photo.shape[:2])
        if min(top, left) >= 0:
            crops.append(photo[top : top + size, left : left + size])
    if not crops:
        raise BadImage(f"no photo is as large as {size}x{size}")
    return crops


def store_photos(photos: Sequence[np.ndarray], *, crop_size: int) -> PhotoStore:
    """Pack uint8 photos `[H, W, 3]` or `[H, W]` (grey is repeated) for `random_crops`.

    Raises
    ------
    BadImage
        If there is none, or one is smaller than the crop.
    TooLarge
        If the set has 2^31 pixels or more.
    """
    if not photos:
        raise BadImage("no training photos; give a folder or a glob that holds some")
    for index, photo in enumerate(photos):
        if min(photo.shape[:2]) < crop_size:
            raise BadImage(
                f"photo {index} is {photo.shape[1]}x{photo.shape[0]}, smaller than the crop of {crop_size}; "
                "remove it or choose a smaller --crop_size"
            )
    flat = [
        np.broadcast_to(p[..., None] if p.ndim == 2 else p, (*p.shape[:2], 3)).reshape(-1, 3) for p in photos
    ]
    sizes = np.array([len(p) for p in flat], np.int64)
    if sizes.sum() >= 2**31:
        raise TooLarge(f"the set has {sizes.sum()} pixels; a device-resident set holds fewer than 2^31")
    return PhotoStore(
        pixels=np.concatenate(flat),
        start=(np.cumsum(sizes) - sizes).astype(np.int32),
        height=np.array([p.shape[0] for p in photos], np.int32),
        width=np.array([p.shape[1] for p in photos], np.int32),
    )


def random_crops(
    store: PhotoStore,
    *,
    key: jax.Array,
    batch_size: int,
    crop_size: int,
    flip: bool = True,
    min_scale: float = 1.0,
    grid: int = 1,
) -> jax.Array:
    """Draw uint8 `[B, S, S, 3]`: uniform over photos and positions; traceable.

    Parameters
    ----------
    store
        See `store_photos`.
    key
        Of photos, positions, mirrors and scales.
    batch_size, crop_size
        B and S.
    flip
        Mirror half of the crops.
    min_scale
        Shrink by a factor drawn log-uniformly from `[min_scale, 1]`, but never so far that the photo would be
        smaller than the crop; anti-aliased.
    grid
        Rows and columns begin at multiples of this, in the photo before it is shrunk.
    """
    keys = jax.random.split(key, 5)
    n = store.start.shape[0]
    photo = jax.random.randint(keys[0], (batch_size,), 0, n)
    height, width = jnp.take(store.height, photo), jnp.take(store.width, photo)
    if min_scale == 1.0:
        crops = _windows(
            store, keys[1:3], photo, jnp.full((batch_size,), crop_size, jnp.int32), crop_size, grid
        )
    else:
        smallest = jnp.maximum(min_scale, crop_size / jnp.minimum(height, width))
        scale = smallest ** jax.random.uniform(keys[4], (batch_size,))
        side = jnp.minimum(jnp.round(crop_size / scale).astype(jnp.int32), jnp.minimum(height, width))
        windows = _windows(store, keys[1:3], photo, side, math.ceil(crop_size / min_scale), grid)
        crops = jax.vmap(partial(_shrink, crop_size=crop_size))(windows, side)
    if not flip:
        return crops
    mirrored = jax.random.bernoulli(keys[3], 0.5, (batch_size,))
    return jnp.where(mirrored[:, None, None, None], crops[:, :, ::-1], crops)


def _windows(
    store: PhotoStore, keys: jax.Array, photo: jax.Array, side: jax.Array, size: int, grid: int
) -> jax.Array:
    """Windows `[B, size, size, 3]` whose first `side` rows and columns lie at random within the photos."""
    height, width = jnp.take(store.height, photo), jnp.take(store.width, photo)
    row = grid * jax.random.randint(keys[0], side.shape, 0, (height - side) // grid + 1)
    column = grid * jax.random.randint(keys[1], side.shape, 0, (width - side) // grid + 1)
    ramp = jnp.arange(size)[None]
    # Beyond the photo's end (only where side < size) the last row and column are repeated.
    rows = jnp.minimum(row[:, None] + ramp, height[:, None] - 1)
    columns = jnp.minimum(column[:, None] + ramp, width[:, None] - 1)
    index = (
        jnp.take(store.start, photo)[:, None, None]
        + rows[:, :, None] * width[:, None, None]
        + columns[:, None, :]
    )
    return jnp.take(jnp.asarray(store.pixels), index, axis=0)


def _shrink(window: jax.Array, side: jax.Array, *, crop_size: int) -> jax.Array:
    """Resize the first `side` rows and columns of uint8 `[W, W, 3]` to `[S, S, 3]`, anti-aliased (cubic)."""
    scale = jnp.full((2,), crop_size, jnp.float32) / side
    shrunk = jax.image.scale_and_translate(
        window.astype(jnp.float32),
        (crop_size, crop_size, 3),
        (0, 1),
        scale,
        jnp.zeros((2,), jnp.float32),
        method="cubic",
        antialias=True,
    )
    return jnp.clip(jnp.round(shrunk), 0, 255).astype(jnp.uint8)
