"""What stands in for the standard codec when ComCNN is trained, and three ways to a gradient through it.

| name        | forward                    | gradient of ComCNN's output                                     |
|-------------|----------------------------|-----------------------------------------------------------------|
| `err_down`  | codec, enlargement, RecCNN | the error, reduced bicubically, as it is: the released code's   |
| `ste_codec` | codec, enlargement, RecCNN | true through RecCNN and enlargement, identity through the codec |
| `no_codec`  | enlargement, RecCNN        | true: the objective in the paper, section III-C                 |

The decoded picture itself is only made by the real codec, between the alternations and, where it has no stand-in,
by a call out of the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs.comcnn.coarseness import luma_table
from jaxcodec.codecs.comcnn.inner import inner_codec
from jaxcodec.codecs.comcnn.model import enlarge, halve
from jaxcodec.ops.bounds import lower_bound
from jaxcodec.ops.quantise import straight_through_round

Surrogate = Literal["err_down", "ste_codec", "no_codec"]
SURROGATES: tuple[Surrogate, ...] = ("err_down", "ste_codec", "no_codec")

BLOCK = 8
_LEVELS = 255.0
_BITS_OF_PLACE = 4.0
_SIGNIFICANT = 0.6


def dct_matrix() -> np.ndarray:
    """The orthonormal DCT-II, float32 `[8, 8]`, a basis function a row: `sqrt(2/8) c_u cos(pi (2x + 1) u / 16)`."""
    u, x = np.mgrid[0:BLOCK, 0:BLOCK]
    matrix = np.sqrt(2.0 / BLOCK) * np.cos(np.pi * (2 * x + 1) * u / (2 * BLOCK))
    matrix[0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


def to_levels(y: jax.Array) -> jax.Array:
    """Samples near [0, 1] to whole levels 0..255, kept as floats, by a gradient that knows of the clipping.

    It is that of `255 y` inside, and outside only where it leads back inside: a clipped sample is not lost.
    """
    clipped = -lower_bound(-lower_bound(y, 0.0), -1.0)
    return straight_through_round(clipped * _LEVELS)


def block_dct(levels: jax.Array) -> jax.Array:
    """DCT coefficients `[B, h/8, w/8, 8, 8]` of levels `[B, h, w, 1]`, h and w multiples of 8, less 128."""
    B, h, w, _ = levels.shape
    D = jnp.asarray(dct_matrix())
    blocks = (levels - 128.0).reshape(B, h // BLOCK, BLOCK, w // BLOCK, BLOCK)
    return jnp.einsum("ui,bricj,vj->brcuv", D, blocks, D)


def inverse_block_dct(coefficients: jax.Array) -> jax.Array:
    """The inverse of `block_dct`."""
    B, rows, columns = coefficients.shape[:3]
    D = jnp.asarray(dct_matrix())
    blocks = jnp.einsum("ui,brcuv,vj->bricj", D, coefficients, D)
    return blocks.reshape(B, rows * BLOCK, columns * BLOCK, 1) + 128.0


def all_luma_tables() -> np.ndarray:
    """The luma tables of libjpeg, float32 `[101, 8, 8]`, by quality; number 0 is that of quality 1."""
    return np.stack([luma_table(max(1, quality)) for quality in range(101)]).astype(np.float32)


def jpeg_stand_in(levels: jax.Array, tables: jax.Array) -> jax.Array:
    """Decode what JPEG would code of levels `[B, h, w, 1]` with luma tables `[B, 8, 8]`: whole levels 0..255.

    The value is that of a JPEG coder with exact arithmetic; libjpeg's integer transform differs in a few samples by a
    level. The gradient is the identity, but where decoding clips.
    """
    steps = tables[:, None, None]
    quantised = straight_through_round(block_dct(levels) / steps) * steps
    return to_levels(inverse_block_dct(quantised) / _LEVELS)


def bits_per_sample(levels: jax.Array, tables: jax.Array) -> jax.Array:
    """Guess the bits per sample that block coding takes, `[B]`, smoothly.

    The mean over the coefficients c, with t = (c / (0.6 step))^6, of `4 t / (1 + t) + log2(1 + (c / step)^2)`: about
    4 bits to say where one is that does not round to 0, and its magnitude. Those well below half a step cost next to
    nothing; a guess that charges for them has ComCNN spend its effort there. The constant term of each block is left
    out, since its neighbours predict it.
    """
    square = jnp.square(block_dct(levels) / tables[:, None, None])
    # Beyond a few steps t is as good as infinite; its cube would overflow.
    t = jnp.minimum(square / _SIGNIFICANT**2, 100.0) ** 3
    bits = _BITS_OF_PLACE * t / (1.0 + t) + jnp.log2(1.0 + square)
    mask = np.ones((BLOCK, BLOCK), np.float32)
    mask[0, 0] = 0.0
    return (bits * jnp.asarray(mask)[None, None, None]).mean((1, 2, 3, 4))


def real_codec(name: str, levels: jax.Array, quality: jax.Array) -> jax.Array:
    """Code and decode levels `[B, h, w, 1]` as one mosaic by the real codec; the gradient is the identity.

    Parameters
    ----------
    name
        `jpeg`, `jpeg2000` or `hevc`.
    levels
        Whole levels 0..255; B a square number.
    quality
        int32 scalar, of the codec.
    """
    codec = inner_codec(name)

    def code(batch: Any, chosen: Any) -> np.ndarray:
        B, h, w, _ = batch.shape
        side = int(np.sqrt(B))
        mosaic = np.asarray(batch).reshape(side, side, h, w).transpose(0, 2, 1, 3).reshape(side * h, side * w)
        decoded = codec.decode(codec.encode(mosaic.astype(np.uint8), int(chosen)))
        tiles = decoded.reshape(side, h, side, w).transpose(0, 2, 1, 3).reshape(B, h, w, 1)
        return tiles.astype(np.float32)

    shape = jax.ShapeDtypeStruct(levels.shape, jnp.float32)
    decoded = jax.pure_callback(code, shape, jax.lax.stop_gradient(levels), quality)
    return levels + jax.lax.stop_gradient(decoded - levels)


def restoration_loss(
    surrogate: Surrogate,
    *,
    y: jax.Array,
    x: jax.Array,
    code: Callable[[jax.Array], jax.Array],
    restore: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """A loss per picture whose gradient along y is the surrogate's, and the mean squared error.

    Parameters
    ----------
    surrogate
        One of `SURROGATES`.
    y
        ComCNN's picture `[B, h, w, 1]`, near [0, 1].
    x
        The original `[B, 2h, 2w, 1]` in [0, 1].
    code
        From whole levels 0..255 to decoded ones, with the identity's gradient.
    restore
        From an enlarged picture in [0, 1] to the restored one: RecCNN, frozen.

    Returns
    -------
    tuple
        `[B]` each; for `err_down` the first is the inner product of the reduced error with y, whose value says nothing.
    """
    decoded = y if surrogate == "no_codec" else code(to_levels(y)) / _LEVELS
    error = restore(enlarge(decoded)) - x
    mse = jnp.square(error).mean((1, 2, 3))
    if surrogate != "err_down":
        return mse, mse
    injected = jax.lax.stop_gradient(halve(error))
    return 2.0 * (injected * y).mean((1, 2, 3)), mse
