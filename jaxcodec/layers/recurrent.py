"""Recurrent cells: one step of each is a pure function of state and input; `lax.scan` unrolls them.

| cell              | state                    | paper                                                    |
|-------------------|--------------------------|----------------------------------------------------------|
| `DenseLSTM`       | (c, h) `[B, F]`          | Toderici et al., ICLR 2016, section 3.1 (Zaremba's form) |
| `ConvLSTM`        | (c, h) `[B, h, w, F]`    | the same, section 3.3                                    |
| `AssociativeLSTM` | (c, h) `[B, h, w, F]`    | Danihelka et al., ICML 2016; Toderici et al., CVPR 2017  |
| `ConvGRU`         | h `[B, h, w, F]`         | Toderici et al., CVPR 2017, section 3.1                  |
| `ResidualGRU`     | h `[B, h, w, F]`         | the same, equations (3) and (4)                          |

All have `state, output = cell(state, x)`, and `initial_state` gives the zeros that a picture starts from. In the
convolutional ones the input convolution may be strided; the hidden one never is, since its input and output have the
same size. With `extent`, positions outside the picture are zero in all states and outputs (`jaxcodec.ops.extent`),
so that a window that hangs over the border gives what the picture alone would.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.layers.convolution import Convolution
from jaxcodec.ops.extent import Extent, zero_outside

State = Any
"""An array, or a pair of arrays, by cell."""


def _forget_bias(gates: int, *, forget: int) -> Any:
    """Biases 1 for the forget gate (gate number `forget`) and 0 for the others, over `gates * F` channels."""

    def initialise(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        del key
        features = shape[0] // gates
        return jnp.repeat((jnp.arange(gates) == forget).astype(dtype), features)

    return initialise


class DenseLSTM(nn.Module):
    """LSTM over vectors: `[B, C] -> [B, features]`.

    With f, i, o = sigmoid and j = tanh of (T x + U h + b): c' = f c + i j, h' = o tanh(c').
    """

    features: int

    @nn.compact
    def __call__(self, state: State, x: jax.Array) -> tuple[State, jax.Array]:
        """One step."""
        c, h = state
        gates = nn.Dense(4 * self.features, use_bias=False, name="input")(x)
        gates = gates + nn.Dense(4 * self.features, bias_init=_forget_bias(4, forget=0), name="hidden")(h)
        f, i, o, j = jnp.split(gates, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(j)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    def initial_state(self, batch: int) -> State:
        """Zeros."""
        zeros = jnp.zeros((batch, self.features), jnp.float32)
        return zeros, zeros


class _ConvolutionalCell(nn.Module):
    """What the convolutional cells share.

    Attributes
    ----------
    features
        F, channels of state and output.
    kernel_size, hidden_kernel_size
        Odd sizes of the input and the hidden convolution.
    stride
        Of the input convolution.
    total_stride
        Pixels of the picture per position of the output; only needed with an `extent`.
    """

    features: int
    kernel_size: int = 3
    hidden_kernel_size: int = 1
    stride: int = 1
    total_stride: int = 1

    def _input(self, x: jax.Array, multiple: int, name: str = "input") -> jax.Array:
        return Convolution(
            multiple * self.features, self.kernel_size, self.stride, use_bias=False, name=name
        )(x)

    def _hidden(self, h: jax.Array, multiple: int, name: str = "hidden") -> jax.Array:
        return Convolution(multiple * self.features, self.hidden_kernel_size, use_bias=False, name=name)(h)

    def _bias(self, gates: jax.Array, multiple: int, *, forget: int) -> jax.Array:
        bias = self.param("bias", _forget_bias(multiple, forget=forget), (multiple * self.features,))
        return gates + jnp.broadcast_to(bias, gates.shape)

    def _inside(self, x: jax.Array, extent: Extent | None) -> jax.Array:
        return zero_outside(x, extent, stride=self.total_stride)

    def _zeros(self, batch: int, height: int, width: int) -> jax.Array:
        return jnp.zeros((batch, height, width, self.features), jnp.float32)


class ConvLSTM(_ConvolutionalCell):
    """LSTM with convolutions for its products: `[B, H, W, C] -> [B, ceil(H/s), ceil(W/s), F]`."""

    @nn.compact
    def __call__(self, state: State, x: jax.Array, extent: Extent | None = None) -> tuple[State, jax.Array]:
        """One step."""
        c, h = state
        gates = self._bias(self._input(x, 4) + self._hidden(h, 4), 4, forget=0)
        f, i, o, j = jnp.split(gates, 4, axis=-1)
        c = self._inside(nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(j), extent)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    def initial_state(self, batch: int, height: int, width: int) -> State:
        """Zeros; height and width are those of the output."""
        zeros = self._zeros(batch, height, width)
        return zeros, zeros


def bound(z: jax.Array) -> jax.Array:
    """Scale complex numbers, `[..., 2F]` (all real parts, then all imaginary), to a modulus of at most 1.

    bound(z) = z / max(1, |z|) (Danihelka et al., equation (7)).
    """
    real, imaginary = jnp.split(z, 2, axis=-1)
    squared = real**2 + imaginary**2
    # The root's gradient at 0 is infinite; there the maximum is 1 anyway.
    modulus = jnp.sqrt(jnp.maximum(squared, 1.0))
    return jnp.concatenate([real / modulus, imaginary / modulus], axis=-1)


def complex_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Product of complex numbers, `[..., 2F]` (all real parts, then all imaginary)."""
    (ar, ai), (br, bi) = jnp.split(a, 2, axis=-1), jnp.split(b, 2, axis=-1)
    return jnp.concatenate([ar * br - ai * bi, ar * bi + ai * br], axis=-1)


class AssociativeLSTM(_ConvolutionalCell):
    """LSTM whose state is complex, with keys to store under and to read by; one copy.

    The F channels are F/2 complex numbers, real parts first. Gates f, i, o are real and shared by both parts:
    c' = f c + r_i (i j), h' = o bound(r_o c'), with the keys r_i, r_o and j passed through `bound`.
    """

    @nn.compact
    def __call__(self, state: State, x: jax.Array, extent: Extent | None = None) -> tuple[State, jax.Array]:
        """One step; F must be even."""
        if self.features % 2:
            raise ValueError(f"AssociativeLSTM needs an even number of features, got {self.features}")
        c, h = state
        half = self.features // 2
        # Three gates of F/2 channels, and three complex values of F.
        width = 3 * half + 3 * self.features
        gates = Convolution(width, self.kernel_size, self.stride, use_bias=False, name="input")(x)
        gates = gates + Convolution(width, self.hidden_kernel_size, use_bias=False, name="hidden")(h)
        bias = self.param("bias", _forget_bias(9, forget=0), (width,))
        gates = gates + jnp.broadcast_to(bias, gates.shape)
        f, i, o = (jnp.tile(nn.sigmoid(g), 2) for g in jnp.split(gates[..., : 3 * half], 3, axis=-1))
        j, key_in, key_out = (bound(z) for z in jnp.split(gates[..., 3 * half :], 3, axis=-1))
        c = self._inside(f * c + complex_product(key_in, i * j), extent)
        h = o * bound(complex_product(key_out, c))
        return (c, h), h

    def initial_state(self, batch: int, height: int, width: int) -> State:
        """Zeros; height and width are those of the output."""
        zeros = self._zeros(batch, height, width)
        return zeros, zeros


class ConvGRU(_ConvolutionalCell):
    """GRU with convolutions: z, r = sigmoid; h' = (1 - z) h + z tanh(W x + U (r h))."""

    @nn.compact
    def __call__(self, state: State, x: jax.Array, extent: Extent | None = None) -> tuple[State, jax.Array]:
        """One step."""
        h = _gru_step(self, state, x)
        h = self._inside(h, extent)
        return h, h

    def initial_state(self, batch: int, height: int, width: int) -> State:
        """Zeros; height and width are those of the output."""
        return self._zeros(batch, height, width)


class ResidualGRU(_ConvolutionalCell):
    """GRU with residual connections in its state and its output, both scaled by 0.1.

    h' = GRU(x, h) + 0.1 W_h h, o = h' + 0.1 W_ox x; W_ox carries the stride and the change of channels.
    """

    @nn.compact
    def __call__(self, state: State, x: jax.Array, extent: Extent | None = None) -> tuple[State, jax.Array]:
        """One step."""
        h = _gru_step(self, state, x) + 0.1 * self._hidden(state, 1, "hidden_residual")
        h = self._inside(h, extent)
        output = self._inside(h + 0.1 * self._input(x, 1, "output_residual"), extent)
        return h, output

    def initial_state(self, batch: int, height: int, width: int) -> State:
        """Zeros; height and width are those of the output."""
        return self._zeros(batch, height, width)


def _gru_step(cell: _ConvolutionalCell, h: jax.Array, x: jax.Array) -> jax.Array:
    from_input = cell._bias(cell._input(x, 3), 3, forget=-1)
    z_input, r_input, candidate_input = jnp.split(from_input, 3, axis=-1)
    z_hidden, r_hidden = jnp.split(cell._hidden(h, 2), 2, axis=-1)
    z, r = nn.sigmoid(z_input + z_hidden), nn.sigmoid(r_input + r_hidden)
    candidate = jnp.tanh(candidate_input + cell._hidden(r * h, 1, "hidden_candidate"))
    return (1.0 - z) * h + z * candidate
