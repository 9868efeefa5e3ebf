"""The codecs `balle2017` and `bmshj2018`: a network per quality, or per stretch of a ladder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxcodec.codecs.balle2017.model import STRIDE, Analysis, Synthesis, TransformConfig
from jaxcodec.codecs.transform import TransformCoder
from jaxcodec.codecs.transform_network import Network, TransformOptions
from jaxcodec.errors import BadOption
from jaxcodec.ops.extent import Extent
from jaxcodec.zoo import manifest
from jaxcodec.zoo.choose import Given, weight_files
from jaxcodec.zoo.weights import Weights, load_weights


@partial(jax.jit, static_argnames="config")
def _analyse(
    params: Any,
    pixels: jax.Array,
    origin: jax.Array,
    size: jax.Array,
    *,
    config: TransformConfig,
) -> jax.Array:
    """Uint8 `[B, H, W, 3]` windows to latents, float32 `[B, H/16, W/16, M]`."""
    x = pixels.astype(jnp.float32) / 255.0
    # A latent at the edge may cover pixels that do not exist: they repeat the last row and column, since a
    # sudden grey there would spoil the last real pixels. Beyond whole latents there are zeros.
    whole = -(-size // STRIDE) * STRIDE
    # An accelerator's default would be TF32 or bfloat16, and its symbols and pixels not those of a CPU.
    with jax.default_matmul_precision("float32"):
        y: Any = Analysis(config).apply({"params": params}, x, Extent(origin, whole))
    return y


@partial(jax.jit, static_argnames="config")
def _synthesise(
    params: Any, latents: jax.Array, origin: jax.Array, size: jax.Array, *, config: TransformConfig
) -> jax.Array:
    """Float32 `[B, h, w, M]` windows of latents to uint8 pixels `[B, 16 h, 16 w, 3]`."""
    # Synthesis runs on whole latents, so the picture ends where its last latent does.
    whole = -(-size // STRIDE) * STRIDE
    with jax.default_matmul_precision("float32"):
        x: Any = Synthesis(config).apply({"params": params}, latents, Extent(origin, whole))
    return jnp.round(jnp.clip(x, 0.0, 1.0) * 255.0).astype(jnp.uint8)


class TransformCodec(TransformCoder):
    """`balle2017` or `bmshj2018`.

    Parameters
    ----------
    name
        The codec's name.
    paths
        Its weight files by quality.
    options
        How to run; `encode` may override it per call.
    """

    def __init__(
        self, name: str, paths: Mapping[int, Path], *, options: TransformOptions | None = None
    ) -> None:
        super().__init__(name, [path for _, path in sorted(paths.items())], options=options)

    def build(self, weights: Weights) -> Network:
        """The network of a weight file."""
        config = TransformConfig(**weights.config)
        analysis, synthesis = (jax.device_put(weights.params[part]) for part in ("analysis", "synthesis"))
        return Network(
            STRIDE,
            config.halo,
            config.latent_channels,
            partial(_analyse, analysis, config=config),
            partial(_synthesise, synthesis, config=config),
        )


def _load(name: str, weights: Given) -> TransformCodec:
    # What is given may be any of the codec's weights; what is installed is by variant.
    asked = name if weights is None else name.partition("-")[0]
    files = weight_files(asked, weights, experiment="balle2017")
    if weights is None:  # the manifest knows their qualities, so that none has to be read yet
        return TransformCodec(name, {entry.quality: entry.file for entry in manifest.current(name)})
    paths: dict[int, Path] = {}
    for path in files:
        quality = load_weights(path).quality
        if quality in paths:
            raise BadOption(
                f"{paths[quality]} and {path} are both for quality {quality}; give one weight file per quality"
            )
        paths[quality] = path
    return TransformCodec(name, paths)


def load_balle2017(weights: Given = None) -> TransformCodec:
    """The codec of the 2017 paper, from the zoo or from weight files of one's own."""
    return _load("balle2017", weights)


def load_balle2017_pq(weights: Given = None) -> TransformCodec:
    """`balle2017` with product-quantised networks; its files decode as any of `balle2017`."""
    return _load("balle2017-pq", weights)


def load_bmshj2018(weights: Given = None) -> TransformCodec:
    """The four-stage factorized codec of Ballé et al. (ICLR 2018); no weights are shipped."""
    return _load("bmshj2018", weights)
