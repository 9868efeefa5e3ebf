r"""The full-resolution recurrent network of Toderici et al. (CVPR 2017, arXiv 1608.05148).

| layer      | kernel / stride | channels | hidden kernel | output per pixel grid                  |
|------------|-----------------|----------|---------------|----------------------------------------|
| E-Conv     | 3x3 / 2         | 64       |               | H/2                                    |
| E-RNN1     | 3x3 / 2         | 256      | 1x1           | H/4                                    |
| E-RNN2     | 3x3 / 2         | 512      | 1x1           | H/8                                    |
| E-RNN3     | 3x3 / 2         | 512      | 1x1           | H/16                                   |
| Binarizer  | 1x1, tanh       | 32       |               | H/16: 32 bits per 256 pixels           |
| D-Conv1    | 1x1             | 512      |               | H/16                                   |
| D-RNN1     | 3x3             | 512      | 1x1           | depth to space: 128 channels at H/8    |
| D-RNN2     | 3x3             | 512      | 1x1           | 128 at H/4                             |
| D-RNN3     | 3x3             | 256      | 3x3           | 64 at H/2                              |
| D-RNN4     | 3x3             | 128      | 3x3           | 32 at H                                |
| D-Conv2    | 1x1, tanh / 2   | 3        |               | [-1/2, 1/2]                            |

All channels but the bits and the three colours are multiplied by `width`. One iteration codes the residual of the
ones before: b_t = B(E_t(g_{t-1} r_{t-1})), r_t = x - x^_t, with r_0 = x, x^_0 = 0, and

    one_shot:          x^_t = D_t(b_t)
    additive:          x^_t = x^_{t-1} + D_t(b_t)
    residual_scaling:  x^_t = x^_{t-1} + D_t(b_t) / g_{t-1},  g_t = G(x^_t), g_0 = 1

E and D carry state; their weights are the same at all iterations.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.layers import Convolution
from jaxcodec.layers.recurrent import AssociativeLSTM, ConvGRU, ConvLSTM, ResidualGRU
from jaxcodec.ops.binarise import Binariser
from jaxcodec.ops.extent import Extent, zero_outside
from jaxcodec.ops.space_depth import depth_to_space

STRIDE = 16
"""Pixels per position of the code in both directions."""

GAIN_STRIDE = 32
"""Pixels per gain."""

_CELLS = {
    "lstm": ConvLSTM,
    "associative_lstm": AssociativeLSTM,
    "gru": ConvGRU,
    "residual_gru": ResidualGRU,
}
_ENCODER = ((256, 1), (512, 1), (512, 1))  # channels, hidden kernel
_DECODER = ((512, 1), (512, 1), (256, 3), (128, 3))


@dataclass(frozen=True)
class RecurrentConfig:
    """What determines the network; stored with the weights.

    Attributes
    ----------
    unit
        The recurrent cell. With `associative_lstm` the encoder keeps LSTM: the paper found it to help in the
        decoder only.
    framework
        How iterations add up.
    width
        Share of the paper's channels, a multiple of 1/32.
    bits
        Per position and iteration; 32 is 1/8 bit per pixel.
    iterations
        Of training, and the most that a file holds.
    """

    unit: Literal["lstm", "associative_lstm", "gru", "residual_gru"] = "lstm"
    framework: Literal["one_shot", "additive", "residual_scaling"] = "additive"
    width: float = 1.0
    bits: int = 32
    iterations: int = 16

    def __post_init__(self) -> None:
        if self.unit not in _CELLS:
            raise ValueError(f"unit {self.unit!r} is not one of {', '.join(_CELLS)}")
        if self.framework not in ("one_shot", "additive", "residual_scaling"):
            raise ValueError(
                f"framework {self.framework!r} is not one of one_shot, additive, residual_scaling"
            )
        if self.width <= 0 or (32 * self.width) % 1:
            raise ValueError(f"width {self.width} is not a positive multiple of 1/32")
        if self.bits < 8 or self.bits % 8 or self.iterations < 1:
            raise ValueError("bits must be a positive multiple of 8, and iterations at least 1")

    def channels(self, full: int) -> int:
        """Channels of a layer that has `full` of them in the paper."""
        return int(full * self.width)

    def macs_per_pixel(self) -> tuple[float, float]:
        """Multiply-accumulates per pixel and iteration of encoder and decoder (LSTM)."""
        wide = self.channels
        encoder, before, area = 27 * wide(64) / 4.0, wide(64), 4.0
        for full, hidden in _ENCODER:
            area *= 4
            encoder += 4 * wide(full) * (9 * before + hidden**2 * wide(full)) / area
            before = wide(full)
        encoder += before * self.bits / area
        decoder, before = self.bits * wide(512) / area, wide(512)
        for full, hidden in _DECODER:
            decoder += 4 * wide(full) * (9 * before + hidden**2 * wide(full)) / area
            before = wide(full) // 4
            area /= 4
        return encoder, decoder + 3 * before

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)


class CoderState(NamedTuple):
    """What one iteration hands to the next; a pytree.

    Attributes
    ----------
    encoder, decoder
        States of the cells; the decoder of a file carries no encoder's: `()`.
    reconstruction
        x^_t `[B, H, W, 3]`, in [-1/2, 1/2] but for overshoot.
    gain
        g_t `[B, H/32, W/32, 1]`; ones where the framework has none.
    """

    encoder: Any
    decoder: Any
    reconstruction: jax.Array
    gain: jax.Array


class RecurrentCoder(nn.Module):
    """Encoder, binarizer, decoder and gain network; `iterate` is one step, the caller passes the binariser.

    H and W are multiples of 32. With `extent` (in pixels, the size a multiple of 16) the input is a window that
    may hang over the border of its picture, as in `jaxcodec.ops.extent`.
    """

    config: RecurrentConfig

    def setup(self) -> None:
        """Make the layers."""
        config, cell = self.config, _CELLS[self.config.unit]
        encoder_cell = ConvLSTM if config.unit == "associative_lstm" else cell
        self.first = Convolution(config.channels(64), 3, 2)
        self.encoder_cells = [
            encoder_cell(
                config.channels(full),
                hidden_kernel_size=hidden,
                stride=2,
                total_stride=4 * 2**i,
                name=f"encoder_{i}",
            )
            for i, (full, hidden) in enumerate(_ENCODER)
        ]
        self.to_bits = Convolution(config.bits, 1)
        self.from_bits = Convolution(config.channels(512), 1)
        self.decoder_cells = [
            cell(
                config.channels(full), hidden_kernel_size=hidden, total_stride=16 // 2**i, name=f"decoder_{i}"
            )
            for i, (full, hidden) in enumerate(_DECODER)
        ]
        self.last = Convolution(3, 1)
        if config.framework == "residual_scaling":
            self.gain_layers = [Convolution(32, 3, 2, name=f"gain_{i}") for i in range(4)]
            self.gain_last = Convolution(1, 3, 2, name="gain_4")

    def initial_state(self, batch: int, height: int, width: int, *, encoder: bool = True) -> CoderState:
        """The state before the first iteration, for pictures of height x width pixels."""
        encoders = [
            cell.initial_state(batch, height // cell.total_stride, width // cell.total_stride)
            for cell in self.encoder_cells
        ]
        decoders = [
            cell.initial_state(batch, height // cell.total_stride, width // cell.total_stride)
            for cell in self.decoder_cells
        ]
        return CoderState(
            tuple(encoders) if encoder else (),
            tuple(decoders),
            jnp.zeros((batch, height, width, 3), jnp.float32),
            jnp.ones((batch, height // GAIN_STRIDE, width // GAIN_STRIDE, 1), jnp.float32),
        )

    def encode(
        self, state: CoderState, x: jax.Array, extent: Extent | None = None
    ) -> tuple[CoderState, jax.Array]:
        """One iteration's values in [-1, 1], `[B, H/16, W/16, bits]`, of pixels x in [-1/2, 1/2]."""
        h = (x - state.reconstruction) * _hold(state.gain)
        h = zero_outside(self.first(zero_outside(h, extent, stride=1)), extent, stride=2)
        states = []
        for cell, before in zip(self.encoder_cells, state.encoder, strict=True):
            after, h = cell(before, h, extent)
            states.append(after)
        return state._replace(encoder=tuple(states)), jnp.tanh(self.to_bits(h))

    def decode(self, state: CoderState, bits: jax.Array, extent: Extent | None = None) -> CoderState:
        """Add one iteration's bits, +-1 `[B, H/16, W/16, bits]`, to the reconstruction."""
        h = zero_outside(self.from_bits(bits), extent, stride=STRIDE)
        states = []
        for cell, before in zip(self.decoder_cells, state.decoder, strict=True):
            after, h = cell(before, h, extent)
            h = depth_to_space(h, 2)
            states.append(after)
        output = zero_outside(0.5 * jnp.tanh(self.last(h)), extent, stride=1)
        framework, gain = self.config.framework, state.gain
        if framework == "one_shot":
            reconstruction = output
        elif framework == "additive":
            reconstruction = state.reconstruction + output
        else:
            reconstruction = state.reconstruction + output / _hold(gain)
            gain = self._gain(reconstruction, extent)
        return state._replace(decoder=tuple(states), reconstruction=reconstruction, gain=gain)

    def iterate(
        self, state: CoderState, x: jax.Array, *, binarise: Binariser
    ) -> tuple[CoderState, jax.Array]:
        """One whole iteration; also returns the bits, +-1."""
        state, values = self.encode(state, x)
        bits = binarise(values)
        return self.decode(state, bits), bits

    def _gain(self, reconstruction: jax.Array, extent: Extent | None) -> jax.Array:
        h = reconstruction
        for i, layer in enumerate(self.gain_layers):
            h = zero_outside(nn.elu(layer(h)), extent, stride=2 ** (i + 1))
        # ELU is above -1, so the gain is above 1.
        return nn.elu(self.gain_last(h)) + 2.0


def _hold(gain: jax.Array) -> jax.Array:
    """Repeat each gain over its 32 x 32 pixels."""
    return jnp.repeat(jnp.repeat(gain, GAIN_STRIDE, axis=1), GAIN_STRIDE, axis=2)
