"""Quantising a network layer by layer, each on what the layers before it, already quantised, let through.

Stock et al. (ICLR 2020), section 3.3: errors of early layers are then weighed, and partly made good, by later ones.
Only unlabelled inputs are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.pq.activations import Apply, find_layers, gram_matrices, input_strengths
from jaxcodec.pq.kmeans import clamp_centroids, weighted_kmeans
from jaxcodec.pq.layouts import count_blocks, rescale, to_blocks
from jaxcodec.pq.parameters import Codes, QuantisedParams, unquantised

_MOST_LEVELS = 2**14

_LEAST = 1e-3
"""No input or output is taken as weaker than this share of the strongest: it may not be as weak elsewhere."""


@dataclass(frozen=True)
class Setting:
    """How finely a layer is quantised.

    Attributes
    ----------
    block
        d, weights to a block.
    centroids
        K wanted, a power of two; small layers get fewer (`jaxcodec.pq.kmeans.clamp_centroids`).
    importance
        How much the network's loss minds errors of each output, `[O]`; None for all alike (the paper's way). With it
        inputs are weighed by their strength too, each by its own, and both factors are stored with the layer. See
        `jaxcodec.pq.activations.output_importance`.
    step
        Instead of k-means, with an importance and a block of 1: the codebook is integers, and this the error that
        one of them stands for, in the units of `importance`. For files with entropy-coded indices, where a codebook
        may be large and most indices are the same: then bits go where they matter.
    """

    block: int
    centroids: int = 256
    importance: np.ndarray | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        if self.step is not None and (self.block != 1 or self.importance is None or not self.step > 0):
            raise ValueError("a step goes with a block of 1 and an importance, and is above 0")


AfterLayer = Callable[[QuantisedParams, str], QuantisedParams]
"""Called after each layer with all so far and the layer's name; returns them as they are to go on, say fine-tuned."""


def quantise(
    apply: Apply,
    params: Mapping[str, Any],
    batch: Any,
    settings: Mapping[str, Setting],
    *,
    key: jax.Array,
    iterations: int = 100,
    weighted: bool = True,
    layers_per_pass: int = 1,
    after_layer: AfterLayer | None = None,
) -> QuantisedParams:
    """Quantise the kernels that have a setting, in the order in which they run.

    Parameters
    ----------
    apply, params
        The network: `apply(params, batch)` runs Flax modules.
    batch
        Unlabelled inputs, some dozens.
    settings
        By name of the kernel, `a/b/kernel`; the other parameters stay as they are.
    key
        Of k-means.
    iterations
        Of k-means.
    weighted
        Whether errors are weighed by the activations; otherwise nothing is run, and weights are clustered as they are.
    layers_per_pass
        Layers whose activations are collected in one pass; 1 in the paper.
    after_layer
        See `AfterLayer`.

    Raises
    ------
    ValueError
        If a kernel is not run by the network, or blocks do not divide it.
    """
    shapes = {layer.name: layer.shape for layer in find_layers(apply, params, batch)}
    unknown = set(settings) - set(shapes)
    if unknown:
        raise ValueError(f"the network runs no {', '.join(sorted(unknown))}; it runs {', '.join(shapes)}")
    order = [name for name in shapes if name in settings]
    for name in order:
        blocks = count_blocks(shapes[name], settings[name].block)
        if clamp_centroids(blocks, settings[name].centroids) < 2:
            raise ValueError(f"{name} has {blocks} blocks, too few for a codebook; leave it out")
    sizes = {name: settings[name].block for name in order}
    scales = _scales(apply, params, batch, settings, shapes)
    factors = {name: both[0] for name, both in scales.items()}
    grams = jax.jit(
        lambda params, batch, key: gram_matrices(apply, params, batch, sizes, key=key, factors=factors)
    )
    current = unquantised(params)
    collected: dict[str, Any] = {}
    for i, name in enumerate(order):
        layer_key = jax.random.fold_in(key, i)
        if weighted and settings[name].step is None and i % layers_per_pass == 0:
            collected = grams(current.dense(), batch, layer_key)
        kernel = np.asarray(current.others[name], np.float32)
        if name in scales:
            kernel = rescale(kernel, 1.0 / scales[name][0], 1.0 / scales[name][1])
        if settings[name].step is not None:
            codebook, indices = _integers(np.asarray(to_blocks(kernel, 1)))
        else:
            codebook, indices = weighted_kmeans(
                to_blocks(kernel, sizes[name]),
                np.asarray(collected[name]) if weighted else None,
                centroids=settings[name].centroids,
                key=layer_key,
                iterations=iterations,
            )
        others = {other: value for other, value in current.others.items() if other != name}
        codes = {**current.codes, name: Codes(codebook, indices, shapes[name], scales.get(name))}
        current = QuantisedParams(codes, others)
        if after_layer is not None:
            current = after_layer(current, name)
    return current


def _scales(
    apply: Apply,
    params: Mapping[str, Any],
    batch: Any,
    settings: Mapping[str, Setting],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Factors of the layers that have an importance, inverse to how much their inputs and outputs matter."""
    wanted = {name: each.importance for name, each in settings.items() if each.importance is not None}
    if not wanted:
        return {}
    strengths = jax.jit(lambda params, batch: input_strengths(apply, params, batch, list(wanted)))(
        params, batch
    )
    scales = {}
    for name, importance in wanted.items():
        # Depthwise kernels have one input, and all that enters them is an output's.
        inputs = _bounded(strengths[name] if shapes[name][-2] > 1 else np.ones(1))
        outputs = _bounded(importance)
        step = settings[name].step
        # The product is what one unit of the codebook stands for; half of it (in logarithms) to either side.
        unit = np.sqrt(inputs.mean() * outputs.mean() if step is None else step)
        ratio = np.sqrt(inputs.mean() / outputs.mean())
        # As the file holds them: codebooks are fitted to what they will be multiplied by.
        both = ((unit * factor).astype(np.float16) for factor in (ratio / inputs, 1.0 / (ratio * outputs)))
        first, second = (jnp.asarray(each.astype(np.float32)) for each in both)
        scales[name] = first, second
    return scales


def _bounded(strength: Any) -> np.ndarray:
    strength = np.asarray(strength, np.float64)
    return np.maximum(strength, _LEAST * strength.max())


def _integers(blocks: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Round `[n, 1]` to integers: those that occur, the last one repeated up to a power of two, and the indices."""
    occurring, indices = np.unique(np.round(blocks[:, 0]), return_inverse=True)
    count = max(2, 1 << (occurring.size - 1).bit_length())
    if count > _MOST_LEVELS:
        raise ValueError(f"a step gives {occurring.size} levels; choose a larger one")
    codebook = np.pad(occurring, (0, count - occurring.size), mode="edge")
    return jnp.asarray(codebook[:, None], jnp.float32), jnp.asarray(indices.reshape(-1), jnp.int32)


def output_error(kernel: Any, approximation: Any, gram: np.ndarray, block: int) -> float:
    """`|X (W - V)|^2 / |X W|^2` of two kernels, blocks taken for themselves; what k-means lowers."""
    blocks, difference = (
        np.asarray(to_blocks(np.asarray(value, np.float64), block))
        for value in (kernel, np.asarray(kernel, np.float64) - np.asarray(approximation, np.float64))
    )
    return float(
        np.einsum("ni,ij,nj->", difference, gram, difference) / np.einsum("ni,ij,nj->", blocks, gram, blocks)
    )
