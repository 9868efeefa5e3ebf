"""The parameters of a network some of whose kernels are quantised: a pytree, and the way to and from the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcodec.pq.artefact import Artefact, CodedKernel
from jaxcodec.pq.layouts import from_blocks, rescale
from jaxcodec.pq.size import CodedLayer


@flax.struct.dataclass
class Codes:
    """A quantised kernel.

    Attributes
    ----------
    codebook
        float32 `[K, d]`.
    indices
        int32 `[n]`.
    shape
        Of the kernel, `[*K, I, O]`.
    scales
        Factors of inputs `[I]` and of outputs `[O]`, or None.
    """

    codebook: jax.Array
    indices: jax.Array
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    scales: tuple[jax.Array, jax.Array] | None = None

    def dense(self) -> jax.Array:
        """The kernel. Its gradient reaches a centroid as the sum over the blocks that have it."""
        kernel = from_blocks(jnp.take(self.codebook, self.indices, axis=0), self.shape)
        return kernel if self.scales is None else rescale(kernel, *self.scales)

    def as_layer(self) -> CodedLayer:
        """What its size depends on."""
        return CodedLayer(self.shape, self.codebook.shape[1], self.codebook.shape[0], self.scales is not None)

    def with_codebook(self, codebook: jax.Array) -> Codes:
        """The same indices and scales with another codebook."""
        return Codes(codebook, self.indices, self.shape, self.scales)


@flax.struct.dataclass
class QuantisedParams:
    """A network's parameters.

    Attributes
    ----------
    codes
        The quantised kernels by name, `a/b/kernel`.
    others
        All other parameters by name.
    """

    codes: dict[str, Codes]
    others: dict[str, jax.Array]

    def dense(self) -> dict[str, Any]:
        """Nested parameters, as `module.apply({"params": ...})` takes them."""
        kernels = {name: codes.dense() for name, codes in self.codes.items()}
        return unflatten_dict({**self.others, **kernels}, sep="/")

    def as_stored(self, dtype: type = np.float16) -> QuantisedParams:
        """With codebooks as float16 and others as `dtype` hold them: what must be evaluated."""
        codes = {
            name: each.with_codebook(each.codebook.astype(jnp.float16).astype(jnp.float32))
            for name, each in self.codes.items()
        }
        others = {
            name: jnp.asarray(value).astype(dtype).astype(jnp.float32) for name, value in self.others.items()
        }
        return QuantisedParams(codes, others)


def _halves(scales: tuple[jax.Array, jax.Array]) -> tuple[np.ndarray, np.ndarray]:
    inputs, outputs = (np.asarray(scale).astype(np.float16) for scale in scales)
    return inputs, outputs


def unquantised(params: Mapping[str, Any]) -> QuantisedParams:
    """Parameters none of which is quantised yet."""
    flat = flatten_dict(dict(params), sep="/")
    return QuantisedParams({}, {name: jnp.asarray(value) for name, value in flat.items()})


def to_artefact(
    quantised: QuantisedParams, *, architecture: str, config: Mapping[str, Any], dtype: type = np.float16
) -> Artefact:
    """What `jaxcodec.pq.artefact.write_artefact` writes; others as `dtype`, float16 or float32.

    Raises
    ------
    ValueError
        If a number is too large for the type.
    """
    kernels = {
        name: CodedKernel(
            each.shape,
            np.asarray(each.codebook).astype(np.float16),
            np.asarray(each.indices),
            None if each.scales is None else _halves(each.scales),
        )
        for name, each in quantised.codes.items()
    }
    others = {name: np.asarray(value).astype(dtype) for name, value in quantised.others.items()}
    arrays = {name: kernel.codebook for name, kernel in kernels.items()} | others
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} does not fit {value.dtype}; it cannot be exported")
    return Artefact(architecture, dict(config), kernels, others)
