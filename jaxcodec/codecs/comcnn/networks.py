"""ComCNN and RecCNN over whole pictures: luma in, luma out, in windows of fixed shapes (`jaxcodec.codecs.tiling`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxcodec.codecs import tiling
from jaxcodec.codecs.comcnn.model import COMCNN_HALO, ComCNN, RecCNN, RecCnnConfig
from jaxcodec.ops.extent import Extent


@partial(jax.jit, static_argnames="channels")
def _compact(
    params: Any,
    pixels: jax.Array,
    origin: jax.Array,
    size: jax.Array,
    coarseness: jax.Array,
    *,
    channels: int,
) -> jax.Array:
    """Uint8 windows `[B, H, W, 1]` to corrections of the reduced picture, float32 in 8-bit levels."""
    known = jnp.broadcast_to(coarseness, pixels.shape[:1])
    with jax.default_matmul_precision("float32"):
        correction: Any = ComCNN(channels).apply(
            {"params": params}, pixels.astype(jnp.float32) / 255.0, known, Extent(origin, size)
        )
    return correction * 255.0


@partial(jax.jit, static_argnames="config")
def _restore(
    params: Any,
    pixels: jax.Array,
    origin: jax.Array,
    size: jax.Array,
    coarseness: jax.Array,
    *,
    config: RecCnnConfig,
) -> jax.Array:
    """Uint8 windows `[B, H, W, 1]` to restored uint8 ones."""
    known = jnp.broadcast_to(coarseness, pixels.shape[:1])
    u = pixels.astype(jnp.float32) / 255.0
    with jax.default_matmul_precision("float32"):
        error: Any = RecCNN(config).apply({"params": params}, u, known, Extent(origin, size))
    return jnp.round(jnp.clip(u - error, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def _windows_per_call() -> int:
    return 1 if jax.default_backend() == "cpu" else 8


@dataclass(frozen=True)
class Networks:
    """Trained networks, ready to run; `comcnn` may be None where only RecCNN is wanted."""

    reccnn_config: RecCnnConfig
    reccnn: Any
    compact_channels: int = 0
    comcnn: Any = None

    def compact(self, luma: np.ndarray, coarseness: int) -> np.ndarray:
        """Reduce uint8 `[H, W]` to uint8 `[ceil(H/2), ceil(W/2)]`, for a codec of this coarseness 0..255."""
        size = luma.shape[:2]
        half = (-(-size[0] // 2), -(-size[1] // 2))
        correction = np.empty((*half, 1), np.float32)
        tiling.run(
            partial(self._compact_windows, coarseness=np.float32(coarseness / 255.0)),
            [luma[:, :, None]],
            [correction],
            [size],
            shapes=tiling.WINDOW_SHAPES,
            halo=COMCNN_HALO,
            stride=2,
            input_stride=1,
            output_stride=2,
            batch_size=_windows_per_call(),
        )
        return np.clip(np.round(reduced(luma) + correction[:, :, 0]), 0, 255).astype(np.uint8)

    def restore(self, luma: np.ndarray, coarseness: int) -> np.ndarray:
        """Restore uint8 `[H, W]`, decoded by a codec of this coarseness 0..255 and enlarged where it was reduced."""
        size = luma.shape[:2]
        restored = np.empty((*size, 1), np.uint8)
        tiling.run(
            partial(self._restore_windows, coarseness=np.float32(coarseness / 255.0)),
            [luma[:, :, None]],
            [restored],
            [size],
            shapes=tiling.WINDOW_SHAPES,
            halo=self.reccnn_config.halo,
            stride=2,
            input_stride=1,
            output_stride=1,
            batch_size=_windows_per_call(),
        )
        return restored[:, :, 0]

    def _compact_windows(
        self, pixels: np.ndarray, origin: np.ndarray, size: np.ndarray, *, coarseness: np.float32
    ) -> jax.Array:
        return _compact(self.comcnn, pixels, origin, size, coarseness, channels=self.compact_channels)

    def _restore_windows(
        self, pixels: np.ndarray, origin: np.ndarray, size: np.ndarray, *, coarseness: np.float32
    ) -> jax.Array:
        return _restore(self.reccnn, pixels, origin, size, coarseness, config=self.reccnn_config)


def reduced(plane: np.ndarray) -> np.ndarray:
    """Bicubic, anti-aliased: `[H, W]` to float32 `[ceil(H/2), ceil(W/2)]`; a last odd sample is repeated."""
    height, width = plane.shape
    even = np.pad(plane.astype(np.float32), ((0, height % 2), (0, width % 2)), mode="edge")
    size = (even.shape[1] // 2, even.shape[0] // 2)
    return np.asarray(Image.fromarray(even).resize(size, Image.Resampling.BICUBIC))


def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic enlargement by 2 of uint8 `[ceil(H/2), ceil(W/2)]` to uint8 `[H, W]`, in integers by Pillow."""
    height, width = plane.shape
    doubled = Image.fromarray(plane).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    return np.asarray(doubled)[: size[0], : size[1]]
