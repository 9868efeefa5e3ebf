r"""Train the full-resolution recurrent codec of Toderici et al. (CVPR 2017): one network for every rate.

python -m experiments.toderici2017 --train_data=PHOTOS --workdir=runs/toderici2017 --width=0.5 --max_seconds=1500

PHOTOS is a folder or a glob of lossless photos. `--tiles=high_entropy` trains on the 32x32 tiles of each photo that PNG
compresses worst, as the paper does; `--tiles=random` on random crops. Rerunning the command resumes. Next come
`experiments/binary_rnn.py` for the entropy coder and `scripts/export_weights.py` for a weight file.
Loss: the mean over iterations of the mean absolute difference of pixels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import training_flags
from jaxcodec.codecs.toderici2017.model import GAIN_STRIDE, RecurrentCoder, RecurrentConfig
from jaxcodec.data.tiles import high_entropy_tiles
from jaxcodec.errors import BadOption
from jaxcodec.ops.binarise import stochastic_binarise
from jaxcodec.zoo.weights import load_weights

_UNIT = flags.DEFINE_enum(
    "unit", "lstm", ["lstm", "associative_lstm", "gru", "residual_gru"], "The recurrent cell."
)
_FRAMEWORK = flags.DEFINE_enum(
    "framework", "additive", ["one_shot", "additive", "residual_scaling"], "How iterations add up."
)
_WIDTH = flags.DEFINE_float("width", 1.0, "Share of the paper's channels.", lower_bound=1 / 32)
_ITERATIONS = flags.DEFINE_integer("iterations", 16, "Unrolled in training; each is 1/8 bpp.", lower_bound=1)
_TILES = flags.DEFINE_enum(
    "tiles", "high_entropy", ["high_entropy", "random"], "Which parts of the photos are trained on."
)
_TILES_PER_PHOTO = flags.DEFINE_integer("tiles_per_photo", 100, "With --tiles=high_entropy.", lower_bound=1)
_EPSILON = flags.DEFINE_float(
    "adam_epsilon", 1e-8, "The authors' released trainer has 1.0, with learning rates of 0.1 to 1."
)
_INIT_WEIGHTS = flags.DEFINE_string("init_weights", None, "Weight file to start from, of the same network.")


@dataclass(frozen=True)
class ProgressiveReconstruction:
    """The training task: every iteration's reconstruction should be near the picture."""

    config: RecurrentConfig
    epsilon: float = 1e-8
    unroll: bool = False

    @property
    def coder(self) -> RecurrentCoder:
        """The Flax module."""
        return RecurrentCoder(self.config)

    def init(self, key: jax.Array) -> Any:
        """Fresh random parameters."""

        def once(coder: RecurrentCoder, x: jax.Array) -> Any:
            return coder.iterate(coder.initial_state(*x.shape[:3]), x, binarise=jnp.sign)

        x = jnp.zeros((1, GAIN_STRIDE, GAIN_STRIDE, 3), jnp.float32)
        return self.coder.init(key, x, method=once)["params"]

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean over iterations of mean |x - x^_t|, for uint8 `[B, S, S, 3]`."""
        x = batch.astype(jnp.float32) / 255.0 - 0.5
        variables = {"params": params}

        def step(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            after: Any = self.coder.apply(
                variables, state, x, binarise=partial(stochastic_binarise, key=key), method="iterate"
            )
            residual = x - after[0].reconstruction
            return after[0], (jnp.mean(jnp.abs(residual)), jnp.mean(jnp.square(residual)))

        start: Any = self.coder.apply(variables, *x.shape[:3], method="initial_state")
        _, (absolute, squared) = jax.lax.scan(
            step, start, jax.random.split(key, self.config.iterations), unroll=self.unroll
        )
        psnr = -10.0 * jnp.log10(squared)
        terms = {"psnr_first": psnr[0], "psnr_middle": psnr[len(psnr) // 2], "psnr_last": psnr[-1]}
        return jnp.mean(absolute), terms

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam."""
        return optax.chain(optax.scale_by_adam(eps=self.epsilon), optax.scale_by_learning_rate(learning_rate))


def _train() -> None:
    size = training_flags.CROP_SIZE.value
    if size % GAIN_STRIDE:
        raise BadOption(f"--crop_size={size} is not a multiple of {GAIN_STRIDE}")
    network: dict[str, Any] = {
        "unit": _UNIT.value,
        "framework": _FRAMEWORK.value,
        "width": _WIDTH.value,
        "iterations": _ITERATIONS.value,
    }
    config = RecurrentConfig(**network)
    select = None
    if _TILES.value == "high_entropy":

        def select(photos: Sequence[np.ndarray]) -> list[np.ndarray]:
            return high_entropy_tiles(photos, size=size, per_photo=_TILES_PER_PHOTO.value)

    initial = None
    if _INIT_WEIGHTS.value is not None:
        weights = load_weights(_INIT_WEIGHTS.value)
        if weights.config != config.to_dict():
            raise BadOption(
                f"{_INIT_WEIGHTS.value} holds {weights.config}; the flags ask for {config.to_dict()}"
            )
        initial = weights.params
    # On a CPU the gradient of a loop takes four times as long as that of the same steps written out.
    task = ProgressiveReconstruction(config, _EPSILON.value, unroll=jax.default_backend() == "cpu")
    source = training_flags.open_source(select=select)
    training_flags.run(task, source, codec="toderici2017", network=config.to_dict(), initial_params=initial)


if __name__ == "__main__":
    flags.set_default(training_flags.CROP_SIZE, 32)
    flags.set_default(training_flags.BATCH_SIZE, 32)
    flags.set_default(training_flags.LEARNING_RATE, 5e-4)
    training_flags.main(_train)
