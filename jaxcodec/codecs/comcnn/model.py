r"""ComCNN and RecCNN of Jiang et al. (2017), section III, over luma in [0, 1].

| ComCNN                          | RecCNN, N layers                                           |
|---------------------------------|------------------------------------------------------------|
| 3x3, c channels, ReLU           | 3x3, c channels, ReLU                                      |
| 3x3 stride 2, c channels, ReLU  | N - 2 of 3x3, c channels, ReLU (paper: batch normalisation)|
| 3x3, 1 channel                  | 3x3, 1 channel: what is wrong with the enlarged picture    |

c = 64 and N = 20 in the paper. What differs here, all in the configuration but the first two:

- No batch normalisation. Layers start with He et al.'s variance, the last with zeros, so an untrained RecCNN returns
  its input; and with `skips` each pair of inner layers is added to its input, which keeps deep gradients alive.
- Both are told how coarsely the codec quantises (`coarseness.py`), in a constant plane beside the picture, and so one
  pair of networks serves all qualities. The paper trains a pair for each.
- ComCNN's output is a correction of the plain bicubic reduction: an untrained one gives just that.
- RecCNN works on 2x2 pixels as four channels (`stride` 2): a quarter of the arithmetic, twice the field of view.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.layers.convolution import Convolution
from jaxcodec.ops.extent import Extent, zero_outside
from jaxcodec.ops.space_depth import depth_to_space, space_to_depth

_HE = nn.initializers.he_normal()
_ZEROS = nn.initializers.zeros
_GREY = 0.5
"""Taken off the input: the zeros beyond the border are then mid-grey."""

_ERROR_SCALE, _CORRECTION_SCALE = 0.1, 0.05
"""Of the last layers. An update of Adam moves every weight about equally: without this, the sum over some hundred of
them would move each sample by several levels, where the whole correction is hardly more."""

COMCNN_HALO = 4
"""Pixels of context that ComCNN needs: 1 + 1 + 2, its last layer being at half size."""


@dataclass(frozen=True)
class RecCnnConfig:
    """What determines RecCNN; stored with the weights.

    Attributes
    ----------
    layers
        N, even and at least 4.
    channels
        c.
    stride
        1 as in the paper, or 2.
    skips
        Whether each pair of inner layers is added to its input.
    scaled
        Whether the output is multiplied by the codec's quantisation step, as the error of a full-size picture is
        about proportional to it.
    """

    layers: int = 10
    channels: int = 48
    stride: int = 2
    skips: bool = True
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.layers < 4 or self.layers % 2 or self.channels < 1 or self.stride not in (1, 2):
            raise ValueError("layers must be even and at least 4, channels at least 1, stride 1 or 2")

    @property
    def halo(self) -> int:
        """Pixels of context that a restored pixel needs, a multiple of 2."""
        return 2 * -(-self.layers * self.stride // 2)

    def macs_per_pixel(self) -> float:
        """Multiply-accumulates per pixel."""
        c, s = self.channels, self.stride
        return 9.0 * ((s * s + 1) * c + (self.layers - 2) * c * c + c * s * s) / (s * s)


@dataclass(frozen=True)
class ComCnnConfig:
    """What determines the pair of networks; stored with the weights.

    Attributes
    ----------
    inner
        The standard codec that it was trained around: `jpeg`, `jpeg2000` or `hevc`.
    lowest, highest
        Qualities of that codec, from and to.
    compact_channels
        c of ComCNN.
    layers, channels, stride, skips, scaled
        Of `RecCnnConfig`.
    """

    inner: str = "jpeg"
    lowest: int = 5
    highest: int = 90
    compact_channels: int = 32
    layers: int = 10
    channels: int = 48
    stride: int = 2
    skips: bool = True
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.inner not in ("jpeg", "jpeg2000", "hevc"):
            raise ValueError(f"inner is {self.inner!r}, not one of jpeg, jpeg2000, hevc")
        if not 1 <= self.lowest <= self.highest <= 100 or self.compact_channels < 1:
            raise ValueError("qualities must be ascending within 1..100, compact_channels at least 1")
        _ = self.reccnn

    @property
    def reccnn(self) -> RecCnnConfig:
        """RecCNN's part."""
        return RecCnnConfig(self.layers, self.channels, self.stride, self.skips, self.scaled)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def _with_plane(x: jax.Array, coarseness: jax.Array) -> jax.Array:
    """`[B, h, w, C]` and float32 `[B]` to `[B, h, w, C + 1]`."""
    plane = jnp.broadcast_to(coarseness.astype(x.dtype)[:, None, None, None], (*x.shape[:3], 1))
    return jnp.concatenate([x, plane], axis=-1)


class ComCNN(nn.Module):
    """What to add to the bicubic reduction: `[B, H, W, 1]` to `[B, ceil(H/2), ceil(W/2), 1]`.

    Attributes
    ----------
    channels
        c.
    dtype
        The type of the arithmetic; the last layer is float32.
    """

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, coarseness: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Correct luma x in [0, 1] for a coarseness in [0, 1] `[B]`; with an `extent`, x is a window."""
        h = zero_outside(_with_plane(x - _GREY, coarseness), extent, stride=1)
        first = Convolution(self.channels, 3, kernel_init=_HE, dtype=self.dtype, name="convolution_0")
        h = zero_outside(nn.relu(first(h)), extent, stride=1)
        second = Convolution(self.channels, 3, 2, kernel_init=_HE, dtype=self.dtype, name="convolution_1")
        h = zero_outside(nn.relu(second(h)), extent, stride=2)
        last = Convolution(1, 3, kernel_init=_ZEROS, name="convolution_2")
        return _CORRECTION_SCALE * last(h.astype(jnp.float32))


class RecCNN(nn.Module):
    """What is wrong with an enlarged or decoded picture: `[B, H, W, 1]` to the same shape; H and W multiples of stride.

    Attributes
    ----------
    config
        Depth and width.
    dtype
        The type of the arithmetic; the last layer is float32.
    """

    config: RecCnnConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array, coarseness: jax.Array, extent: Extent | None = None) -> jax.Array:
        """Estimate `u - original` of luma u in [0, 1]; with an `extent`, u is a window. Paper, equation 3."""
        c, s = self.config.channels, self.config.stride

        def convolve(h: jax.Array, name: str) -> jax.Array:
            convolution = Convolution(c, 3, kernel_init=_HE, dtype=self.dtype, name=name)
            return zero_outside(nn.relu(convolution(h)), extent, stride=s)

        h = _with_plane(space_to_depth(u - _GREY, s), coarseness)
        h = convolve(zero_outside(h, extent, stride=s), "convolution_0")
        for i in range(1, self.config.layers - 1, 2):
            inner = convolve(convolve(h, f"convolution_{i}"), f"convolution_{i + 1}")
            h = h + inner if self.config.skips else inner
        last = Convolution(s * s, 3, kernel_init=_ZEROS, name=f"convolution_{self.config.layers - 1}")
        error = depth_to_space(last(h.astype(jnp.float32)), s)
        if self.config.scaled:
            step = jnp.exp2(8.0 * coarseness) / 255.0  # as in coarseness.py, of samples in [0, 1]
            return error * step[:, None, None, None]
        return error * _ERROR_SCALE


def halve(x: jax.Array) -> jax.Array:
    """Bicubic reduction of `[B, H, W, C]`, H and W even, anti-aliased (Keys, a = -1/2, over 8 samples)."""
    B, H, W, C = x.shape
    return jax.image.resize(x, (B, H // 2, W // 2, C), "cubic", antialias=True)


def enlarge(y: jax.Array) -> jax.Array:
    """Bicubic enlargement of `[B, h, w, C]` by 2 (Keys, a = -1/2)."""
    B, h, w, C = y.shape
    return jax.image.resize(y, (B, 2 * h, 2 * w, C), "cubic")
