"""What a network fitted to one picture is good for besides coding: denoising, enlarging, filling holes.

Nothing is learned from other pictures. The network learns what is smooth and large first; fitted for long enough it
holds the noise as well.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np

from jaxcodec.codecs.checks import check_image
from jaxcodec.codecs.coconet.fit import FitSettings, fit
from jaxcodec.codecs.coconet.grid import enlarged_size
from jaxcodec.codecs.coconet.model import NetworkConfig, Params, render
from jaxcodec.errors import BadImage, BadOption, TooLarge

STOP_SHARE = 1.0
"""Fitting to a noisy picture stops where the root mean square of what is left is this share of the noise's."""

MAX_PIXELS = 1 << 22

DENOISING = FitSettings(steps=3000, batch_size=1024, segment=50)
FITTING = FitSettings(steps=2000, batch_size=1024, cosine=True)


def estimate_noise(image: np.ndarray) -> float:
    """Return the standard deviation of white Gaussian noise in a picture, in levels of 0..255.

    `median |d| / 0.6745` over 2x2 blocks, channels alike, with d = (a - b - c + d) / 2: the median is
    little moved by edges, which fill few blocks, but fine texture counts as noise. 0 for pictures with a side of 1.

    Notes
    -----
    Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994, section 4.
    """
    x = check_image(image).astype(np.float64)
    height, width = (side // 2 * 2 for side in x.shape[:2])
    x = x[:height, :width]
    diagonal = (x[::2, ::2] - x[::2, 1::2] - x[1::2, ::2] + x[1::2, 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / 0.6745) if diagonal.size else 0.0


def check_sigma(sigma: float | None) -> None:
    """Raise `BadOption` if this is no standard deviation; None is an unknown one."""
    if sigma is not None and not (np.isfinite(sigma) and sigma >= 0):
        raise BadOption(f"sigma is a number of levels, 0 or more, not {sigma}")


def denoise(
    image: np.ndarray,
    *,
    sigma: float | None = None,
    share: float = STOP_SHARE,
    config: NetworkConfig | None = None,
    settings: FitSettings = DENOISING,
) -> np.ndarray:
    """Fit a network to a noisy picture, stop before it holds the noise, and return what it holds.

    Parameters
    ----------
    image
        uint8 `[H, W, 3]` or `[H, W]`.
    sigma
        Standard deviation of the noise, in levels of 0..255; estimated by default. With 0 there is no early stop.
    share
        The fit ends where the root mean squared difference from the noisy picture is at most `share * sigma`.
    config
        The network, by default the paper's; its channels are those of the picture.
    settings
        How it is fitted; `steps` at most, and the end is looked for after each segment.

    Returns
    -------
    np.ndarray
        uint8, of the picture's shape.

    Raises
    ------
    BadImage, BadOption, TooLarge
        If the picture or an option is not one that this takes.

    Notes
    -----
    Early stopping is Bricman's and Ionescu's (2018, section 4); when to stop without the clean picture is Morozov's
    discrepancy principle, a share of 1; experiments/compare_coconet.py chooses others on tuning pictures.
    """
    check_sigma(sigma)
    config, pixels = _prepared(image, config)
    height, width, channels = pixels.shape
    end = (estimate_noise(image) if sigma is None else sigma) * share

    def smooth_enough(steps: int, params: Params) -> bool:
        del steps
        held = render(_first(params), height, width, config).reshape(height, width, channels)
        difference = held.astype(np.float64) - pixels
        return float(np.sqrt(np.mean(difference**2))) <= end

    params = fit(pixels[None], config, settings, watch=smooth_enough if end > 0 else None)
    return render(_first(params), height, width, config)


def upsample(
    image: np.ndarray,
    factor: float,
    *,
    aligned: bool = True,
    config: NetworkConfig | None = None,
    settings: FitSettings = FITTING,
) -> np.ndarray:
    """Fit a network to a picture and ask it for a finer grid.

    Parameters
    ----------
    image
        uint8 `[H, W, 3]` or `[H, W]`.
    factor
        Above 0: pixels of the result per pixel, down and across; need not be whole.
    aligned
        False for the original's grid; see `jaxcodec.codecs.coconet.grid.coordinates`.
    config, settings
        As in `denoise`.

    Returns
    -------
    np.ndarray
        uint8 `[round(H factor), round(W factor)]`, with 3 channels if the picture has them.

    Raises
    ------
    BadImage, BadOption, TooLarge
        If the picture or an option is not one that this takes, or the result would be too large.
    """
    config, pixels = _prepared(image, config)
    height, width, _ = pixels.shape
    enlarged = enlarged_size(height, width, factor)
    if enlarged[0] * enlarged[1] > 4 * MAX_PIXELS:
        raise TooLarge(
            f"a result of {enlarged[1]} x {enlarged[0]} is over {4 * MAX_PIXELS} pixels; take a smaller factor"
        )
    params = fit(pixels[None], config, settings)
    return render(_first(params), height, width, config, factor=factor, aligned=aligned)


def complete(
    image: np.ndarray,
    hole: np.ndarray,
    *,
    config: NetworkConfig | None = None,
    settings: FitSettings = FITTING,
) -> np.ndarray:
    """Fit a network to the pixels around a hole and fill it with what the network has there.

    Parameters
    ----------
    image
        uint8 `[H, W, 3]` or `[H, W]`.
    hole
        bool `[H, W]`: the pixels to fill, not all of them. All others stay as they are.
    config, settings
        As in `denoise`.

    Returns
    -------
    np.ndarray
        uint8, of the picture's shape.

    Raises
    ------
    BadImage, BadOption, TooLarge
        If the picture, the hole or an option is not one that this takes.
    """
    config, pixels = _prepared(image, config)
    if hole.shape != pixels.shape[:2] or hole.dtype != np.bool_:
        raise BadImage(
            f"the mask of a hole is bool [H, W] of the picture's size, here {list(pixels.shape[:2])}, "
            f"not {hole.dtype} {list(hole.shape)}; scale the mask to that size"
        )
    params = fit(pixels[None], config, settings, known=~hole[None])
    filled = render(_first(params), pixels.shape[0], pixels.shape[1], config)
    result = image.copy()
    result[hole] = filled[hole]
    return result


def _prepared(image: np.ndarray, config: NetworkConfig | None) -> tuple[NetworkConfig, np.ndarray]:
    image = check_image(image)
    height, width = image.shape[:2]
    if height * width > MAX_PIXELS:
        raise TooLarge(
            f"a picture of {width} x {height} is over {MAX_PIXELS} pixels, far more than a small network can hold; "
            "scale it down or cut it into parts"
        )
    pixels = image.reshape(height, width, -1)
    return replace(config or NetworkConfig(), channels=pixels.shape[2]), pixels


def _first(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf[0], params)
