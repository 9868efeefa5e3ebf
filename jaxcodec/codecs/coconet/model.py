"""CocoNet's network: a multilayer perceptron from a pixel's coordinates to its colour, pure functions on parameters.

Parameters are a tuple with a `{"kernel": [fan_in, fan_out], "bias": [fan_out]}` per layer; for B pictures at once all
have a leading B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs.coconet.grid import INPUTS, Inputs, coordinates, enlarged_size, input_count
from jaxcodec.errors import BadOption

Activation = Literal["tanh", "sine"]
ACTIVATIONS: tuple[Activation, ...] = ("tanh", "sine")
"""An activation's number in a file is its position here; append only."""

MAX_WIDTH, MAX_DEPTH, MAX_OCTAVES = 512, 64, 16

FREQUENCY = 30.0
"""w of `sin(w (x W + b))`, Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions",
NeurIPS 2020, section 3.2."""

FIRST_RANGE = 0.05
"""The first kernel is uniform in +- this, Keras' `random_uniform`."""

POINTS = 4096
"""Pixels that are evaluated at once: pictures of all sizes share the compiled program."""

Params = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class NetworkConfig:
    """What a network looks like; the default is the one of the paper's code.

    Attributes
    ----------
    width, depth
        Units of a hidden layer, 1..512, and hidden layers, 1..64.
    activation
        `"tanh"`, or `"sine"` (SIREN).
    inputs
        How coordinates are given; see `jaxcodec.codecs.coconet.grid.coordinates`.
    octaves
        Of the inputs `"fourier"`, 1..16; 0 for all others.
    channels
        3 for colour, 1 for grey.

    Raises
    ------
    BadOption
        If a field is outside of this.
    """

    width: int = 100
    depth: int = 10
    activation: Activation = "tanh"
    inputs: Inputs = "corner"
    octaves: int = 0
    channels: int = 3

    def __post_init__(self) -> None:
        for field, valid in (
            ("width", 1 <= self.width <= MAX_WIDTH),
            ("depth", 1 <= self.depth <= MAX_DEPTH),
            ("activation", self.activation in ACTIVATIONS),
            ("inputs", self.inputs in INPUTS),
            ("octaves", (1 if self.inputs == "fourier" else 0) <= self.octaves <= MAX_OCTAVES),
            ("octaves", self.inputs == "fourier" or self.octaves == 0),
            ("channels", self.channels in (1, 3)),
        ):
            if not valid:
                raise BadOption(
                    f"a network of CocoNet cannot have {field} {getattr(self, field)!r}; see NetworkConfig"
                )

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """Fan-in and fan-out of each layer, the output's last."""
        first = input_count(self.inputs, self.octaves)
        sizes = [first, *[self.width] * self.depth, self.channels]
        return tuple(pairwise(sizes))

    @property
    def parameter_count(self) -> int:
        """Weights and biases: 91,903 by default."""
        return sum(fan_in * fan_out + fan_out for fan_in, fan_out in self.layer_shapes)


def init(key: jax.Array, config: NetworkConfig) -> Params:
    """Return random parameters, float32.

    Notes
    -----
    For tanh those of the authors' code: the first kernel uniform in +-0.05, the others Glorot-uniform, biases zero. For
    the sine those of SIREN's section 3.2: the first kernel uniform in +-1 / fan_in, the others in +-sqrt(6 / fan_in) /
    w, but for the output, which goes through a sigmoid and is Glorot-uniform.
    """
    shapes = config.layer_shapes
    layers, start = [], 0
    # All at once: a program for each layer's shape would take seconds to compile.
    draws = jax.random.uniform(key, (sum(a * b for a, b in shapes),), jnp.float32, -1.0, 1.0)
    for number, (fan_in, fan_out) in enumerate(shapes):
        bound = (6.0 / (fan_in + fan_out)) ** 0.5
        if config.activation == "sine" and number < config.depth:
            bound = 1.0 / fan_in if number == 0 else (6.0 / fan_in) ** 0.5 / FREQUENCY
        elif number == 0:
            bound = FIRST_RANGE
        kernel = bound * draws[start : start + fan_in * fan_out].reshape(fan_in, fan_out)
        start += fan_in * fan_out
        layers.append({"kernel": kernel, "bias": jnp.zeros(fan_out, jnp.float32)})
    return tuple(layers)


def apply(params: Params, inputs: jax.Array, config: NetworkConfig) -> jax.Array:
    """Return the colours of pixels.

    Parameters
    ----------
    params
        Of one picture.
    inputs
        float32 `[N, F]`, of `coordinates`.
    config
        The network's.

    Returns
    -------
    jax.Array
        float32 `[N, C]` in 0..1: `sigmoid(a(... a(inputs W_1 + b_1) ...) W + b)`.
    """
    x = inputs
    for layer in params[:-1]:
        x = _affine(x, layer)
        x = jnp.tanh(x) if config.activation == "tanh" else jnp.sin(FREQUENCY * x)
    return jax.nn.sigmoid(_affine(x, params[-1]))


def _affine(x: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
    # Not TF32 or bfloat16, an accelerator's default: sines of 30 x would lose their phase.
    product = jnp.dot(x, layer["kernel"], precision=jax.lax.Precision.HIGHEST)
    return product + layer["bias"][None]


@partial(jax.jit, static_argnames="config")
def _levels(params: Params, inputs: jax.Array, config: NetworkConfig) -> jax.Array:
    return jnp.round(255.0 * apply(params, inputs, config)).astype(jnp.uint8)


def render(
    params: Params,
    height: int,
    width: int,
    config: NetworkConfig,
    *,
    factor: float = 1.0,
    aligned: bool = True,
) -> np.ndarray:
    """Return the picture that a network holds, of any size, uint8 `[h, w, 3]`, or `[h, w]` with one channel.

    Parameters
    ----------
    params, config
        The network, of one picture.
    height, width
        Of the picture it was fitted to.
    factor, aligned
        How much larger, and on which grid; see `coordinates`.

    Notes
    -----
    The original truncates `255 x` to uint8, which is half a level too dark on average; here it is rounded.
    """
    h, w = enlarged_size(height, width, factor)
    result = np.empty((h * w, config.channels), np.uint8)
    for start in range(0, h * w, POINTS):
        points = coordinates(
            height,
            width,
            inputs=config.inputs,
            octaves=config.octaves,
            factor=factor,
            aligned=aligned,
            pixels=range(start, min(start + POINTS, h * w)),
        )
        count = len(points)
        if count < POINTS:
            points = np.concatenate([points, np.zeros((POINTS - count, points.shape[1]), np.float32)])
        result[start : start + count] = np.asarray(_levels(params, jnp.asarray(points), config))[:count]
    return result.reshape(h, w) if config.channels == 1 else result.reshape(h, w, config.channels)
