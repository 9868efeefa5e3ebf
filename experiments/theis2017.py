r"""Train the compressive autoencoder of Theis et al. (ICLR 2017).

python -m experiments.theis2017 --train_data=PHOTOS --workdir=runs/theis2017 --lambdas=0.01 --max_seconds=600
python -m experiments.theis2017 --train_data=PHOTOS --workdir=runs/scales --lambdas=0.002,0.005,0.02,0.05 \
  --init_weights=weights/FILE.safetensors --train=scales --steps=10000

PHOTOS is a folder or a glob of lossless photos, or a folder made by scripts/prepare_dataset.py. The first command
trains a network for one rate as the paper does, the second its scales for others, everything else frozen; with
several `--lambdas` and `--train=all` network and scales are trained for all of them at once, each crop for one.
Rerunning a command resumes. Then `scripts/export_weights.py` makes a weight file.

Loss: rate in bits per pixel + lambda * 255^2 * mean squared error of pixels in [0, 1]. The rate is the bound by
the Gaussian scale mixtures (jaxcodec/entropy/gaussian_scale_mixture.py). The paper's beta is not used: its
values and its formula contradict each other. With several lambdas each crop's loss is weighted by
(their geometric mean / lambda)^0.5, which balances their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import training_flags
from jaxcodec.codecs.theis2017.incremental import channel_mask, enable_on_plateau
from jaxcodec.codecs.theis2017.initialise import from_principal_components
from jaxcodec.codecs.theis2017.model import STRIDE, Autoencoder, AutoencoderConfig
from jaxcodec.errors import BadOption
from jaxcodec.ops.quantise import additive_uniform_noise, straight_through_round
from jaxcodec.training.source import Source, first_crops
from jaxcodec.zoo.weights import load_weights

_LAMBDAS = flags.DEFINE_list("lambdas", ["0.01"], "Weights of 255^2 * MSE against bits per pixel, ascending.")
_CHANNELS = flags.DEFINE_integer("channels", 128, "Channels at 1/4; half as many at 1/2.", lower_bound=2)
_LATENTS = flags.DEFINE_integer(
    "latent_channels", 96, "Of the code; 64 in the paper's model of low rates.", lower_bound=1
)
_QUANTISER = flags.DEFINE_enum(
    "quantiser",
    "straight_through",
    ["straight_through", "noise"],
    "What the decoder sees in training: rounded latents (the paper), or noisy ones (as Ballé et al.).",
)
_TRAIN = flags.DEFINE_enum(
    "train",
    "all",
    ["all", "scales", "scales_and_prior"],
    "What is trained: `scales` with everything else frozen is the paper's way to further rates.",
)
_INCREMENTAL = flags.DEFINE_integer(
    "incremental", 0, "Enable so many latent channels at a time, as progress stalls; 0: all from the start."
)
_PLATEAU_WINDOW = flags.DEFINE_integer(
    "plateau_window", 50, "Updates whose mean losses are compared.", lower_bound=1
)
_PLATEAU_THRESHOLD = flags.DEFINE_float(
    "plateau_threshold", 0.02, "A smaller relative fall of the loss is a stall."
)
_PRIOR_FACTOR = flags.DEFINE_float("prior_factor", 10.0, "Learning rate of the mixtures, times.")
_INIT = flags.DEFINE_enum(
    "init",
    "principal_components",
    ["principal_components", "random"],
    "How a run without --init_weights begins.",
)
_INIT_WEIGHTS = flags.DEFINE_string(
    "init_weights", None, "Weight file to start from; may have been trained for other lambdas."
)


@dataclass(frozen=True)
class RateDistortion:
    """The training task: a bound of the rate + lambda * distortion."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32
    quantiser: str = "straight_through"
    train: str = "all"
    prior_factor: float = 10.0
    incremental: int = 0
    plateau_window: int = 50
    plateau_threshold: float = 0.02

    @property
    def coder(self) -> Autoencoder:
        """The Flax module."""
        return Autoencoder(self.config, self.dtype)

    def init(self, key: jax.Array) -> Any:
        """Fresh random parameters."""
        x = jnp.zeros((1, 4 * STRIDE, 4 * STRIDE, 3), jnp.float32)
        zero = jnp.zeros(1, jnp.int32)
        params = self.coder.init(key, x, zero, quantise=jnp.round, relax=jnp.round)["params"]
        return self.with_mask(params)

    def with_mask(self, params: Any) -> Any:
        """Parameters with the number of enabled channels among them, where training is incremental."""
        if not self.incremental:
            return params
        return {**params, "enabled": jnp.asarray(float(self.incremental), jnp.float32)}

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Bits per pixel + lambda * 255^2 * MSE, for uint8 `[B, S, S, 3]`."""
        key_noise, key_rate = jax.random.split(key)
        x = batch.astype(jnp.float32) / 255.0
        B, rates = x.shape[0], len(self.config.lambdas)
        # Spread evenly over the rates: example i draws from the i-th part of them.
        position = (jnp.arange(B) + jax.random.uniform(key_rate, (B,))) / B
        rate = jnp.minimum((position * rates).astype(jnp.int32), rates - 1)
        noise = partial(additive_uniform_noise, key=key_noise)
        straight = self.quantiser == "straight_through"
        mask = None
        if self.incremental:
            mask = channel_mask(params["enabled"], self.config.latent_channels)
        network = {name: value for name, value in params.items() if name != "enabled"}
        coded: Any = self.coder.apply(
            {"params": network},
            x,
            rate,
            quantise=straight_through_round if straight else noise,
            relax=noise if straight else lambda z: z,
            mask=mask,
        )
        reconstruction, bits = coded
        bpp = bits.sum((1, 2, 3)) / (x.shape[1] * x.shape[2])
        mse = jnp.square(reconstruction - x).mean((1, 2, 3))
        weights = jnp.asarray(self.config.lambdas, jnp.float32)[rate]
        balance = jnp.sqrt(math.exp(float(np.mean(np.log(self.config.lambdas)))) / weights)
        loss = jnp.mean(balance * (bpp + weights * 255.0**2 * mse))
        terms = {"bpp": bpp.mean(), "mse": mse.mean(), "psnr": (-10.0 * jnp.log10(mse)).mean()}
        if self.incremental:
            terms["enabled"] = params["enabled"]
        return loss, terms

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam, the mixtures at a higher rate; frozen parts and the mask by rules of their own."""

        def adam(factor: float) -> optax.GradientTransformation:
            return optax.chain(optax.scale_by_adam(), optax.scale(-factor), optax.scale(learning_rate))

        rules: dict[Hashable, optax.GradientTransformation] = {
            "network": adam(1.0),
            "prior": adam(self.prior_factor),
            "scales": adam(self.prior_factor if self.train == "all" else 1.0),
            "frozen": optax.set_to_zero(),
            "enabled": enable_on_plateau(
                channels=self.config.latent_channels,
                group=self.incremental,
                window=self.plateau_window,
                threshold=self.plateau_threshold,
            ),
        }
        own = {"prior": "prior", "log_scales": "scales", "enabled": "enabled"}
        trained = {
            "all": ("network", "prior", "scales", "enabled"),
            "scales": ("scales",),
            "scales_and_prior": ("scales", "prior"),
        }[self.train]
        if len(self.config.lambdas) == 1 and self.train == "all":
            trained = ("network", "prior", "enabled")  # one scale says nothing that the layers do not say

        def label(params: Any) -> dict[str, str]:
            rule = {name: own.get(name, "network") for name in params}
            return {name: kind if kind in trained else "frozen" for name, kind in rule.items()}

        return optax.multi_transform(rules, label)


def for_other_rates(params: Any, old: AutoencoderConfig, new: AutoencoderConfig) -> Any:
    """The same network for other lambdas.

    Scales and mixtures come from the nearest of the old rates, scales multiplied by (new / old)^0.5.
    """
    nearest = [int(np.argmin(np.abs(np.log(np.asarray(old.lambdas) / weight)))) for weight in new.lambdas]
    change = 0.5 * np.log(np.asarray(new.lambdas) / np.asarray(old.lambdas)[nearest])
    return {
        **params,
        "log_scales": (params["log_scales"][nearest] + change[:, None]).astype(np.float32),
        "prior": {name: value[nearest] for name, value in params["prior"].items()},
    }


def _initial_params(task: RateDistortion, source: Source) -> Any:
    config, seed = task.config, training_flags.SEED.value
    if _INIT_WEIGHTS.value is None:
        if _INIT.value == "random":
            return None
        crops = first_crops(source, seed=seed, count=128, size=16 * STRIDE)
        return from_principal_components(task.init(jax.random.key(seed)), crops, config)
    weights = load_weights(_INIT_WEIGHTS.value)
    old = AutoencoderConfig(**weights.config)
    wanted = {**config.to_dict(), "lambdas": None}
    if {**old.to_dict(), "lambdas": None} != wanted:
        raise BadOption(f"{_INIT_WEIGHTS.value} holds {weights.config}; the flags ask for {config.to_dict()}")
    return task.with_mask(for_other_rates(weights.params, old, config))


def _train() -> None:
    size = training_flags.CROP_SIZE.value
    if size % STRIDE:
        raise BadOption(f"--crop_size={size} is not a multiple of {STRIDE}")
    if _TRAIN.value != "all" and _INIT_WEIGHTS.value is None:
        raise BadOption(f"--train={_TRAIN.value} needs the trained network: give --init_weights")
    try:
        config = AutoencoderConfig(
            channels=_CHANNELS.value,
            latent_channels=_LATENTS.value,
            lambdas=tuple(float(weight) for weight in _LAMBDAS.value),
        )
    except ValueError as error:
        raise BadOption(f"--lambdas, --channels: {error}") from error
    task = RateDistortion(
        config,
        jnp.dtype(training_flags.DTYPE.value),
        quantiser=_QUANTISER.value,
        train=_TRAIN.value,
        prior_factor=_PRIOR_FACTOR.value,
        incremental=_INCREMENTAL.value,
        plateau_window=_PLATEAU_WINDOW.value,
        plateau_threshold=_PLATEAU_THRESHOLD.value,
    )
    source = training_flags.open_source()
    training_flags.run(
        task,
        source,
        codec="theis2017",
        network=config.to_dict(),
        initial_params=_initial_params(task, source),
    )


if __name__ == "__main__":
    flags.set_default(training_flags.CROP_SIZE, 128)
    flags.set_default(training_flags.BATCH_SIZE, 32)
    training_flags.main(_train)
