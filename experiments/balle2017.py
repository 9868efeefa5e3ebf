r"""Train Ballé 2017 (and the four-stage network of Ballé 2018) for one lambda.

python -m experiments.balle2017 --train_data=PHOTOS --workdir=runs/balle2017_013 --lambda=0.013 --max_seconds=600

PHOTOS is a folder or a glob of lossless photos, or a folder made by scripts/prepare_dataset.py. Rerunning the
command resumes. Then `python scripts/export_weights.py --workdir=runs/balle2017_013 --quality=4` makes a
weight file.
Loss: rate in bits per pixel + lambda * 255^2 * mean squared error of pixels in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import training_flags
from jaxcodec.codecs.balle2017.initialise import from_principal_components
from jaxcodec.codecs.balle2017.model import STRIDE, TransformCoder, TransformConfig
from jaxcodec.entropy.piecewise_linear import density_descent
from jaxcodec.errors import BadOption
from jaxcodec.ops.quantise import additive_uniform_noise
from jaxcodec.training.source import Source, first_crops
from jaxcodec.zoo.weights import load_weights

_LAMBDA = flags.DEFINE_float(
    "lambda", 0.013, "Weight of 255^2 * MSE against bits per pixel.", lower_bound=0.0
)
_TRANSFORM = flags.DEFINE_enum(
    "transform", "bls2017", ["paper", "bls2017", "bmshj2018"], "The network's stages."
)
_PRIOR = flags.DEFINE_enum(
    "prior", "deep_factorized", ["deep_factorized", "piecewise_linear"], "The density."
)
_CHANNELS = flags.DEFINE_integer("channels", 192, "N, hidden channels.", lower_bound=1)
_LATENTS = flags.DEFINE_integer("latent_channels", None, "M, channels of the latents; N when not given.")
_PRIOR_FACTOR = flags.DEFINE_float("prior_factor", 10.0, "Learning rate of the deep factorized prior, times.")
_DENSITY_RATE = flags.DEFINE_float(
    "density_rate", 1.0, "Step size of the piecewise-linear density's own rule."
)
_INIT = flags.DEFINE_enum(
    "init",
    "principal_components",
    ["principal_components", "random"],
    "How a run without --init_weights begins.",
)
_INIT_WEIGHTS = flags.DEFINE_string("init_weights", None, "Weight file to start from, of the same network.")
_INIT_GAIN = flags.DEFINE_float(
    "init_gain", 1.0, "Scale the latents of --init_weights: (new lambda / old)^0.5 speeds a warm start."
)


@dataclass(frozen=True)
class RateDistortion:
    """The training task: rate + lambda * distortion under additive noise."""

    config: TransformConfig
    weight: float
    dtype: Any = jnp.float32
    prior_factor: float = 10.0
    density_rate: float = 1.0
    space_to_depth_first: bool = False

    @property
    def coder(self) -> TransformCoder:
        """The Flax module."""
        return TransformCoder(self.config, self.dtype, self.space_to_depth_first)

    def init(self, key: jax.Array) -> Any:
        """Fresh random parameters."""
        x = jnp.zeros((1, 4 * STRIDE, 4 * STRIDE, 3), jnp.float32)
        return self.coder.init(key, x, quantise=jnp.round)["params"]

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Bits per pixel + lambda * 255^2 * MSE, for uint8 `[B, S, S, 3]`."""
        x = batch.astype(jnp.float32) / 255.0
        quantise = partial(additive_uniform_noise, key=key)
        coded: Any = self.coder.apply({"params": params}, x, quantise=quantise)
        reconstruction, likelihoods = coded
        bpp = -jnp.log2(likelihoods).sum() / (x.shape[0] * x.shape[1] * x.shape[2])
        mse = jnp.mean(jnp.square(reconstruction - x))
        terms = {"bpp": bpp, "mse": mse, "psnr": -10.0 * jnp.log10(mse)}
        return bpp + self.weight * 255.0**2 * mse, terms

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam; the prior at a higher rate, or by its own rule where it is piecewise linear."""

        def adam(factor: float) -> optax.GradientTransformation:
            return optax.chain(optax.scale_by_adam(), optax.scale(-factor), optax.scale(learning_rate))

        if self.config.prior == "deep_factorized":
            prior = adam(self.prior_factor)
        else:
            prior = density_descent(rate=self.density_rate, positions_per_pixel=1 / STRIDE**2)
        return optax.multi_transform(
            {"network": adam(1.0), "prior": prior},
            lambda params: {name: "prior" if name == "prior" else "network" for name in params},
        )


def scale_latents(params: Mapping[str, Any], config: TransformConfig, gain: float) -> dict[str, Any]:
    """The same network with its latents multiplied by `gain`, prior included: a start for another lambda.

    Raises
    ------
    ValueError
        For the `paper` transform, whose GDN on the latents does not commute with a gain, or another prior.
    """
    if config.transform == "paper" or config.prior != "deep_factorized":
        raise ValueError(
            "--init_gain works with transforms bls2017 and bmshj2018 and the deep factorized prior"
        )
    last = f"convolution_{len(config.stages) - 1}"
    new = jax.tree.map(np.asarray, dict(params))
    analysis = {name: value * gain for name, value in params["analysis"][last].items()}
    synthesis = {**params["synthesis"][last], "kernel": params["synthesis"][last]["kernel"] / gain}
    slope = np.log1p(np.exp(params["prior"]["matrix_0"])) / gain
    return {
        "analysis": {**new["analysis"], last: analysis},
        "synthesis": {**new["synthesis"], last: synthesis},
        "prior": {**new["prior"], "matrix_0": np.log(np.expm1(slope)).astype(np.float32)},
    }


def _initial_params(task: RateDistortion, source: Source) -> Any:
    config, seed = task.config, training_flags.SEED.value
    if _INIT_WEIGHTS.value is None:
        if _INIT.value == "random" or config.transform == "paper" or config.prior != "deep_factorized":
            return None
        crops = first_crops(source, seed=seed, count=128, size=8 * STRIDE)
        return from_principal_components(task.init(jax.random.key(seed)), crops, config, task.weight)
    weights = load_weights(_INIT_WEIGHTS.value)
    if TransformConfig(**weights.config) != config:
        raise BadOption(f"{_INIT_WEIGHTS.value} holds {weights.config}; the flags ask for {config.to_dict()}")
    params = weights.params
    return params if math.isclose(_INIT_GAIN.value, 1.0) else scale_latents(params, config, _INIT_GAIN.value)


def _train() -> None:
    if training_flags.CROP_SIZE.value % STRIDE:
        raise BadOption(f"--crop_size={training_flags.CROP_SIZE.value} is not a multiple of {STRIDE}")
    network: dict[str, Any] = {
        "transform": _TRANSFORM.value,
        "channels": _CHANNELS.value,
        "latent_channels": _LATENTS.value or _CHANNELS.value,
        "prior": _PRIOR.value,
    }
    config = TransformConfig(**network)
    task = RateDistortion(
        config,
        _LAMBDA.value,
        jnp.dtype(training_flags.DTYPE.value),
        prior_factor=_PRIOR_FACTOR.value,
        density_rate=_DENSITY_RATE.value,
        space_to_depth_first=jax.default_backend() != "cpu",
    )
    source = training_flags.open_source()
    training_flags.run(
        task,
        source,
        codec="bmshj2018" if config.transform == "bmshj2018" else "balle2017",
        network=config.to_dict(),
        initial_params=_initial_params(task, source),
    )


if __name__ == "__main__":
    training_flags.main(_train)
