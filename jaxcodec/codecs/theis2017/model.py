r"""The compressive autoencoder of Theis, Shi, Cunningham and Huszár (ICLR 2017), section 3 and figure 2.

| analysis (kernel / stride)                                | synthesis                                             |
|-----------------------------------------------------------|-------------------------------------------------------|
| mirror padding, normalisation                             | 4 w 5x5 sub-pixel x2 -> w channels at 1/4, kernel 3   |
| w/2 channels 5/2 valid, leaky ReLU                        | 3 residual blocks                                     |
| w channels 5/2 valid, leaky ReLU                          | 2 w sub-pixel x2 -> w/2 channels at 1/2, leaky ReLU   |
| 3 residual blocks: 3x3, leaky ReLU, 3x3, added            | 12 sub-pixel x2 -> 3 channels                         |
| C channels 5/2 valid                                      | denormalisation                                       |

with w = 128 and C = 96 (64 for the paper's model of low rates). All subsample by 8 in both directions. The
residual blocks and the synthesis pad with zeros; so mirroring 10 pixels before and 11 after the picture gives
exactly H/8 x W/8 latents. The paper does not say whether its residual blocks pad; if not, 34 and 35.

One network serves several rates by a scale per latent channel (section 2.3): z = y * scale is rounded, and
synthesis sees z / scale.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.entropy.gaussian_scale_mixture import GaussianScaleMixture
from jaxcodec.layers.convolution import Convolution, SubPixelConvolution
from jaxcodec.ops.extent import Extent, zero_outside
from jaxcodec.ops.quantise import Quantiser

STRIDE = 8
"""Pixels per latent in both directions."""

PADDING = (10, 11)
"""Mirrored pixels before and after the picture, in both directions."""

HALO = 40
"""Pixels of context that a latent, or a decoded pixel, needs on each side; a multiple of 8.

Six 3x3 convolutions at 1/4, with 3x3 ones at 1/8, 1/4 and 1/2 in synthesis: 24 + 8 + 4 + 2.
"""

PIXEL_MEAN = (0.45, 0.43, 0.39)
"""Of the training photos, red, green and blue in [0, 1]."""

PIXEL_DEVIATION = 0.25
"""One for all channels, so that a squared error means the same inside and outside."""

LEAK = 0.01
"""Slope of the leaky rectifiers below zero."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """What determines the network; stored with the weights.

    Attributes
    ----------
    channels
        w, channels at a quarter of the resolution.
    latent_channels
        C.
    blocks
        Residual blocks on each side, at most 3: `HALO` is theirs.
    scales
        Components of each channel's Gaussian scale mixture.
    lambdas
        The rates that it serves, ascending: each has its scales and mixtures, trained for
        bits per pixel + lambda * 255^2 * mean squared error.
    """

    channels: int = 128
    latent_channels: int = 96
    blocks: int = 3
    scales: int = 6
    lambdas: tuple[float, ...] = (0.01,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lambdas", tuple(float(weight) for weight in self.lambdas))
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels must be even and at least 2, got {self.channels}")
        if min(self.latent_channels, self.scales) < 1 or not 0 <= self.blocks <= 3:
            raise ValueError("latent_channels and scales must be at least 1, blocks 0 to 3")
        if not self.lambdas or list(self.lambdas) != sorted(set(self.lambdas)) or self.lambdas[0] <= 0:
            raise ValueError(f"lambdas must be positive and ascending, got {self.lambdas}")

    def macs_per_pixel(self) -> tuple[float, float]:
        """Multiply-accumulates per pixel of analysis and of synthesis."""
        w, C = self.channels, self.latent_channels
        residual = self.blocks * 2 * 9 * w * w / 16
        analysis = 25 * (3 * w / 2 / 4 + w / 2 * w / 16 + w * C / 64) + residual
        synthesis = 9 * (C * 4 * w / 64 + w * 2 * w / 16 + w / 2 * 12 / 4) + residual
        return analysis, synthesis

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return {**asdict(self), "lambdas": list(self.lambdas)}


def _leaky_relu(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, LEAK)


def _pixel_mean() -> jax.Array:
    return jnp.asarray(PIXEL_MEAN, jnp.float32)[None, None, None]


class ResidualBlock(nn.Module):
    """`x + conv(leaky_relu(conv(x)))` over `[B, h, w, channels]`.

    Attributes
    ----------
    channels
        Of input and output.
    dtype
        The type of the arithmetic.
    """

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, extent: Extent | None = None, margin: tuple[int, int] = (0, 0)
    ) -> jax.Array:
        """Transform x, at a quarter of the resolution; what lies outside of `extent` stays zero."""
        h = _leaky_relu(Convolution(self.channels, 3, dtype=self.dtype, name="convolution_0")(x))
        h = zero_outside(h, extent, stride=4, margin=margin)
        h = Convolution(self.channels, 3, dtype=self.dtype, name="convolution_1")(h)
        return zero_outside(x + h, extent, stride=4, margin=margin)


class Analysis(nn.Module):
    """Mirrored pixels `[B, 8h + 21, 8w + 21, 3]` in [0, 1] to latents `[B, h, w, C]` float32."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Transform x; with an `extent` (of whole latents), x is a window, with its 10 and 11 pixels around."""
        w = self.config.channels
        # The layer at a quarter begins a position before the picture and ends two after it.
        margin = (1, 2)
        h = (x - _pixel_mean()) / PIXEL_DEVIATION
        for i, features in enumerate((w // 2, w)):
            name = f"convolution_{i}"
            convolution = Convolution(features, 5, 2, padding="valid", dtype=self.dtype, name=name)
            h = _leaky_relu(convolution(h))
        h = zero_outside(h, extent, stride=4, margin=margin)
        for i in range(self.config.blocks):
            h = ResidualBlock(w, self.dtype, name=f"block_{i}")(h, extent, margin)
        last = Convolution(
            self.config.latent_channels, 5, 2, padding="valid", dtype=self.dtype, name="convolution_2"
        )
        return last(h).astype(jnp.float32)


class Synthesis(nn.Module):
    """Latents `[B, h, w, C]` to pixels `[B, 8h, 8w, 3]`, near [0, 1] but not clipped, float32."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Transform y; with an `extent` (in pixels, of the whole 8h x 8w), y is a window."""
        w = self.config.channels
        h = zero_outside(y, extent, stride=8)
        h = SubPixelConvolution(w, 3, 2, self.dtype, name="upsampling_0")(h)
        h = zero_outside(h, extent, stride=4)
        for i in range(self.config.blocks):
            h = ResidualBlock(w, self.dtype, name=f"block_{i}")(h, extent)
        h = _leaky_relu(SubPixelConvolution(w // 2, 3, 2, self.dtype, name="upsampling_1")(h))
        h = zero_outside(h, extent, stride=2)
        # The last layer stays float32 whatever the rest computes in.
        h = SubPixelConvolution(3, 3, 2, name="upsampling_2")(h.astype(jnp.float32))
        return h * PIXEL_DEVIATION + _pixel_mean()


def mirror(x: jax.Array) -> jax.Array:
    """Extend pixels `[B, H, W, C]` by `PADDING` on each side, the border repeated: `[B, H + 21, W + 21, C]`."""
    return jnp.pad(x, ((0, 0), PADDING, PADDING, (0, 0)), mode="symmetric")


class Autoencoder(nn.Module):
    """Analysis, scales, mixtures and synthesis in one module; the caller passes the quantisers."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Make the parts."""
        rates = len(self.config.lambdas)
        self.analysis = Analysis(self.config, self.dtype)
        self.synthesis = Synthesis(self.config, self.dtype)
        self.prior = GaussianScaleMixture(self.config.latent_channels, self.config.scales, rates)
        shape = (rates, self.config.latent_channels)
        self.log_scales = self.param("log_scales", nn.initializers.zeros, shape, jnp.float32)

    def __call__(
        self,
        x: jax.Array,
        rate: jax.Array,
        *,
        quantise: Quantiser,
        relax: Quantiser,
        mask: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Code and decode x `[B, H, W, 3]` in [0, 1]; H and W multiples of 8.

        Parameters
        ----------
        x
            Pixels.
        rate
            int32 `[B]`: which of the configuration's lambdas each example is coded for.
        quantise
            What synthesis sees of the scaled latents: rounding with the gradient of the identity in the paper.
        relax
            What is added to them where only the rate is concerned: uniform noise in the paper.
        mask
            float32 `[C]`, multiplies the latents in both terms (the paper's incremental training).

        Returns
        -------
        reconstruction : `[B, H, W, 3]`, not clipped
        bits : `[B, H/8, W/8, C]`, a bound of the rate, see `gaussian_scale_mixture`
        """
        scale = jnp.exp(self.log_scales[rate])[:, None, None]
        enabled = None if mask is None else mask[None, None, None]
        y = self.analysis(mirror(x))
        if enabled is not None:
            y = y * enabled
        z = quantise(y * scale)
        if enabled is not None:
            z = z * enabled
        bits = self.prior(relax(z), rate)
        if enabled is not None:
            bits = bits * enabled
        return self.synthesis(z / scale), bits

    def analyse(self, x: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Latents of mirrored pixels, neither scaled nor rounded; see `Analysis`."""
        return self.analysis(x, extent)

    def synthesise(self, y: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Pixels of y; see `Synthesis`."""
        return self.synthesis(y, extent)
