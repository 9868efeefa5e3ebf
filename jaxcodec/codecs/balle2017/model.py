r"""The transforms and prior of Ballé, Laparra and Simoncelli (ICLR 2017), and of Ballé et al. (ICLR 2018).

| transform   | stages (kernel / stride)  | GDN                                                        |
|-------------|---------------------------|------------------------------------------------------------|
| `paper`     | 9x9/4, 5x5/2, 5x5/2       | after every analysis layer; IGDN before every synthesis one |
| `bls2017`   | 9x9/4, 5x5/2, 5x5/2       | between layers only, as tensorflow-compression's bls2017.py |
| `bmshj2018` | 5x5/2, four times         | between layers only                                         |

All subsample by 16 in both directions. Pixels are [0, 1] outside and centred inside, so that zero padding
is mid-grey. The latents are coded as integers, bin width 1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.entropy import DeepFactorized, PiecewiseLinear
from jaxcodec.layers import GDN, Convolution, TransposedConvolution
from jaxcodec.ops.extent import Extent, zero_outside
from jaxcodec.ops.quantise import Quantiser

STRIDE = 16
"""Pixels per latent in both directions, for all transforms."""

PIXEL_SCALE = 255.0 / 64.0
"""Pixels enter as (x - 1/2) * scale: of unit order, where GDN's initial beta = 1 is a natural scale."""

_STAGES = {
    "paper": ((9, 4), (5, 2), (5, 2)),
    "bls2017": ((9, 4), (5, 2), (5, 2)),
    "bmshj2018": ((5, 2), (5, 2), (5, 2), (5, 2)),
}


@dataclass(frozen=True)
class TransformConfig:
    """What determines the network; stored with the weights.

    Attributes
    ----------
    transform
        One of the rows of the table above.
    channels
        N, the channels of the hidden layers (128 for grey and 192 for RGB in the paper).
    latent_channels
        M, the channels of the latents (N in the paper).
    prior
        `deep_factorized` (Ballé 2018) or `piecewise_linear` (the paper).
    image_channels
        3 for RGB; 1 for grey.
    """

    transform: Literal["paper", "bls2017", "bmshj2018"] = "bls2017"
    channels: int = 192
    latent_channels: int = 192
    prior: Literal["deep_factorized", "piecewise_linear"] = "deep_factorized"
    image_channels: int = 3

    def __post_init__(self) -> None:
        if self.transform not in _STAGES:
            raise ValueError(f"transform {self.transform!r} is not one of {', '.join(_STAGES)}")
        if self.prior not in ("deep_factorized", "piecewise_linear"):
            raise ValueError(f"prior {self.prior!r} is not one of deep_factorized, piecewise_linear")
        if min(self.channels, self.latent_channels, self.image_channels) < 1:
            raise ValueError("channels, latent_channels and image_channels must be at least 1")

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """(kernel size, stride) of the analysis layers in order."""
        return _STAGES[self.transform]

    @property
    def halo(self) -> int:
        """Pixels of context that a latent, or a decoded pixel, needs on each side; a multiple of 16."""
        reach, stride = 0, 1
        for kernel, step in self.stages:
            reach += stride * (kernel // 2)
            stride *= step
        return STRIDE * math.ceil(reach / STRIDE)

    def macs_per_pixel(self) -> tuple[float, float]:
        """Multiply-accumulates per pixel of analysis and of synthesis, as the paper's layers define them."""
        widths = [self.image_channels, *[self.channels] * (len(self.stages) - 1), self.latent_channels]
        total, area = 0.0, 1.0
        for i, (kernel, step) in enumerate(self.stages):
            area *= step * step
            total += kernel * kernel * widths[i] * widths[i + 1] / area
            if self.transform == "paper" or i < len(self.stages) - 1:
                total += widths[i + 1] ** 2 / area
        return total, total

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)


class Analysis(nn.Module):
    """Pixels `[B, H, W, 3]` in [0, 1] to latents `[B, ceil(H/16), ceil(W/16), M]` float32."""

    config: TransformConfig
    dtype: Any = jnp.float32
    space_to_depth_first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Transform x; with an `extent`, x is a window of a larger or smaller picture."""
        stages = self.config.stages
        h = zero_outside((x - 0.5) * PIXEL_SCALE, extent, stride=1)
        total = 1
        for i, (kernel, stride) in enumerate(stages):
            last = i == len(stages) - 1
            total *= stride
            h = Convolution(
                self.config.latent_channels if last else self.config.channels,
                kernel,
                stride,
                use_bias=not (last and self.config.transform == "bls2017"),
                space_to_depth_first=self.space_to_depth_first and i == 0,
                dtype=self.dtype,
                name=f"convolution_{i}",
            )(h)
            if self.config.transform == "paper" or not last:
                h = GDN(name=f"gdn_{i}")(h)
            h = zero_outside(h, extent, stride=total)
        return h.astype(jnp.float32)


class Synthesis(nn.Module):
    """Latents `[B, h, w, M]` to pixels `[B, 16 h, 16 w, 3]`, near [0, 1] but not clipped, float32."""

    config: TransformConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Transform y; with an `extent` (in pixels, of the whole 16 h x 16 w), y is a window."""
        stages = self.config.stages
        h = zero_outside(y, extent, stride=STRIDE)
        remaining = STRIDE
        for i, (kernel, stride) in reversed(list(enumerate(stages))):
            if self.config.transform == "paper" or i < len(stages) - 1:
                h = GDN(inverse=True, name=f"inverse_gdn_{i}")(h)
                h = zero_outside(h, extent, stride=remaining)
            h = TransposedConvolution(
                self.config.channels if i else self.config.image_channels,
                kernel,
                stride,
                # The last layer stays float32 whatever the rest computes in.
                dtype=self.dtype if i else jnp.float32,
                name=f"convolution_{i}",
            )(h)
            remaining //= stride
            h = zero_outside(h, extent, stride=remaining)
        return h.astype(jnp.float32) / PIXEL_SCALE + 0.5


class TransformCoder(nn.Module):
    """Analysis, prior and synthesis in one module; the caller passes the quantiser."""

    PRIOR_FILTERS: ClassVar[tuple[int, ...]] = (3, 3)

    config: TransformConfig
    dtype: Any = jnp.float32
    space_to_depth_first: bool = False

    def setup(self) -> None:
        """Make the three parts."""
        self.analysis = Analysis(self.config, self.dtype, self.space_to_depth_first)
        self.synthesis = Synthesis(self.config, self.dtype)
        if self.config.prior == "deep_factorized":
            self.prior = DeepFactorized(self.config.latent_channels, filters=self.PRIOR_FILTERS)
        else:
            self.prior = PiecewiseLinear(self.config.latent_channels)

    def __call__(self, x: jax.Array, *, quantise: Quantiser) -> tuple[jax.Array, jax.Array]:
        """Code and decode x `[B, H, W, 3]` in [0, 1]; H and W multiples of 16.

        Returns
        -------
        reconstruction : `[B, H, W, 3]`, not clipped
        likelihoods : `[B, H/16, W/16, M]`; the rate in bits is `-log2(likelihoods).sum()`
        """
        y = quantise(self.analysis(x))
        return self.synthesis(y), self.prior(y)

    def analyse(self, x: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Latents of x, not rounded; see `Analysis`."""
        return self.analysis(x, extent)

    def synthesise(self, y: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Pixels of y; see `Synthesis`."""
        return self.synthesis(y, extent)
