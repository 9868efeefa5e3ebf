"""Rivals of the MS-ROI maps: a plain classifier's class activation maps, spectral residual, noise, fixations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxcodec.codecs.msroi.jpeg import resize_map
from jaxcodec.codecs.msroi.model import normalise
from jaxcodec.layers.efficientnet_lite import EfficientNetLite0
from jaxcodec.zoo.weights import load_weights

FIXATION_BLUR = 0.03
"""Standard deviation of the blur of fixations, as a share of the width; that of the data's density maps."""


class Classifier:
    """The ImageNet classifier that the trunk comes from, with its class activation maps (Zhou et al., CVPR 2016)."""

    def __init__(self, path: str | Path) -> None:
        self._params = load_weights(path).params
        self._features: Any = jax.jit(
            lambda pixels: EfficientNetLite0("features").apply({"params": self._params}, pixels)
        )

    def class_maps(self, image: np.ndarray) -> np.ndarray:
        """Return a map of each class, float32 `[ceil(H/32), ceil(W/32), 1000]`; means plus bias are the logits."""
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % 128), (0, -width % 128), (0, 0)), mode="edge")
        features = np.asarray(self._features(jnp.asarray(padded[None])))[0]
        features = features[: -(-height // 32), : -(-width // 32)]
        # The bias is spread over the places: means, and so the order of the classes, are those of the logits.
        return features @ self._params["classifier"]["kernel"] + self._params["classifier"]["bias"]


def spectral_residual(image: np.ndarray) -> np.ndarray:
    """Return the spectral residual saliency of Hou and Zhang, CVPR 2007, float32 `[h, w]` in [0, 1], h, w about 64."""
    grey = Image.fromarray(image).convert("L")
    scale = 64 / max(grey.size)
    size = (max(8, round(grey.width * scale)), max(8, round(grey.height * scale)))
    spectrum = np.fft.fft2(np.asarray(grey.resize(size, Image.Resampling.BOX), np.float64))
    amplitude = np.log(np.abs(spectrum) + 1e-9)
    padded = np.pad(amplitude, 1, mode="wrap")
    mean = (
        sum(
            padded[i : i + amplitude.shape[0], j : j + amplitude.shape[1]] for i in range(3) for j in range(3)
        )
        / 9
    )
    residual = np.abs(np.fft.ifft2(np.exp(amplitude - mean + 1j * np.angle(spectrum)))) ** 2
    return normalise(blurred(residual, 2.5))


def noise_map(rows: int, columns: int, *, seed: int) -> np.ndarray:
    """Return smooth noise, float32 `[rows, columns]` in [0, 1], with blobs as large as those of a class map."""
    coarse = np.random.default_rng(seed).random((-(-rows // 4) + 1, -(-columns // 4) + 1))
    return normalise(resize_map(coarse, rows, columns))


def gaussian_blur(shape: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """Return the density `[H, W]` of points (x, y) in pixels, largest value 1."""
    density = np.zeros(shape)
    columns = np.clip(points[:, 0].astype(int), 0, shape[1] - 1)
    rows = np.clip(points[:, 1].astype(int), 0, shape[0] - 1)
    np.add.at(density, (rows, columns), 1.0)
    return normalise(blurred(density, FIXATION_BLUR * shape[1]))


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return `[H, W]` under a Gaussian of that standard deviation, zero outside."""
    reach = max(1, round(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):  # rows, then columns
        padded = np.pad(values, ((reach, reach), (0, 0)))
        values = np.sum([k * padded[i : i + len(values)] for i, k in enumerate(kernel)], axis=0).T
    return values
