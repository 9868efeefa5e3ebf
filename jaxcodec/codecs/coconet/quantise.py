"""From float weights to whole numbers: a step per tensor, and a fine-tuning with rounded weights."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs.coconet.fit import FitSettings, Quantum, fit
from jaxcodec.codecs.coconet.model import NetworkConfig, Params
from jaxcodec.codecs.coconet.weights_file import QuantisedNetwork, limit_of

_LEAST_STEP = 2.0**-14  # the smallest float16 of full precision


def choose_steps(params: Params, bits: int) -> Quantum:
    """Return a step for each tensor of one network, with which its largest weight is the largest number.

    `step = max |w| / (2^(bits - 1) - 1)`, in float16; all biases have one step, for their tensors are small.
    `params` have a leading 1, as `fit` returns them.
    """
    limit = limit_of(bits)

    def step(largest: float) -> jax.Array:
        return jnp.full(1, np.float16(max(largest / limit, _LEAST_STEP)), jnp.float32)

    of_biases = step(max(float(jnp.abs(layer["bias"]).max()) for layer in params))
    kernels = [step(float(jnp.abs(layer["kernel"]).max())) for layer in params]
    return Quantum(tuple({"kernel": kernel, "bias": of_biases} for kernel in kernels), limit)


def quantise(
    params: Params,
    picture: np.ndarray,
    config: NetworkConfig,
    *,
    bits: int,
    tuning: FitSettings | None,
) -> QuantisedNetwork:
    """Round a network that was fitted to a picture.

    Parameters
    ----------
    params
        With a leading 1.
    picture
        uint8 `[H, W, C]`.
    config
        The network's.
    bits
        Of a number, with its sign, 2..12.
    tuning
        How it is fitted on, once steps are chosen, with rounded weights; None for not at all.
    """
    quantum = choose_steps(params, bits)
    if tuning is not None:
        params = fit(picture[None], config, tuning, start=params, quantum=quantum)

    def numbers(weight: jax.Array, step: jax.Array) -> np.ndarray:
        rounded = np.rint(np.asarray(weight[0]) / np.asarray(step)).astype(np.int32)
        return np.clip(rounded, -quantum.limit, quantum.limit)

    kernels, biases = (
        tuple(numbers(layer[name], steps[name]) for layer, steps in zip(params, quantum.steps, strict=True))
        for name in ("kernel", "bias")
    )
    each = [float(steps["kernel"][0]) for steps in quantum.steps] + [float(quantum.steps[0]["bias"][0])]
    return QuantisedNetwork(config, bits, np.array(each, np.float16), kernels, biases)


def tuning_of(settings: FitSettings) -> FitSettings:
    """Return how a fit of these settings goes on with rounded weights: a tenth of the steps and of the rate.

    At half the rate it often ended worse than without.
    """
    return replace(
        settings,
        steps=max(1, settings.steps // 10),
        learning_rate=settings.learning_rate / 10,
        cosine=True,
        seed=settings.seed + 1,
    )
