"""The network of a transform coder, and its runs over whole pictures, window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from jaxcodec.codecs import tiling
from jaxcodec.codecs.checks import check_image
from jaxcodec.coding.container import DEFAULT_LIMITS, Limits
from jaxcodec.errors import BadOption

_LEAST_WINDOW = 96
"""Two halos of 40 and two latents between them."""

Windows = Callable[[np.ndarray, np.ndarray, np.ndarray], jax.Array]
"""`(windows [B, h, w, C], origin int32 [B, 2], size int32 [B, 2]) -> [B, h', w', C']`, as in `tiling.run`."""


@dataclass(frozen=True)
class TransformOptions:
    """How a transform coder runs; a decoder needs to know none of it.

    Attributes
    ----------
    window_shapes
        Heights and widths of the windows, multiples of 16.
    window_batch
        Windows per call of the network; None for 1 on a CPU and 8 on an accelerator.
    limits
        What a decoder refuses.
    """

    window_shapes: tuple[tuple[int, int], ...] = tiling.WINDOW_SHAPES
    window_batch: int | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        for shape in self.window_shapes:
            if any(side % 16 or side < _LEAST_WINDOW for side in shape):
                raise BadOption(f"window {shape}: sides must be multiples of 16, at least {_LEAST_WINDOW}")
        if not self.window_shapes or (self.window_batch is not None and self.window_batch < 1):
            raise BadOption("at least one window shape is needed, and a window_batch of at least 1")


@dataclass(frozen=True)
class Network:
    """A trained network, ready to run.

    Attributes
    ----------
    stride, halo
        Pixels per latent, and of context that a latent or a decoded pixel needs on each side.
    channels
        Of the latents.
    analyse
        uint8 windows to float32 latents.
    synthesise
        float32 windows of latents to uint8 pixels.
    mirrored
        Pixels before and after a picture that analysis wants beside it, mirrored.
    """

    stride: int
    halo: int
    channels: int
    analyse: Windows
    synthesise: Windows
    mirrored: tuple[int, int] = (0, 0)


def analyse(network: Network, images: Sequence[np.ndarray], options: TransformOptions) -> list[np.ndarray]:
    """Latents of pictures, before any step: float32 `[ceil(H/s), ceil(W/s), M]` each.

    Raises
    ------
    BadImage, TooLarge
        If one is no picture, or larger than the limits of the options.
    """
    pixels, sizes = [], []
    for image in images:
        array = check_image(image, options.limits)
        height, width = array.shape[:2]
        colour = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
        pixels.append(_mirror(colour, network))
        sizes.append((height, width))
    outputs = [
        np.empty((-(-h // network.stride), -(-w // network.stride), network.channels), np.float32)
        for h, w in sizes
    ]
    tiling.run(
        network.analyse,
        pixels,
        outputs,
        sizes,
        shapes=options.window_shapes,
        halo=network.halo,
        stride=network.stride,
        input_stride=1,
        output_stride=network.stride,
        batch_size=_window_batch(options),
        input_margin=sum(network.mirrored),
    )
    return outputs


def synthesise(
    network: Network,
    latents: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    options: TransformOptions,
) -> list[np.ndarray]:
    """Pictures, uint8 `[H, W, 3]` of these sizes, from float32 latents `[ceil(H/s), ceil(W/s), M]`."""
    outputs = [np.empty((height, width, 3), np.uint8) for height, width in sizes]
    tiling.run(
        network.synthesise,
        latents,
        outputs,
        sizes,
        shapes=options.window_shapes,
        halo=network.halo,
        stride=network.stride,
        input_stride=network.stride,
        output_stride=1,
        batch_size=_window_batch(options),
    )
    return outputs


def _mirror(pixels: np.ndarray, network: Network) -> np.ndarray:
    """Extend `[H, W, 3]` to whole latents and by `network.mirrored`, or leave it as it is without the latter."""
    before, after = network.mirrored
    if not before and not after:
        return pixels
    sides = [(before, after - side % -network.stride) for side in pixels.shape[:2]]
    return np.pad(pixels, (*sides, (0, 0)), mode="symmetric")


def _window_batch(options: TransformOptions) -> int:
    return options.window_batch or (1 if jax.default_backend() == "cpu" else 8)
