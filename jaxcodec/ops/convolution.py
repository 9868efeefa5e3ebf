r"""Strided and transposed convolutions with "same" zero padding, anchored at the first pixel.

Both keep one alignment whatever the picture's size, so that a window of a picture gives the same values as
the whole picture (`jaxcodec.codecs.tiling` relies on it). With kernel size K, stride s and p = K // 2:

    strided:     out[i] = sum_t x[s i + t - p] w[t],           i = 0 .. ceil(n / s) - 1
    transposed:  out[o] = sum_i y[i] w[o - s i + p],           o = 0 .. s n - 1

so the transposed one is the adjoint of the strided one with the same kernel (channels exchanged) when s
divides the size. Neither uses `lhs_dilation`, which spends most of its multiplications on inserted zeros:
the transposed one is computed in polyphase form. Writing o = s q + r with 0 <= r < s and i = q + d,

    out[s q + r] = sum_d y[q + d] w[r + p - s d]

is one stride-1 convolution to s*s*C channels (one group per phase r) followed by depth-to-space.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcodec.ops.space_depth import depth_to_space, space_to_depth

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _gather_taps(kernel: jax.Array, index: np.ndarray) -> jax.Array:
    """`w[index[a, b], index[c, d]]` with zeros where the index is outside: `[a, b, c, d, Cin, Cout]`."""
    size = kernel.shape[0]
    inside = np.where((index >= 0) & (index < size), index, size)
    padded = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    rows = jnp.take(padded, inside, axis=0)
    return jnp.take(rows, inside, axis=2)


def _check_kernel(kernel: jax.Array, x: jax.Array) -> int:
    if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"kernel must be [K, K, Cin, Cout] with odd K, got {list(kernel.shape)}")
    if x.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(f"kernel {list(kernel.shape)} does not fit an input of shape {list(x.shape)}")
    return kernel.shape[0]


def strided_convolution(
    x: jax.Array, kernel: jax.Array, *, stride: int, space_to_depth_first: bool = False
) -> jax.Array:
    """Correlate and subsample: `[B, H, W, Cin] -> [B, ceil(H/s), ceil(W/s), Cout]`.

    Parameters
    ----------
    x, kernel
        Input, and weights `[K, K, Cin, Cout]` with odd K.
    stride
        s, the subsampling in both directions.
    space_to_depth_first
        Compute the same values as a stride-1 convolution over s*s*Cin channels: faster for the
        first layer, whose three channels leave wide vector units idle.
    """
    K = _check_kernel(kernel, x)
    p = K // 2
    if not space_to_depth_first or stride == 1:
        # Input rows s (n_out - 1) + K are read in all; XLA wants the padding per side, which may be
        # negative when the stride leaves rows unread.
        padding = [(p, stride * (-(-n // stride) - 1) + K - n - p) for n in x.shape[1:3]]
        return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_DIMENSIONS)
    # t - p = s d + r: the taps of block d at phase r.
    low, high = -p // stride, (K - 1 - p) // stride
    d = np.arange(low, high + 1)
    index = stride * d[:, None] + np.arange(stride)[None, :] + p
    taps = _gather_taps(kernel, index)  # [D, s, D, s, Cin, Cout]
    D, s = index.shape
    blocks = taps.transpose(0, 2, 1, 3, 4, 5).reshape(D, D, s * s * kernel.shape[2], kernel.shape[3])
    H, W = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, -H % s), (0, -W % s), (0, 0)))
    padding = [(-low, high)] * 2
    return lax.conv_general_dilated(
        space_to_depth(x, s), blocks, (1, 1), padding, dimension_numbers=_DIMENSIONS
    )


def transposed_convolution(y: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Upsample by zero insertion and filter, in polyphase form: `[B, h, w, Cin] -> [B, s*h, s*w, Cout]`.

    Parameters
    ----------
    y, kernel
        Input, and weights `[K, K, Cin, Cout]` with odd K; `w[p + k]` weighs the input sample that lies
        k output samples before, p = K // 2.
    stride
        s, the upsampling in both directions.
    """
    K = _check_kernel(kernel, y)
    p = K // 2
    low, high = -((K - 1 - p) // stride), (stride - 1 + p) // stride
    d = np.arange(low, high + 1)
    index = np.arange(stride)[None, :] + p - stride * d[:, None]
    taps = _gather_taps(kernel, index)  # [D, s, D, s, Cin, Cout]
    D, s = index.shape
    phases = taps.transpose(0, 2, 4, 1, 3, 5).reshape(D, D, kernel.shape[2], s * s * kernel.shape[3])
    out = lax.conv_general_dilated(y, phases, (1, 1), [(-low, high)] * 2, dimension_numbers=_DIMENSIONS)
    return depth_to_space(out, s)
