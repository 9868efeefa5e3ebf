"""The codec `theis2017`: one network or several for different rates, each with a ladder of scales."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcodec.codecs.theis2017.model import (
    HALO,
    PADDING,
    STRIDE,
    Analysis,
    AutoencoderConfig,
    Synthesis,
)
from jaxcodec.codecs.transform import TransformCoder
from jaxcodec.codecs.transform_network import Network
from jaxcodec.ops.extent import Extent
from jaxcodec.zoo.choose import Given, weight_files
from jaxcodec.zoo.weights import Weights


@partial(jax.jit, static_argnames="config")
def _analyse(
    params: Any, pixels: jax.Array, origin: jax.Array, size: jax.Array, *, config: AutoencoderConfig
) -> jax.Array:
    """Uint8 `[B, H + 21, W + 21, 3]` windows to latents, float32 `[B, H/8, W/8, C]`."""
    whole = -(-size // STRIDE) * STRIDE
    # An accelerator's default would be TF32 or bfloat16, and its symbols and pixels not those of a CPU.
    with jax.default_matmul_precision("float32"):
        y: Any = Analysis(config).apply(
            {"params": params}, pixels.astype(jnp.float32) / 255.0, Extent(origin, whole)
        )
    return y


@partial(jax.jit, static_argnames="config")
def _synthesise(
    params: Any, latents: jax.Array, origin: jax.Array, size: jax.Array, *, config: AutoencoderConfig
) -> jax.Array:
    """Float32 `[B, h, w, C]` windows of latents to uint8 pixels `[B, 8 h, 8 w, 3]`."""
    whole = -(-size // STRIDE) * STRIDE
    with jax.default_matmul_precision("float32"):
        x: Any = Synthesis(config).apply({"params": params}, latents, Extent(origin, whole))
    return jnp.round(jnp.clip(x, 0.0, 1.0) * 255.0).astype(jnp.uint8)


class AutoencoderCodec(TransformCoder):
    """`theis2017`; a quality q means about 2^(q - 4) bits per pixel."""

    def build(self, weights: Weights) -> Network:
        """The network of a weight file."""
        config = AutoencoderConfig(**weights.config)
        analysis, synthesis = (jax.device_put(weights.params[part]) for part in ("analysis", "synthesis"))
        return Network(
            STRIDE,
            HALO,
            config.latent_channels,
            partial(_analyse, analysis, config=config),
            partial(_synthesise, synthesis, config=config),
            PADDING,
        )


def load_theis2017(weights: Given = None) -> AutoencoderCodec:
    """The codec of the zoo's weights, or of one's own: a file, or several for different rates."""
    return AutoencoderCodec("theis2017", weight_files("theis2017", weights))
