"""Kernels as rows of blocks, and back: what product quantisation cuts up. Works on numpy and on jax arrays alike.

Kernels have Flax's layouts, `[*K, I, O]`: `[K, K, I, O]` of convolutions (`[K, K, 1, C]` of depthwise ones,
`[1, 1, I, O]` of pointwise ones), `[I, O]` of dense layers. They are cut in the order O, I, *K, as in the paper:

    blocks[o m + j] = kernel[:, ..., :, o] as (I, *K), elements j d .. (j + 1) d - 1,     m = I prod(K) / d

so a block of d = 9 of a 3x3 convolution is one spatial kernel, one of 4 of a pointwise or dense layer is four inputs of
one output, and one of 5 of a 5x5 convolution is a row of a spatial kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def count_blocks(shape: Sequence[int], block: int) -> int:
    """Blocks of `block` weights in a kernel of `shape` `[*K, I, O]`.

    Raises
    ------
    ValueError
        If the weights of an output are no multiple of `block`.
    """
    inputs = math.prod(shape[:-1])
    if len(shape) < 2 or block < 1 or inputs % block:
        raise ValueError(
            f"a kernel of shape {list(shape)} has {inputs} weights to an output, which blocks of {block} do not divide"
        )
    return inputs // block * shape[-1]


def to_blocks(kernel: Any, block: int) -> Any:
    """Cut a kernel `[*K, I, O]` into `[n, block]`; `ValueError` as `count_blocks`."""
    count = count_blocks(kernel.shape, block)
    rank = kernel.ndim
    return kernel.transpose(rank - 1, rank - 2, *range(rank - 2)).reshape(count, block)


def rescale(kernel: Any, inputs: Any, outputs: Any) -> Any:
    """Multiply a kernel `[*K, I, O]` by factors of its inputs `[I]` and of its outputs `[O]`."""
    lead = (1,) * (kernel.ndim - 2)
    return kernel * inputs.reshape(*lead, -1, 1) * outputs.reshape(*lead, 1, -1)


def from_blocks(blocks: Any, shape: Sequence[int]) -> Any:
    """Undo `to_blocks`: the kernel of `shape` `[*K, I, O]` whose blocks are `[n, d]`.

    Raises
    ------
    ValueError
        If there are more or fewer weights than the shape has.
    """
    if math.prod(blocks.shape) != math.prod(shape):
        raise ValueError(f"blocks {list(blocks.shape)} do not make a kernel of shape {list(shape)}")
    *spatial, inputs, outputs = shape
    rank = len(shape)
    return blocks.reshape(outputs, inputs, *spatial).transpose(*range(2, rank), 1, 0)
