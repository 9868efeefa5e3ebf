"""How large a quantised network is, by the paper's formula.

Stock et al. (ICLR 2020), section 4.1; it gives the sizes of their tables to the bit:

    bits = sum over layers of (weights / d) log2 K + 16 K d,   + 32 bits for every parameter left as it is,

where running means and variances of batch norm do not count (they can be folded). Sizes in MiB, 2^20 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxcodec.pq.layouts import count_blocks


@dataclass(frozen=True)
class CodedLayer:
    """A layer as far as its size goes.

    Attributes
    ----------
    shape
        Of the kernel, `[*K, I, O]`.
    block
        d, weights to a block.
    centroids
        K, a power of two, already clamped (`jaxcodec.pq.kmeans.clamp_centroids`).
    scaled
        Whether inputs and outputs have scales, which the paper has not.
    """

    shape: tuple[int, ...]
    block: int
    centroids: int
    scaled: bool = False

    @property
    def index_bits(self) -> int:
        """Bits of all indices, `(weights / d) log2 K`."""
        return count_blocks(self.shape, self.block) * index_width(self.centroids)

    @property
    def codebook_bits(self) -> int:
        """Bits of the codebook in float16, `16 K d`."""
        return 16 * self.centroids * self.block

    @property
    def scale_bits(self) -> int:
        """Bits of the scales in float16, `16 (I + O)`; 0 without."""
        return 16 * sum(self.shape[-2:]) if self.scaled else 0


def index_width(centroids: int) -> int:
    """log2 K; `ValueError` if K is no power of two."""
    if centroids < 1 or centroids & (centroids - 1):
        raise ValueError(f"{centroids} centroids are no power of two")
    return centroids.bit_length() - 1


def size_in_bits(layers: Iterable[CodedLayer], other_parameters: int, *, bits_of_others: int = 32) -> int:
    """The formula of this module.

    Parameters
    ----------
    layers
        The quantised ones.
    other_parameters
        How many parameters are left as they are.
    bits_of_others
        Of each of these.
    """
    coded = sum(layer.index_bits + layer.codebook_bits + layer.scale_bits for layer in layers)
    return coded + bits_of_others * other_parameters


def count_others(shapes: Mapping[str, Sequence[int]], quantised: Iterable[str]) -> int:
    """Parameters of a network, by name and shape, that are not among the quantised ones."""
    names = set(quantised)
    return sum(math.prod(shape) for name, shape in shapes.items() if name not in names)


def mebibytes(bits: int) -> float:
    """`bits / 8 / 2^20`."""
    return bits / 8.0 / 2**20
