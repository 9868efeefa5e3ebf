"""EfficientNet-Lite0 in inference form: a small pretrained classifier, cut where its features are wanted.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, table 1; the
Lite variants leave out squeeze-and-excitation and replace swish by ReLU6. Batch norm (epsilon 1e-3) is folded into
the kernels and biases by `scripts/convert_efficientnet.py`, so there is no state.

Pictures are `[B, H, W, 3]` in [0, 255]; padding is TensorFlow's SAME, zero after the normalisation
`(pixel - 127) / 128`. Any size is taken: a map at stride s is `ceil(H / s) x ceil(W / s)`.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

# Repeats, kernel, stride, expansion, output channels of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
CLASSES = 1000
STRIDE_16_CHANNELS = 112
"""Channels of the last features at stride 16, the output of stage 5."""

BATCH_NORM_EPSILON = 1e-3
Output = Literal["stride16", "features", "logits"]


def blocks() -> list[tuple[int, int, int, int]]:
    """Return (kernel, stride, expansion, output channels) of the 16 blocks in order."""
    listed = []
    for repeats, kernel, stride, expansion, channels in STAGES:
        listed += [(kernel, stride if i == 0 else 1, expansion, channels) for i in range(repeats)]
    return listed


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return zeros before and after an axis, so that `ceil(size / stride)` samples come out; the odd one is last."""
    needed = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return needed // 2, needed - needed // 2


class DepthwiseConvolution(nn.Module):
    """Filter each channel on its own: `[B, H, W, C] -> [B, ceil(H/s), ceil(W/s), C * multiplier]`.

    Output channel `c * multiplier + m` is filter m of input channel c, as in `lax.conv_general_dilated`
    with `feature_group_count = C`.

    Attributes
    ----------
    kernel_size, stride
        K and s.
    multiplier
        Filters per channel.
    use_bias
        Whether to add a bias.
    """

    kernel_size: int
    stride: int = 1
    multiplier: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Filter x `[B, H, W, C]`."""
        K, s, C = self.kernel_size, self.stride, x.shape[-1]
        width = C * self.multiplier
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (K, K, 1, width), jnp.float32)
        rows, columns = -(-x.shape[1] // s), -(-x.shape[2] // s)
        padding = ((0, 0), same_padding(x.shape[1], K, s), same_padding(x.shape[2], K, s), (0, 0))
        padded = jnp.pad(x, padding)
        shifts = [
            padded[:, i : i + (rows - 1) * s + 1 : s, j : j + (columns - 1) * s + 1 : s]
            for i in range(K)
            for j in range(K)
        ]
        # XLA's grouped convolution is eight times as slow on a CPU as a sum of shifted copies, and its gradient
        # worse still; with several filters to a channel there is a matrix product to a channel.
        if self.multiplier == 1:
            taps = kernel.reshape(K * K, C)
            y = shifts[0] * taps[0][None, None, None]
            for shifted, tap in zip(shifts[1:], taps[1:], strict=True):
                y = y + shifted * tap[None, None, None]
        else:
            taps = kernel.reshape(K * K, C, self.multiplier)
            y = jnp.einsum("kbhwc,kcm->bhwcm", jnp.stack(shifts), taps).reshape(*shifts[0].shape[:3], width)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (width,), jnp.float32)
            y = y + bias[None, None, None]
        return y


class MobileBlock(nn.Module):
    """An inverted residual block: widen, filter each channel, narrow; the input is added where shapes allow.

    Attributes
    ----------
    kernel_size, stride, expansion, features
        K and s of the depthwise filters, the widening factor (1 leaves it out), and the output channels.
    """

    kernel_size: int
    stride: int
    expansion: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x `[B, H, W, C]` to `[B, ceil(H/s), ceil(W/s), features]`."""
        h = x
        if self.expansion != 1:
            h = nn.relu6(nn.Conv(x.shape[-1] * self.expansion, (1, 1), name="expand")(h))
        h = nn.relu6(DepthwiseConvolution(self.kernel_size, self.stride, name="depthwise")(h))
        h = nn.Conv(self.features, (1, 1), name="project")(h)
        return h + x if self.stride == 1 and x.shape[-1] == self.features else h


class EfficientNetLite0(nn.Module):
    """The classifier, or its first part.

    Attributes
    ----------
    output
        `stride16`: `[B, ceil(H/16), ceil(W/16), 112]`, the trunk of the first 11 blocks.
        `features`: `[B, ceil(H/32), ceil(W/32), 1280]`, before pooling, so that class activation maps can be made.
        `logits`: `[B, 1000]`, in ImageNet's order of classes.
    """

    output: Output = "logits"

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Run on pixels `[B, H, W, 3]` in [0, 255]."""
        x = (pixels.astype(jnp.float32) - 127.0) / 128.0
        h = nn.relu6(nn.Conv(STEM_CHANNELS, (3, 3), (2, 2), name="stem")(x))
        stride = 2
        for i, (kernel, step, expansion, features) in enumerate(blocks()):
            if self.output == "stride16" and stride * step > 16:
                return h
            stride *= step
            h = MobileBlock(kernel, step, expansion, features, name=f"block_{i}")(h)
        h = nn.relu6(nn.Conv(HEAD_CHANNELS, (1, 1), name="head")(h))
        if self.output == "features":
            return h
        return nn.Dense(CLASSES, name="classifier")(jnp.mean(h, axis=(1, 2)))
