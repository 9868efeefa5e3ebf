"""Random crops from photos that lie on the device: no input pipeline at all, for sets of up to some GB."""

from __future__ import annotations

from collections.abc import Sequence
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


def random_crops(store: PhotoStore, *, key: jax.Array, batch_size: int, crop_size: int) -> jax.Array:
    """Draw uint8 `[B, S, S, 3]`: uniform over photos and positions, half of them mirrored; traceable."""
    keys = jax.random.split(key, 4)
    n = store.start.shape[0]
    photo = jax.random.randint(keys[0], (batch_size,), 0, n)
    height, width = jnp.take(store.height, photo), jnp.take(store.width, photo)
    row = jax.random.randint(keys[1], (batch_size,), 0, height - crop_size + 1)
    column = jax.random.randint(keys[2], (batch_size,), 0, width - crop_size + 1)
    mirrored = jax.random.bernoulli(keys[3], 0.5, (batch_size,))
    ramp = jnp.arange(crop_size)
    columns = jnp.where(mirrored[:, None], crop_size - 1 - ramp[None], ramp[None]) + column[:, None]
    rows = row[:, None] + ramp[None]
    index = (
        jnp.take(store.start, photo)[:, None, None]
        + rows[:, :, None] * width[:, None, None]
        + columns[:, None, :]
    )
    return jnp.take(jnp.asarray(store.pixels), index, axis=0)
