"""The networks of balle2017 or bmshj2018 in few bytes: `scripts/export_weights.py --pq` calls this.

Kernels become codebooks and indices, each input and output weighed by what photos say of its importance; then
codebooks and what is left in float16 are trained on rate and distortion. The prior is left out: coding has no use for
it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.data.crops import PhotoStore, random_crops
from jaxcodec.ops.quantise import additive_uniform_noise
from jaxcodec.pq.activations import output_importance
from jaxcodec.pq.finetune import Tuner
from jaxcodec.pq.parameters import QuantisedParams
from jaxcodec.pq.quantise import Setting, quantise
from jaxcodec.zoo.weights import Weights, flatten

CROP_SIZE = 128
"""Pixels per side of what it is tuned on."""

_ACTIVATIONS = 16
_ITERATIONS = 20


@dataclass(frozen=True)
class TransformQuantisation:
    """How to quantise.

    Attributes
    ----------
    block
        Weights to a block; 1 is scalar quantisation with entropy-coded indices.
    centroids
        Of a codebook, for larger blocks.
    step
        For blocks of 1: see `jaxcodec.pq.quantise.Setting`.
    steps, learning_rate, batch_size
        Of the updates that follow, by Adam with a cosine from that rate, on so many crops each.
    """

    block: int = 1
    centroids: int = 1024
    step: float = 1e-3
    steps: int = 200
    learning_rate: float = 3e-4
    batch_size: int = 4


@functools.cache
def _programs(config: TransformConfig) -> tuple[Callable[[Any, Any], Any], Callable[..., jax.Array], Tuner]:
    """The network as `apply(params, x)`, a probe of what its outputs mind, and the tuner on rate and distortion."""
    coder = TransformCoder(config)

    def rounded(params: Any, x: jax.Array) -> Any:
        return coder.apply({"params": params}, x, quantise=jnp.round)

    def loss(params: Any, batch: Any, *, key: jax.Array) -> jax.Array:
        crops, weight = batch
        x = crops.astype(jnp.float32) / 255.0
        coded: Any = coder.apply({"params": params}, x, quantise=partial(additive_uniform_noise, key=key))
        reconstruction, likelihoods = coded
        bpp = -jnp.log2(likelihoods).sum() / math.prod(x.shape[:3])
        return bpp + weight * 255.0**2 * jnp.mean(jnp.square(reconstruction - x))

    def probe(params: Any, batch: Any) -> jax.Array:
        # With u, v random, the mean squared gradient of u . x^ + v . y along a layer's output e is what errors there do
        # to pixels and latents: |dx^/de|^2 + |dy/de|^2, each in the units of the loss (a bit per squared latent).
        x, weight = batch
        y: Any = coder.apply({"params": params}, x, method=coder.analyse)
        decoded: Any = coder.apply({"params": params}, y, method=coder.synthesise)
        u, v = (jax.random.normal(jax.random.key(i), a.shape) for i, a in ((5, decoded), (6, y)))
        scale = jnp.sqrt(weight * 255.0**2 / config.image_channels)
        return scale * jnp.vdot(u, decoded) + jnp.vdot(v, y)

    return rounded, probe, Tuner(loss, optax.chain(optax.scale_by_adam(), optax.scale(-1.0)))


def quantise_transform(
    weights: Weights, weight: float, store: PhotoStore, settings: TransformQuantisation
) -> QuantisedParams:
    """Quantise and tune analysis and synthesis.

    Parameters
    ----------
    weights
        Of balle2017 or bmshj2018, dense and with the prior.
    weight
        Of 255^2 * MSE against bits per pixel.
    store
        Photos, of `CROP_SIZE` pixels a side at least.
    settings
        How.
    """
    rounded, probe, tuner = _programs(TransformConfig(**weights.config))
    crops = random_crops(store, key=jax.random.key(1), batch_size=_ACTIVATIONS, crop_size=CROP_SIZE)
    x = crops.astype(jnp.float32) / 255.0
    names = [name for name in flatten(weights.params) if name.endswith("kernel")]
    pixels = math.prod(crops.shape[:3])
    found = output_importance(probe, weights.params, (x, jnp.float32(weight)), names)
    importance = {name: np.asarray(value) / math.sqrt(pixels) for name, value in found.items()}
    start = quantise(
        rounded,
        weights.params,
        x,
        {
            name: Setting(1, importance=importance[name], step=settings.step)
            if settings.block == 1
            else Setting(settings.block, settings.centroids, importance[name])
            for name in names
        },
        key=jax.random.key(0),
        iterations=_ITERATIONS,
    )
    draw = jax.jit(partial(random_crops, batch_size=settings.batch_size, crop_size=CROP_SIZE))
    tuned, losses = tuner.tune(
        start,
        ((draw(store, key=jax.random.key(2 + i)), jnp.float32(weight)) for i in range(settings.steps)),
        learning_rate=lambda step: (
            settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        ),
        key=jax.random.key(0),
        train_others=True,
    )
    if losses:
        tenth = max(1, len(losses) // 10)
        shown = [f"{np.mean(losses[i : i + tenth]):.3f}" for i in range(0, len(losses), tenth)]
        print(f"{weights.path.name}: loss {' '.join(shown)}", flush=True)
    others = {name: value for name, value in tuned.others.items() if not name.startswith("prior/")}
    return QuantisedParams(tuned.codes, others)
