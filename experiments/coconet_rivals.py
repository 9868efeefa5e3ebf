"""Classical rivals of CocoNet, each with the parameters that `compare_coconet.py` chooses among on tuning pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.restoration import denoise_bilateral, denoise_nl_means, inpaint_biharmonic

Filter = Callable[[np.ndarray], np.ndarray]


def to_levels(picture: np.ndarray) -> np.ndarray:
    """Round a picture of 0..1 to uint8."""
    return np.clip(np.rint(255.0 * picture), 0, 255).astype(np.uint8)


def gaussian(image: np.ndarray, *, sigma: float) -> np.ndarray:
    """A Gaussian of `sigma` pixels."""
    return to_levels(ndimage.gaussian_filter(image / 255.0, (sigma, sigma, 0)))


def median(image: np.ndarray, *, size: int) -> np.ndarray:
    """The median of each channel in a square; 0 is the 5 pixels of a cross."""
    if size:
        return ndimage.median_filter(image, size=(size, size, 1))
    return ndimage.median_filter(image, footprint=ndimage.generate_binary_structure(2, 1)[..., None])


def bilateral(image: np.ndarray, *, colour: float, spatial: float) -> np.ndarray:
    """scikit-image's, `colour` in levels and `spatial` in pixels."""
    settings = {"sigma_color": colour / 255.0, "sigma_spatial": spatial}
    # Not its default, zeros around the picture, which darken the border.
    return to_levels(denoise_bilateral(image / 255.0, mode="symmetric", channel_axis=-1, **settings))


def nlm(image: np.ndarray, *, strength: float, patch: int, sigma: float) -> np.ndarray:
    """Non-local means, scikit-image's slow mode, in a window of 13 x 13, told the noise's `sigma` (of 255)."""
    sigma = sigma / 255.0
    settings = {"h": strength * sigma, "sigma": sigma, "patch_size": patch, "patch_distance": 6}
    return to_levels(denoise_nl_means(image / 255.0, fast_mode=False, channel_axis=-1, **settings))


def denoisers(sigma: float) -> dict[str, list[tuple[dict[str, Any], Filter]]]:
    """Return for each filter the parameters to choose from for noise of `sigma`, and the filter with them."""
    grids: Mapping[str, tuple[Callable[..., np.ndarray], Sequence[dict[str, Any]]]] = {
        "Gaussian": (gaussian, [{"sigma": s / 20} for s in range(4, 33, 2)]),
        "median": (median, [{"size": size} for size in (0, 3, 5)]),
        "bilateral": (
            bilateral,
            [
                {"colour": c * sigma, "spatial": s}
                for c, s in product((1, 1.5, 2, 3, 4, 6), (0.6, 0.8, 1, 1.5, 2))
            ],
        ),
        "NLM": (
            partial(nlm, sigma=sigma),
            [{"strength": h, "patch": p} for h, p in product((0.3, 0.5, 0.7, 0.9, 1.2), (3, 5))],
        ),
    }
    return {
        name: [(parameters, partial(function, **parameters)) for parameters in grid]
        for name, (function, grid) in grids.items()
    }


RESAMPLERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "Lanczos": Image.Resampling.LANCZOS,
}


def enlarge(image: np.ndarray, factor: int, rival: str) -> np.ndarray:
    """Enlarge uint8 `[H, W, 3]` with Pillow, on the aligned grid."""
    size = image.shape[1] * factor, image.shape[0] * factor
    return np.asarray(Image.fromarray(image).resize(size, RESAMPLERS[rival]))


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of `factor` x `factor` pixels."""
    return np.asarray(Image.fromarray(image).reduce(factor))


def fill_mean(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill a hole with the mean of all other pixels."""
    result = image.copy()
    result[hole] = np.rint(image[~hole].mean(axis=0))
    return result


def fill_biharmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill a hole by the biharmonic equation, scikit-image's."""
    known = np.where(hole[..., None], 0, image) / 255.0
    return to_levels(inpaint_biharmonic(known, hole, channel_axis=-1))


FILLERS = {"mean": fill_mean, "biharmonic": fill_biharmonic}
