r"""Strided and transposed convolutions with "same" zero padding (or none), anchored at the first pixel.

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

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxcodec.ops.space_depth import depth_to_space, space_to_depth

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

_FEW_POSITIONS = 16
"""Maps of at most so many positions are convolved as one matrix product. On a CPU the gradients of XLA's own
convolution take 10 times as long at 2x2 and 4x4 positions."""

_WIDE = 256
"""From so many output channels on, the kernel's gradient is computed tap by tap on a CPU."""


def _blocks_of_taps(kernel: jax.Array, *, first: int, blocks: int, block: int) -> jax.Array:
    """`w[first + s a + r, first + s b + q]` for s = `block`, zeros outside: `[D, s, D, s, Cin, Cout]`.

    The taps are contiguous, so this is a padding and a reshape; a gather would need a scatter for its gradient.
    """
    size = kernel.shape[0]
    sides = (-first, first + blocks * block - size)
    padded = jnp.pad(kernel, (sides, sides, (0, 0), (0, 0)))
    return padded.reshape(blocks, block, blocks, block, *kernel.shape[2:])


def _check_kernel(kernel: jax.Array, x: jax.Array) -> int:
    if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"kernel must be [K, K, Cin, Cout] with odd K, got {list(kernel.shape)}")
    if x.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(f"kernel {list(kernel.shape)} does not fit an input of shape {list(x.shape)}")
    return kernel.shape[0]


Padding = Literal["same", "valid"]


def _as_one_product(x: jax.Array, kernel: jax.Array, stride: int, p: int) -> jax.Array:
    """`strided_convolution` by copying what each output sees, `[B h w, K K Cin]`, and one matrix product."""
    K, _, C, features = kernel.shape
    B, H, W, _ = x.shape
    h, w = ((n + 2 * p - K) // stride + 1 for n in (H, W))
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    ends = [(n - 1) * stride + 1 for n in (h, w)]
    seen = [
        lax.slice(x, (0, i, j, 0), (B, i + ends[0], j + ends[1], C), (1, stride, stride, 1))
        for i in range(K)
        for j in range(K)
    ]
    product = jnp.concatenate(seen, axis=-1).reshape(B * h * w, K * K * C) @ kernel.reshape(-1, features)
    return product.reshape(B, h, w, features)


def _wide_convolution(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """Stride 1, with many more outputs than inputs."""
    return lax.conv_general_dilated(x, kernel, (1, 1), [padding] * 2, dimension_numbers=_DIMENSIONS)


# On a CPU the gradient for such a kernel, as XLA convolves it, takes three times as long as one matrix product per
# tap. It is enough to write down the derivative along the kernel in that form: the gradient is its transpose.
_wide_convolution_on_cpu = jax.custom_jvp(_wide_convolution, nondiff_argnums=(2,))


@partial(_wide_convolution_on_cpu.defjvp)
def _wide_convolution_jvp(
    padding: tuple[int, int], primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _wide_convolution(x, kernel, padding)
    padded = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    by_taps = sum(
        padded[:, i : i + y.shape[1], j : j + y.shape[2]] @ dkernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )
    return y, _wide_convolution(dx, kernel, padding) + by_taps


def strided_convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    space_to_depth_first: bool = False,
    padding: Padding = "same",
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
    padding
        `valid` pads nothing, for an input of at least K: `out[i] = sum_t x[s i + t] w[t]`, and
        `floor((n - K) / s) + 1` of them.
    """
    K = _check_kernel(kernel, x)
    p = K // 2 if padding == "same" else 0
    h, w = ((n + 2 * p - K) // stride + 1 for n in x.shape[1:3])
    if h * w <= _FEW_POSITIONS:
        return _as_one_product(x, kernel, stride, p)
    if stride == 1 or padding == "valid":
        return _plain_convolution(x, kernel, stride, p)
    if space_to_depth_first:
        return _space_to_depth_convolution(x, kernel, stride)
    if jax.default_backend() == "cpu":
        return _strided_on_cpu(x, kernel, stride)
    return _plain_convolution(x, kernel, stride, p)


def _plain_convolution(x: jax.Array, kernel: jax.Array, stride: int, p: int) -> jax.Array:
    # p on both sides gives ceil(n / s) outputs for any n, though the last p may be read in part only.
    # Unequal sides would cost a copy: cuDNN knows equal padding only, so XLA pads the rest beforehand.
    strides, sides = (stride, stride), [(p, p)] * 2
    return lax.conv_general_dilated(x, kernel, strides, sides, dimension_numbers=_DIMENSIONS)


def _space_to_depth_convolution(x: jax.Array, kernel: jax.Array, s: int) -> jax.Array:
    """The same at stride 1, over the s*s pixels of a block as channels."""
    K = kernel.shape[0]
    p = K // 2
    # t - p = s d + r: the taps of block d at phase r.
    low, high = -p // s, (K - 1 - p) // s
    D = high - low + 1
    taps = _blocks_of_taps(kernel, first=s * low + p, blocks=D, block=s)
    blocks = taps.transpose(0, 2, 1, 3, 4, 5).reshape(D, D, s * s * kernel.shape[2], kernel.shape[3])
    H, W = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, -H % s), (0, -W % s), (0, 0)))
    sides = [(-low, high)] * 2
    return lax.conv_general_dilated(
        space_to_depth(x, s), blocks, (1, 1), sides, dimension_numbers=_DIMENSIONS
    )


# The gradient of the input of a strided convolution is one over inserted zeros, which XLA multiplies on a CPU. As
# above, the derivative along the input is written in a form whose transpose has none.
@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _strided_on_cpu(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return _plain_convolution(x, kernel, stride, kernel.shape[0] // 2)


@_strided_on_cpu.defjvp
def _strided_jvp(
    stride: int, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    p = kernel.shape[0] // 2
    along = _space_to_depth_convolution(dx, kernel, stride) + _plain_convolution(x, dkernel, stride, p)
    return _plain_convolution(x, kernel, stride, p), along


def transposed_convolution(
    y: jax.Array, kernel: jax.Array, *, stride: int, bias: jax.Array | None = None
) -> jax.Array:
    """Upsample by zero insertion and filter, in polyphase form: `[B, h, w, Cin] -> [B, s*h, s*w, Cout]`.

    Parameters
    ----------
    y, kernel
        Input, and weights `[K, K, Cin, Cout]` with odd K; `w[p + k]` weighs the input sample that lies
        k output samples before, p = K // 2.
    stride
        s, the upsampling in both directions.
    bias
        Added to the output channels, `[Cout]`.
    """
    K = _check_kernel(kernel, y)
    p = K // 2
    low, high = -((K - 1 - p) // stride), (stride - 1 + p) // stride
    s, D = stride, high - low + 1
    # Taps of phase r and block d: r + p - s d, which rise with r and fall with d.
    taps = _blocks_of_taps(kernel, first=p - s * high, blocks=D, block=s)[::-1, :, ::-1]
    phases = taps.transpose(0, 2, 4, 1, 3, 5).reshape(D, D, kernel.shape[2], s * s * kernel.shape[3])
    wide = jax.default_backend() == "cpu" and phases.shape[3] >= _WIDE
    out = (_wide_convolution_on_cpu if wide else _wide_convolution)(y, phases, (-low, high))
    if bias is not None:
        # Before the phases are interleaved: after, XLA would hand cuDNN the bias as a whole picture.
        out = out + jnp.broadcast_to(jnp.tile(bias, s * s), out.shape)
    return depth_to_space(out, s)
