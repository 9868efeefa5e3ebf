"""Strided and transposed convolutions as Flax modules, over `jaxcodec.ops.convolution`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.ops.convolution import Padding, strided_convolution, transposed_convolution
from jaxcodec.ops.space_depth import depth_to_space


class Convolution(nn.Module):
    """Convolve and subsample: `[B, H, W, Cin] -> [B, ceil(H/s), ceil(W/s), features]`.

    Attributes
    ----------
    features, kernel_size, stride
        Output channels, odd K, and s.
    use_bias
        Whether to add a bias.
    space_to_depth_first
        Compute the same values over s*s*Cin channels: for first layers on accelerators.
    padding
        `same`, or `valid` for none: then `floor((H - K) / s) + 1` rows come out, and as many columns.
    kernel_init
        Initialiser of the kernel.
    dtype
        The type of the arithmetic; parameters are float32.
    """

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = True
    space_to_depth_first: bool = False
    padding: Padding = "same"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve x `[B, H, W, Cin]`."""
        K = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (K, K, x.shape[-1], self.features), jnp.float32)
        y = strided_convolution(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            space_to_depth_first=self.space_to_depth_first,
            padding=self.padding,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return y


class TransposedConvolution(nn.Module):
    """Upsample and convolve: `[B, h, w, Cin] -> [B, s*h, s*w, features]`, by sub-pixel phases.

    Attributes
    ----------
    features, kernel_size, stride
        Output channels, odd K, and s.
    use_bias
        Whether to add a bias.
    dtype
        The type of the arithmetic; parameters are float32.
    """

    features: int
    kernel_size: int
    stride: int
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """Upsample y `[B, h, w, Cin]`."""
        K = self.kernel_size
        # One output sample meets K*K / s^2 taps, so the variance is scaled by s^2 over fan-in.
        initialiser = nn.initializers.variance_scaling(float(self.stride**2), "fan_in", "truncated_normal")
        kernel = self.param("kernel", initialiser, (K, K, y.shape[-1], self.features), jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return transposed_convolution(
            y.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride, bias=bias
        )


class SubPixelConvolution(nn.Module):
    """Convolve to s*s*features channels and interleave them: `[B, h, w, Cin] -> [B, s*h, s*w, features]`.

    Unlike `TransposedConvolution` every output sample sees K x K inputs. Shi et al., CVPR 2016, section 3.

    Attributes
    ----------
    features, kernel_size, stride
        Output channels, odd K, and s.
    dtype
        The type of the arithmetic; parameters are float32.
    """

    features: int
    kernel_size: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """Upsample y `[B, h, w, Cin]`."""
        channels = self.stride**2 * self.features
        convolution = Convolution(channels, self.kernel_size, dtype=self.dtype, name="convolution")
        return depth_to_space(convolution(y), self.stride)
