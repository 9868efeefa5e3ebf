r"""Starting the compressive autoencoder from principal components instead of from noise.

As in `jaxcodec.codecs.balle2017.initialise`: stage by stage the blocks of 2 x 2 positions are rotated to their
principal components, of which the strongest are kept, so that analysis begins as an orthonormal transform times
g, and synthesis as its inverse. What is particular here:

- Leaky rectifiers stand between the stages. A component c travels as the pair leaky(c), leaky(-c), whose
  difference is (1 + leak) c: linear to begin with, until training finds something better.
- The residual branches begin near zero.
- Of the C latents g is common, and each rate has its scales: with distortion 1/12 per squared step, the
  balance of rate and distortion is at (g scale)^2 = lambda 255^2 / 3 deviation^2 ln 2 / 6, deviation being what
  pixels are divided by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcodec.codecs.balle2017.initialise import blocks_of
from jaxcodec.codecs.theis2017.model import LEAK, PIXEL_DEVIATION, PIXEL_MEAN, AutoencoderConfig

_NOISE = 0.003
"""What is kept of the random values where structure is written."""

_BRANCH = 0.03
"""What is kept of the last layer of each residual branch."""

_COMPONENTS = (0.05, 4.0)
"""Deviations of each mixture's components, as multiples of the channel's own, spread geometrically."""

_LEAST_SPREAD = 0.3
"""Weaker components are not scaled up to 1: their kernels would be large, and training unstable."""


def latent_gain(weight: float) -> float:
    """`g scale` for a loss of bits per pixel + `weight` * 255^2 * MSE."""
    return math.sqrt(weight * 255.0**2 / 3.0 * PIXEL_DEVIATION**2 * math.log(2.0) / 6.0)


def initial_log_scales(lambdas: tuple[float, ...], channels: int) -> np.ndarray:
    """Scales `[R, C]` in the proportion of the square roots of the lambdas, their geometric mean 1."""
    logarithms = 0.5 * np.log(np.asarray(lambdas))
    return np.repeat((logarithms - logarithms.mean())[:, None], channels, axis=1).astype(np.float32)


def from_principal_components(
    params: Mapping[str, Any], crops: np.ndarray, config: AutoencoderConfig
) -> dict[str, Any]:
    """Write the cascade of principal components into freshly initialised parameters.

    Parameters
    ----------
    params
        Random parameters of `Autoencoder(config)`.
    crops
        uint8 `[n, S, S, 3]` training crops, S a multiple of 8; some dozens of 128x128 are plenty.
    config
        The network.
    """
    new = {part: _copy(params[part]) for part in ("analysis", "synthesis")}
    for part in new.values():
        for name in [name for name in part if name.startswith("block")]:
            part[name]["convolution_1"]["kernel"] *= _BRANCH
    gain = latent_gain(math.exp(float(np.mean(np.log(config.lambdas)))))
    values = (crops.astype(np.float64) / 255.0 - np.array(PIXEL_MEAN)) / PIXEL_DEVIATION
    # Where the layer's 2x2 block lies among its 5x5 taps: the layers at 1/2 and 1/4 begin 4 positions and 1
    # position before the picture.
    kept = (min(12, config.channels // 4), config.channels // 2, config.latent_channels)
    scale = spread = np.ones(values.shape[-1])
    for i, (most, at) in enumerate(zip(kept, (2, 2, 1), strict=True)):
        blocks = blocks_of(values, 2)
        flat = blocks.reshape(-1, blocks.shape[-1])
        vectors = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :most]
        components = blocks @ vectors
        last = i == 2
        spread = np.sqrt(np.mean(np.square(components), axis=(0, 1, 2)))
        now = np.full(spread.shape, 1.0 / gain) if last else np.maximum(spread, _LEAST_SPREAD)
        rotation = vectors.reshape(2, 2, values.shape[-1], -1)
        forward = rotation * scale[:, None] / now
        backward = (rotation / scale[:, None] * now).transpose(3, 0, 1, 2)
        if i > 0:  # what comes in is in pairs
            forward = np.concatenate([forward, -forward], axis=2) / (1.0 + LEAK)
        if not last:
            forward = np.concatenate([forward, -forward], axis=3)
        _write(new["analysis"][f"convolution_{i}"]["kernel"], forward, at)
        # Synthesis in reverse: upsampling_0 undoes the last stage. Only the layer at 1/2 is rectified.
        if i == 1:
            backward = np.concatenate([backward, -backward], axis=3)
        if i == 0:
            backward = np.concatenate([backward, -backward], axis=0) / (1.0 + LEAK)
        _write_upsampling(new["synthesis"][f"upsampling_{2 - i}"]["convolution"]["kernel"], backward)
        values, scale = components, now
    log_scales = initial_log_scales(config.lambdas, config.latent_channels)
    deviation = np.full(config.latent_channels, spread.min() * gain)
    deviation[: len(spread)] = spread * gain
    return {
        **params,
        **new,
        "log_scales": log_scales,
        "prior": {
            **params["prior"],
            "log_precisions": _log_precisions(deviation * np.exp(log_scales), config.scales),
        },
    }


def _log_precisions(deviation: np.ndarray, components: int) -> np.ndarray:
    """Mixtures `[R, C, S]` about as wide as scaled latents of a `deviation` `[R, C]`, under uniform noise."""
    multiples = np.geomspace(*_COMPONENTS, components)
    return -np.log(np.square(deviation[..., None] * multiples) + 1.0 / 12.0).astype(np.float32)


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _copy(value) if isinstance(value, Mapping) else np.array(value) for name, value in tree.items()
    }


def _write(kernel: np.ndarray, block: np.ndarray, at: int) -> None:
    """Add `[2, 2, inputs, outputs]` at taps `at, at + 1` of the first channels, whose random values are damped."""
    inputs, outputs = block.shape[2:]
    kernel[..., :outputs] *= _NOISE
    kernel[at : at + 2, at : at + 2, :inputs, :outputs] += block


def _write_upsampling(kernel: np.ndarray, block: np.ndarray) -> None:
    """Add `[inputs, 2, 2, outputs]` at the middle tap of a sub-pixel layer."""
    inputs, _, _, outputs = block.shape
    phases = kernel.reshape(*kernel.shape[:3], 2, 2, -1)  # a view
    phases[..., :outputs] *= _NOISE
    phases[1, 1, :inputs, :, :, :outputs] += block
