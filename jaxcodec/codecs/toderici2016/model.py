r"""The networks of Toderici et al., "Variable Rate Image Compression with Recurrent Neural Networks" (ICLR 2016).

A patch is coded in stages. In each the encoder turns what is still missing into a few bits, and the decoder
turns these into pixels: F_t(r) = D_t(B(E_t(r))), r_0 the patch itself. Bits are +-1; pixels are [-0.9, 0.9].

| family      | patch | encoder                                      | decoder                                         |
|-------------|-------|----------------------------------------------|-------------------------------------------------|
| `fc`        | 8x8   | 3 dense layers of W                          | 3 dense layers of W, dense                      |
| `lstm`      | 8x8   | dense W, LSTM W, LSTM W                      | LSTM W, LSTM W, dense                           |
| `conv`      | 32x32 | 3x3/2 of W/8; 3x3/2 of W/2, W, W             | 1x1 of W; 3x3 of W, W, W/2, W/4, upsampled; 1x1 |
| `conv_lstm` | 32x32 | 3x3/2 of W/8; 3x3/2 LSTMs of W/2, W, W       | the same with LSTMs for the 3x3                 |

After each encoder a linear map and tanh give the bits; all hidden layers end in tanh. W is 512 in the paper, which
does not give the sizes of the convolutions: these are those of the authors' next paper (CVPR 2017), with 1x1 for the
hidden states, and "upsampled" is depth-to-space after each layer, the polyphase form of a strided transposed
convolution.

`fc` and `conv` (section 3.1): a stage predicts what the stages before it have missed, r_t = r_{t-1} - F_t(r_{t-1}),
and the picture is the *sum* of all predictions. Their weights are shared by all stages, or distinct: then each
array has a leading axis of stages. The LSTM families (section 3.2) predict the patch anew each time, r_t = r_0 -
F_t(r_{t-1}), so the picture is the *last* prediction; encoder and decoder keep states, zero at the start.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.layers.convolution import Convolution
from jaxcodec.layers.recurrent import ConvLSTM, DenseLSTM
from jaxcodec.ops.space_depth import depth_to_space

FAMILIES = ("fc", "lstm", "conv", "conv_lstm")

CODE_STRIDE = 16
"""Pixels per position of the code, for the convolutional families."""

_RANGE = 0.9
"""Pixels are within +-0.9, which tanh reaches (the paper does not say how it scales; our choice)."""

State = tuple[Any, ...]
"""One entry per recurrent layer; empty for the feed-forward families."""


@dataclass(frozen=True)
class ThumbnailConfig:
    """What determines the network; stored with the weights.

    Attributes
    ----------
    family
        A row of the table above.
    shared
        Whether all stages share their weights; always so in the LSTM families.
    patch
        Side of a patch in pixels; a multiple of 16 in the convolutional families.
    stages
        How many the network was trained for, thus the largest quality.
    bits
        Per patch and stage; in the convolutional families a multiple of (patch / 16)^2.
    width
        W of the table; a multiple of 16 in the convolutional families.

    Raises
    ------
    ValueError
        If a field is outside of this.
    """

    family: str
    shared: bool
    patch: int
    stages: int
    bits: int
    width: int

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family {self.family!r} is not one of {', '.join(FAMILIES)}")
        if self.recurrent and not self.shared:
            raise ValueError(
                f"the stages of {self.family} share their weights; distinct ones are for fc and conv"
            )
        for field, value, largest in (
            ("patch", self.patch, 64),
            ("stages", self.stages, 64),
            ("bits", self.bits, 1024),
            ("width", self.width, 4096),
        ):
            if not 1 <= value <= largest:
                raise ValueError(f"{field} must be 1..{largest}, got {value}")
        if self.convolutional and (self.patch % CODE_STRIDE or self.width % 16 or self.bits % self.positions):
            raise ValueError(
                f"{self.family} needs a patch and a width that are multiples of 16 and a multiple of "
                f"(patch / 16)^2 bits, got patch {self.patch}, width {self.width}, bits {self.bits}"
            )

    @classmethod
    def of(
        cls,
        family: str,
        *,
        shared: bool = True,
        patch: int | None = None,
        stages: int | None = None,
        bits: int | None = None,
        width: int = 512,
    ) -> ThumbnailConfig:
        """The paper's sizes where none are given: 16 stages of 4 bits for 8x8, 8 stages of 128 bits for 32x32."""
        large = family in ("conv", "conv_lstm")
        defaults = (32, 8, 128) if large else (8, 16, 4)
        return cls(family, shared, patch or defaults[0], stages or defaults[1], bits or defaults[2], width)

    @property
    def recurrent(self) -> bool:
        """Whether it has states and predicts the patch anew in each stage."""
        return self.family in ("lstm", "conv_lstm")

    @property
    def convolutional(self) -> bool:
        """Whether its layers are convolutions."""
        return self.family in ("conv", "conv_lstm")

    @property
    def positions(self) -> int:
        """Positions of the code in a patch; 1 for the dense families."""
        return (self.patch // CODE_STRIDE) ** 2 if self.convolutional else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a weight file."""
        return asdict(self)


def to_values(pixels: jax.Array) -> jax.Array:
    """uint8 to float32 within +-0.9."""
    return (pixels.astype(jnp.float32) / 255.0 - 0.5) * (2.0 * _RANGE)


def to_pixels(values: jax.Array) -> jax.Array:
    """The nearest uint8 of values, clipped to +-0.9."""
    unit = jnp.clip(values, -_RANGE, _RANGE) / (2.0 * _RANGE) + 0.5
    return jnp.round(unit * 255.0).astype(jnp.uint8)


def _dense_layer(config: ThumbnailConfig, index: int, states: list[Any], h: jax.Array) -> jax.Array:
    """Dense + tanh, or where there is a state for it an LSTM, whose new state replaces the old one."""
    if not config.recurrent:
        return jnp.tanh(nn.Dense(config.width, name=f"layer_{index}")(h))
    states[index], h = DenseLSTM(config.width, name=f"layer_{index}")(states[index], h)
    return h


def _convolutional_layer(
    config: ThumbnailConfig, index: int, states: list[Any], h: jax.Array, *, features: int, stride: int
) -> jax.Array:
    """The same with 3x3 convolutions."""
    if not config.recurrent:
        return jnp.tanh(Convolution(features, 3, stride, name=f"layer_{index}")(h))
    states[index], h = ConvLSTM(features, 3, stride=stride, name=f"layer_{index}")(states[index], h)
    return h


def _encoder_features(config: ThumbnailConfig) -> tuple[int, ...]:
    """Channels of the last three strided layers; the recurrent ones of the encoder."""
    return config.width // 2, config.width, config.width


def _decoder_features(config: ThumbnailConfig) -> tuple[int, ...]:
    """Channels before each depth-to-space."""
    return config.width, config.width, config.width // 2, config.width // 4


class Encoder(nn.Module):
    """E_t: a residual to values in [-1, 1] that become bits."""

    config: ThumbnailConfig

    @nn.compact
    def __call__(self, state: State, residual: jax.Array) -> tuple[State, jax.Array]:
        """One stage: residual `[B, P, P, 3]`, code `[B, bits]`."""
        config, states = self.config, list(state)
        if config.convolutional:
            h = jnp.tanh(Convolution(config.width // 8, 3, 2, name="first")(residual))
            for i, features in enumerate(_encoder_features(config)):
                h = _convolutional_layer(config, i, states, h, features=features, stride=2)
        else:
            h = residual.reshape(residual.shape[0], -1)
            h = jnp.tanh(nn.Dense(config.width, name="first")(h))
            for i in range(2):
                h = _dense_layer(config, i, states, h)
        code = nn.Dense(config.bits // config.positions, name="code")(h)
        return tuple(states), jnp.tanh(code).reshape(residual.shape[0], config.bits)


class Decoder(nn.Module):
    """D_t: bits to a prediction of the residual, or of the patch in the LSTM families."""

    config: ThumbnailConfig

    @nn.compact
    def __call__(self, state: State, bits: jax.Array) -> tuple[State, jax.Array]:
        """One stage: bits +-1 `[B, bits]`, prediction `[B, P, P, 3]`."""
        config, states = self.config, list(state)
        if config.convolutional:
            side = config.patch // CODE_STRIDE
            h = bits.reshape(bits.shape[0], side, side, config.bits // config.positions)
            h = jnp.tanh(nn.Dense(config.width, name="first")(h))
            for i, features in enumerate(_decoder_features(config)):
                h = _convolutional_layer(config, i, states, h, features=features, stride=1)
                h = depth_to_space(h, 2)
            prediction = nn.Dense(3, name="last")(h)
        else:
            h = bits if config.recurrent else jnp.tanh(nn.Dense(config.width, name="first")(bits))
            for i in range(2):
                h = _dense_layer(config, i, states, h)
            prediction = nn.Dense(3 * config.patch**2, name="last")(h)
            prediction = prediction.reshape(bits.shape[0], config.patch, config.patch, 3)
        # A patch is within +-0.9; a residual may be up to twice as large.
        return tuple(states), jnp.tanh(prediction) if config.recurrent else prediction


def initial_states(config: ThumbnailConfig, batch: int) -> tuple[State, State]:
    """Zeros for encoder and decoder."""
    if not config.recurrent:
        return (), ()
    if not config.convolutional:
        cell = DenseLSTM(config.width, parent=None)
        return (cell.initial_state(batch),) * 2, (cell.initial_state(batch),) * 2

    def zeros(features: int, stride: int) -> Any:
        side = config.patch // stride
        return ConvLSTM(features, parent=None).initial_state(batch, side, side)

    encoder = tuple(zeros(f, 4 << i) for i, f in enumerate(_encoder_features(config)))
    decoder = tuple(zeros(f, CODE_STRIDE >> i) for i, f in enumerate(_decoder_features(config)))
    return encoder, decoder


def init(config: ThumbnailConfig, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters: `encoder` and `decoder`, their arrays with a leading axis of stages if distinct."""
    encoder_state, decoder_state = initial_states(config, 1)
    residual = jnp.zeros((1, config.patch, config.patch, 3), jnp.float32)
    bits = jnp.zeros((1, config.bits), jnp.float32)

    def one_stage(key: jax.Array) -> dict[str, Any]:
        first, second = jax.random.split(key)
        return {
            "encoder": Encoder(config).init(first, encoder_state, residual)["params"],
            "decoder": Decoder(config).init(second, decoder_state, bits)["params"],
        }

    return one_stage(key) if config.shared else jax.vmap(one_stage)(jax.random.split(key, config.stages))


def stage_params(params: Any, stage: jax.Array, config: ThumbnailConfig) -> Any:
    """The parameters of one stage (its number may be traced)."""
    if config.shared:
        return params
    return jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, stage, keepdims=False), params)


def encode_stage(
    params: Any, state: State, residual: jax.Array, config: ThumbnailConfig
) -> tuple[State, Any]:
    """E_t with the parameters of its stage: new state and code `[B, bits]` in [-1, 1]."""
    return Encoder(config).apply({"params": params["encoder"]}, state, residual)


def decode_stage(
    params: Any, state: State, bits: jax.Array, reconstruction: jax.Array, config: ThumbnailConfig
) -> tuple[State, jax.Array]:
    """D_t with the parameters of its stage: new state, and the reconstruction `[B, P, P, 3]` after it."""
    new: Any = Decoder(config).apply({"params": params["decoder"]}, state, bits)
    state, prediction = new
    return state, prediction if config.recurrent else reconstruction + prediction


def squared_errors(
    params: Any, x: jax.Array, *, config: ThumbnailConfig, binarise: Any, key: jax.Array, unroll: bool = False
) -> jax.Array:
    """||r_t||^2 / pixels after each stage, averaged over the batch: `[stages]`; for training.

    Parameters
    ----------
    params
        Of all stages.
    x
        Patches `[B, P, P, 3]` within +-0.9.
    binarise
        `binarise(code, key=)`, such as `jaxcodec.ops.binarise.stochastic_binarise`.
    key
        Of the bits.
    unroll
        Compile the stages one by one instead of as a loop.
    """

    def step(carry: Any, inputs: Any) -> Any:
        encoder_state, decoder_state, reconstruction = carry
        own, key = inputs
        own = params if config.shared else own
        encoder_state, code = encode_stage(own, encoder_state, x - reconstruction, config)
        decoder_state, reconstruction = decode_stage(
            own, decoder_state, binarise(code, key=key), reconstruction, config
        )
        error = jnp.mean(jnp.sum(jnp.square(x - reconstruction), axis=-1))
        return (encoder_state, decoder_state, reconstruction), error

    start = (*initial_states(config, x.shape[0]), jnp.zeros_like(x))
    inputs = (None if config.shared else params, jax.random.split(key, config.stages))
    return jax.lax.scan(step, start, inputs, unroll=unroll)[1]
