r"""Starting a transform coder from principal components instead of from noise.

A random network has to find some energy-compacting basis before anything else. A cascade of block transforms
learned by principal component analysis has one at once: stage by stage, the blocks that a
stride-s layer sees (s x s positions, all channels) are rotated to their principal components U and the
strongest are kept. With D the root mean square of the components (hidden activations are scaled to 1, where
GDN is mild), the kernels are

    analysis:   h_k = D_k^-1 U_k^T D_(k-1) h_(k-1),      latents  y = g U_K^T D_(K-1) h_(K-1)
    synthesis:  the transposes, with D and 1/D exchanged,

an orthonormal transform times g, undone exactly on the kept components. g sets the quantisation step, by the
balance of rate and distortion: a latent scaled by g costs log2(g) more bits and, with noise of variance
1/12 and w bits per squared unit, w / (12 g^2) of distortion, least at g = 1 where w = 6 / ln 2. With a loss of bits
per pixel + lambda 255^2 MSE over three channels that is

    g^2 = lambda 255^2 / 3 / PIXEL_SCALE^2 * ln 2 / 6.

The uniform noise of variance 1/12 swamps latents that are no stronger. For a latent of variance s^2, analysis
and synthesis are both multiplied by a, which gives the distortion 1/12 (in units of the step) at the least
rate, or drops the latent: reverse water-filling, Cover and Thomas, Elements of Information Theory, 10.3.3,

    a^2 = 1 - 1 / (12 s^2).

All other taps and channels keep their random values, scaled down; training makes of it overlapping filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcodec.codecs.balle2017.model import PIXEL_SCALE, TransformConfig
from jaxcodec.ops.bounds import SQUARE_OFFSET

_NOISE = 0.003
"""What is kept of the random values where structure is written."""

_GAMMA = 0.001
"""Initial diagonal of GDN's gamma: GDN and IGDN then undo each other to a percent or two."""


_LEAST_SPREAD = 0.3
"""Weaker components are not scaled up to 1: their kernels would be large, and training unstable."""


_LEAST_STRENGTH = 0.01
"""Of a^2: dropped latents keep a gradient."""


def latent_gain(weight: float) -> float:
    """G for a loss of bits per pixel + `weight` * 255^2 * MSE."""
    return math.sqrt(weight * 255.0**2 / 3.0 / PIXEL_SCALE**2 * math.log(2.0) / 6.0)


def from_principal_components(
    params: Mapping[str, Any], crops: np.ndarray, config: TransformConfig, weight: float
) -> dict[str, Any]:
    """Write the cascade of principal components into freshly initialised parameters.

    Parameters
    ----------
    params
        Random parameters of `TransformCoder(config)`.
    crops
        uint8 `[n, S, S, 3]` training crops, S a multiple of 16; some dozens of 128x128 are plenty.
    config
        A network without GDN on the latents, with the deep factorized prior.
    weight
        The lambda it will be trained for.

    Raises
    ------
    ValueError
        For the `paper` transform or another prior.
    """
    if config.transform == "paper" or config.prior != "deep_factorized":
        raise ValueError("starting from principal components needs bls2017 or bmshj2018, deep_factorized")
    new = {
        part: {name: dict(leaf) for name, leaf in params[part].items()} for part in ("analysis", "synthesis")
    }
    values = (crops.astype(np.float64) / 255.0 - 0.5) * PIXEL_SCALE
    previous_scale = np.ones(values.shape[-1])
    gain = latent_gain(weight)
    for i, (kernel_size, stride) in enumerate(config.stages):
        last = i == len(config.stages) - 1
        blocks = blocks_of(values, stride)
        moment = blocks.reshape(-1, blocks.shape[-1]).T @ blocks.reshape(-1, blocks.shape[-1])
        vectors = np.linalg.eigh(moment)[1][:, ::-1][:, : config.latent_channels if last else config.channels]
        components = blocks @ vectors
        spread = np.sqrt(np.mean(np.square(components), axis=(0, 1, 2)))
        if last:
            strength = np.sqrt(np.maximum(1.0 - 1.0 / (12.0 * np.square(gain * spread)), _LEAST_STRENGTH))
            scale, back = 1.0 / (gain * strength), strength / gain
        else:
            scale = back = np.maximum(spread, _LEAST_SPREAD)
        # [s, s, kept before, kept now]
        rotation = vectors.reshape(stride, stride, values.shape[-1], -1)
        name, at = f"convolution_{i}", kernel_size // 2
        forward = rotation * previous_scale[:, None] / scale
        backward = (rotation / previous_scale[:, None] * back).transpose(0, 1, 3, 2)
        new["analysis"][name]["kernel"] = _write(params["analysis"][name]["kernel"], forward, at)
        new["synthesis"][name]["kernel"] = _write(params["synthesis"][name]["kernel"], backward, at)
        values, previous_scale = components, scale
    for part in new.values():
        for name in [name for name in part if "gdn" in name]:
            channels = part[name]["gamma"].shape[0]
            part[name]["gamma"] = np.sqrt(_GAMMA * np.eye(channels) + SQUARE_OFFSET).astype(np.float32)
    return {
        **new,
        "prior": _fit_prior(params["prior"], np.mean(np.abs(values / previous_scale), axis=(0, 1, 2))),
    }


def blocks_of(x: np.ndarray, s: int) -> np.ndarray:
    """Blocks of s x s positions as channels: `[B, H, W, C]` to `[B, H/s, W/s, s s C]`."""
    B, H, W, C = x.shape
    return x.reshape(B, H // s, s, W // s, s, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, H // s, W // s, -1)


def _write(kernel: Any, block: np.ndarray, at: int) -> np.ndarray:
    """The block at taps `at, at + 1, ...` and the first channels; random values elsewhere, damped where they meet."""
    new = np.array(kernel, np.float32)
    s, _, inputs, outputs = block.shape
    new[..., :outputs] *= _NOISE
    new[at : at + s, at : at + s, :inputs, :outputs] += block
    return new


def _fit_prior(prior: Mapping[str, Any], deviation: np.ndarray) -> dict[str, Any]:
    """Set each channel's initial spread to its mean absolute deviation, `[kept]`; the rest get the smallest."""
    matrix = np.asarray(prior["matrix_0"], np.float64)
    spread = np.full(matrix.shape[0], 0.1)
    # A logistic of scale s has a mean absolute deviation of 2 ln 2 s.
    spread[: deviation.size] += deviation / (2.0 * math.log(2.0))
    # The fresh prior is about logistic with scale 10 (its init_scale).
    slope = np.logaddexp(0.0, matrix) * (10.0 / spread)[:, None, None]
    raw = np.where(slope > 20.0, slope, np.log(np.expm1(np.minimum(slope, 20.0))))
    return {**prior, "matrix_0": raw.astype(np.float32)}
