"""BinaryRNN, the entropy model of the codes of a recurrent codec, in floats: for training.

Toderici et al., "Full resolution image compression with recurrent neural networks", CVPR 2017, section 4.1. Each
bit of iteration k at a position is predicted from the bits before that position (rows above and to the left,
7x7 masked convolution and an LSTM over rows) and from the state that earlier iterations left (an LSTM over
iterations); the D bits of a position are independent given these. What codes with it is
`jaxcodec.entropy.binary_rnn_integer`; training sees that network's rounding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxcodec.entropy.binary_rnn_integer import (
    ABOVE,
    ACTIVATION_LIMIT,
    ACTIVATION_UNIT,
    AROUND,
    CELL_LIMIT,
    GATE_UNIT,
    INDEX_UNIT,
    LEFT,
    LayerShape,
    Taps,
    layer_shapes,
)
from jaxcodec.ops.quantise import Quantiser, straight_through_round

WEIGHT_LIMIT = 127
MAX_EXPONENT = 12
CONFIDENCE = 0.999
"""The largest |2 P - 1|: no bit is ever certain, and the worst surprise costs 11 bits."""


@dataclass(frozen=True)
class BinaryRNNConfig:
    """The network.

    Attributes
    ----------
    iterations
        T, at least 2.
    bits
        D, per position and iteration.
    depth
        F, channels of all hidden layers; 64 in the paper.
    shortcut
        Whether the output also sees, linearly and at once, the bits before it and those of the last iteration around
        it. The paper has none; with one, training takes a fraction of the steps, because D bits need
        not first be told apart through F channels.
    """

    iterations: int
    bits: int = 32
    depth: int = 64
    shortcut: bool = True

    def __post_init__(self) -> None:
        if self.iterations < 2 or self.bits < 1 or self.depth < 1:
            raise ValueError(f"BinaryRNN needs 2 iterations, a bit and a channel at least, got {self}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a weight file."""
        return asdict(self)

    @property
    def shapes(self) -> dict[str, LayerShape]:
        """Of all layers."""
        return layer_shapes(**self.to_dict())


def weight_exponent(kernel: jax.Array, *, unit: int) -> jax.Array:
    """The e of each output channel, float32 `[copies, outputs]`: weights are integers of at most 127 times 2^-e.

    The largest that holds the channel's weights, but not so small that sums (whose unit is that of the inputs
    times 2^-e) would be coarser than the tables that follow.
    """
    largest = jnp.abs(kernel).max(-2)
    return jnp.clip(jnp.floor(jnp.log2(WEIGHT_LIMIT / largest)), INDEX_UNIT - unit, MAX_EXPONENT)


def integer_weights(kernel: jax.Array, exponent: jax.Array, *, quantise: Quantiser) -> jax.Array:
    """Weights in units of 2^-e, -127..127; what lies beyond (it takes weights above 31) is clipped."""
    scaled = kernel * jnp.exp2(exponent)[:, None, :]
    return jnp.clip(quantise(scaled), -WEIGHT_LIMIT, WEIGHT_LIMIT)


def neighbourhood(x: jax.Array, taps: Taps) -> jax.Array:
    """Channels of several neighbours side by side, zeros outside: `[..., h, w, C] -> [..., h, w, n C]`."""
    for axis, offsets in ((x.ndim - 2, taps.columns), (x.ndim - 3, taps.rows)):
        before, after = -min(0, *offsets, 0), max(0, *offsets, 0)
        padded = jnp.pad(x, [(before, after) if a == axis else (0, 0) for a in range(x.ndim)])
        size = x.shape[axis]
        shifted = [lax.slice_in_dim(padded, before + o, before + o + size, axis=axis) for o in offsets]
        x = jnp.concatenate(shifted, axis=-1)
    return x


class BinaryRNN(nn.Module):
    """Code length of codes `[B, t, h, w, D]`, `t <= T`.

    Attributes
    ----------
    config
        T, D and F.
    """

    config: BinaryRNNConfig

    def setup(self) -> None:
        """One stacked kernel per layer."""
        self.kernels = {
            name: self.param(
                f"{name}_kernel", _kernel(name, self.config), (shape.copies, shape.inputs, shape.outputs)
            )
            for name, shape in self.config.shapes.items()
        }
        self.biases = {
            name: self.param(f"{name}_bias", _bias(name), (shape.copies, shape.outputs))
            for name, shape in self.config.shapes.items()
        }

    def __call__(self, codes: jax.Array, *, quantise: Quantiser = straight_through_round) -> jax.Array:
        """Bits that each binary code costs, float32 `[B, t, h, w, D]`.

        Parameters
        ----------
        codes
            +1 or -1.
        quantise
            How weights and activations are rounded; the identity gives the network that is not quantised.

        Returns
        -------
        jax.Array
            `-log2((1 + 0.999 code tanh v) / 2)` for the logits v.
        """
        agreement = codes * jnp.tanh(self.logits(codes, quantise=quantise))
        return -jnp.log2(0.5 + 0.5 * CONFIDENCE * agreement)

    def logits(self, codes: jax.Array, *, quantise: Quantiser = straight_through_round) -> jax.Array:
        """The v of each code, given those before it: float32 `[B, t, h, w, D]`, P(+1) = (1 + 0.999 tanh v) / 2."""
        if codes.ndim != 5 or codes.shape[-1] != self.config.bits or codes.shape[1] > self.config.iterations:
            raise ValueError(f"codes {codes.shape} do not fit {self.config}")
        t, F = codes.shape[1], self.config.depth
        x = jnp.moveaxis(codes.astype(jnp.float32), 1, 0)
        state = self._states(x, quantise)
        before = jnp.concatenate([neighbourhood(x, ABOVE), neighbourhood(x, LEFT)], -1)
        read = self._tanh("context", before, quantise)
        seen = self._tanh("state_context", neighbourhood(state, AROUND), quantise)
        both = [neighbourhood(a, Taps((0,), (-1, 0))) for a in (read, seen)]
        kernel, bias = (a[:t] for a in self._parameters("line", quantise))
        gates = _product(jnp.concatenate(both, -1), kernel[:, : 4 * F], bias)

        def row(carry: Any, gates: jax.Array) -> tuple[Any, jax.Array]:
            c, h = carry
            around = neighbourhood(h, Taps((0,), (-1, 0, 1)))
            c, h = _lstm(gates + jnp.einsum("tbhwi,tio->tbhwo", around, kernel[:, 4 * F :]), c, quantise)
            return (c, h), h

        zeros = jnp.zeros((*read.shape[:2], 1, *read.shape[3:]), jnp.float32)
        _, h = lax.scan(row, (zeros, zeros), jnp.moveaxis(gates, 2, 0)[:, :, :, None])
        h = jnp.moveaxis(h[:, :, :, 0], 0, 2)
        hidden = self._tanh("output_hidden", h, quantise)
        if self.config.shortcut:
            last = jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])
            hidden = jnp.concatenate([hidden, 0.5 * before, 0.5 * neighbourhood(last, AROUND)], -1)
        return jnp.moveaxis(_grid(self._layer("output", hidden, quantise), INDEX_UNIT, quantise), 0, 1)

    def _states(self, x: jax.Array, quantise: Quantiser) -> jax.Array:
        """What each iteration knows of those before it, `[t, B, h, w, D]`; the first knows nothing."""
        first = jnp.zeros_like(x[:1])
        if x.shape[0] == 1:
            return first
        summary = self._tanh("summary_hidden", neighbourhood(x[:-1], AROUND), quantise)
        summary = self._tanh("summary", neighbourhood(summary, AROUND), quantise)
        kernel, bias = self._parameters("iteration", quantise)

        def step(carry: Any, summary: jax.Array) -> tuple[Any, jax.Array]:
            c, h = carry
            gates = _product(jnp.concatenate([summary, h], -1)[None], kernel, bias)[0]
            c, h = _lstm(gates, c, quantise)
            return (c, h), h

        zeros = jnp.zeros((*x.shape[1:4], self.config.depth), jnp.float32)
        _, h = lax.scan(step, (zeros, zeros), summary)
        # One copy serves all iterations: they join the batch.
        joined = h.reshape(1, -1, *h.shape[2:])
        s = self._tanh("state", self._tanh("state_hidden", joined, quantise), quantise)
        return jnp.concatenate([first, s.reshape(*h.shape[:-1], self.config.bits)])

    def _parameters(self, name: str, quantise: Quantiser) -> tuple[jax.Array, jax.Array]:
        kernel = self.kernels[name]
        exponent = lax.stop_gradient(weight_exponent(kernel, unit=self.config.shapes[name].unit))
        weights = integer_weights(kernel, exponent, quantise=quantise)
        return weights * jnp.exp2(-exponent)[:, None, :], self.biases[name]

    def _layer(self, name: str, x: jax.Array, quantise: Quantiser) -> jax.Array:
        kernel, bias = self._parameters(name, quantise)
        return _product(x, kernel[: len(x)], bias[: len(x)])

    def _tanh(self, name: str, x: jax.Array, quantise: Quantiser) -> jax.Array:
        v = _grid(self._layer(name, x, quantise), INDEX_UNIT, quantise)
        return _activation(jnp.tanh(v), quantise)


def _kernel(name: str, config: BinaryRNNConfig) -> nn.initializers.Initializer:
    """Random by the number of inputs; those of the shortcut begin with 0 and do not count."""
    random = nn.initializers.variance_scaling(
        1.0, "fan_in", "truncated_normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
    )

    def initialise(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        copies, inputs, outputs = shape
        used = config.depth if name == "output" else inputs
        return jnp.pad(random(key, (copies, used, outputs), dtype), ((0, 0), (0, inputs - used), (0, 0)))

    return initialise


def _bias(name: str) -> nn.initializers.Initializer:
    """Zeros, but 1 for the forget gates of an LSTM."""

    def initialise(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        del key
        forget = (jnp.arange(shape[-1]) < shape[-1] // 4) & (name in ("line", "iteration"))
        return jnp.broadcast_to(forget[None], shape).astype(dtype)

    return initialise


def _product(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """`[t, B, h, w, in]` times `[t, in, out]` plus `[t, out]`."""
    y = jnp.einsum("tbhwi,tio->tbhwo", x, kernel)
    return y + bias[:, None, None, None, :]


def _grid(x: jax.Array, unit: int, quantise: Quantiser) -> jax.Array:
    """Round to multiples of 2^-unit."""
    return quantise(x * 2.0**unit) * 2.0**-unit


def _activation(x: jax.Array, quantise: Quantiser) -> jax.Array:
    """Round to what fits an int8 in units of 2^-7."""
    limit = ACTIVATION_LIMIT * 2.0**-ACTIVATION_UNIT
    return jnp.clip(_grid(x, ACTIVATION_UNIT, quantise), -limit, limit)


def _lstm(gates: jax.Array, c: jax.Array, quantise: Quantiser) -> tuple[jax.Array, jax.Array]:
    """The new c' = f c + i j, clipped to +-8, and h' = o tanh(c')."""
    f, i, o, j = jnp.split(_grid(gates, INDEX_UNIT, quantise), 4, axis=-1)
    limit = CELL_LIMIT * 2.0**-GATE_UNIT
    c = jnp.clip(nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(j), -limit, limit)
    return c, _activation(nn.sigmoid(o) * jnp.tanh(c), quantise)
