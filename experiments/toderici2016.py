r"""Train one of the networks of Toderici et al. (ICLR 2016) on thumbnails made of photos.

python -m experiments.toderici2016 --train_data=PHOTOS --workdir=runs/conv_lstm --family=conv_lstm --max_seconds=600

PHOTOS is a folder or a glob of lossless photos; 32x32 thumbnails of them (whole photos and square parts, averaged
over areas) lie on the device, and patches are cut there. Rerunning the command resumes. Then
`python scripts/export_weights.py` makes a weight file, which serves every rate, and scripts/compare_thumbnails.py
compares such files with JPEG, JPEG 2000 and WebP.
Loss: the sum over stages of |r_t|^2, per pixel and stage, of pixels in [-0.9, 0.9].

The authors train by Adam with rates of 0.1 to 1, which goes with an epsilon of 1 as in the trainer that they released:
`--adam_epsilon=1 --learning_rate=0.1`. The defaults here are the usual epsilon and a rate to match.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags, logging

from experiments import training_flags
from jaxcodec.codecs.toderici2016.model import FAMILIES, ThumbnailConfig, init, squared_errors, to_values
from jaxcodec.data.crops import random_crops, store_photos
from jaxcodec.data.stream import read_all
from jaxcodec.data.thumbnails import make_thumbnails
from jaxcodec.errors import BadOption
from jaxcodec.ops.binarise import stochastic_binarise
from jaxcodec.training.source import ResidentSource
from jaxcodec.zoo.weights import load_weights

_FAMILY = flags.DEFINE_enum("family", "conv_lstm", list(FAMILIES), "The kind of network.")
_SHARED = flags.DEFINE_bool(
    "shared", True, "Whether all stages share their weights; --noshared is for fc and conv."
)
_WIDTH = flags.DEFINE_integer("width", 512, "Units or channels of the widest layers; 512 in the paper.")
_PATCH = flags.DEFINE_integer("patch", None, "Side of a patch; when not given 8, or 32 with convolutions.")
_STAGES = flags.DEFINE_integer("stages", None, "Stages; when not given 16, or 8 with convolutions.")
_BITS = flags.DEFINE_integer("bits", None, "Per patch and stage; when not given 4, or 128 with convolutions.")
_PER_PHOTO = flags.DEFINE_integer("thumbnails_per_photo", 256, "How many are made of each.", lower_bound=1)
_EPSILON = flags.DEFINE_float("adam_epsilon", 1e-8, "Added to the root of the second moment.")
_INIT_WEIGHTS = flags.DEFINE_string("init_weights", None, "Weight file to start from, of the same network.")


@dataclass(frozen=True)
class ThumbnailReconstruction:
    """The training task: what is missing after each stage should be small."""

    config: ThumbnailConfig
    epsilon: float = 1e-8
    unroll: bool = False

    def init(self, key: jax.Array) -> Any:
        """Fresh random parameters."""
        return init(self.config, key)

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean over stages of |r_t|^2 per pixel, for uint8 `[B, P, P, 3]`."""
        errors = squared_errors(
            params,
            to_values(batch),
            config=self.config,
            binarise=stochastic_binarise,
            key=key,
            unroll=self.unroll,
        )
        # Three channels of range 1.8, with random bits: signs do better.
        psnr = -10.0 * jnp.log10(errors / (3.0 * 1.8**2))
        terms = {"psnr_first": psnr[0], "psnr_middle": psnr[(len(psnr) - 1) // 2], "psnr_last": psnr[-1]}
        return jnp.mean(errors), terms

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam."""
        return optax.chain(optax.scale_by_adam(eps=self.epsilon), optax.scale_by_learning_rate(learning_rate))


def thumbnail_source(
    photos: list[np.ndarray], *, per_photo: int, patch: int, batch_size: int, seed: int
) -> ResidentSource:
    """Random patches of thumbnails of the photos, half of them mirrored."""
    thumbnails = make_thumbnails(photos, per_photo=per_photo, seed=seed)
    logging.info("%d thumbnails of %d photos", len(thumbnails), len(photos))
    store = store_photos(list(thumbnails), crop_size=patch)
    return ResidentSource(store, partial(random_crops, batch_size=batch_size, crop_size=patch), batch_size)


def _train() -> None:
    if training_flags.DTYPE.value != "float32":
        raise BadOption(
            "this network trains in float32; on a GPU --jax_default_matmul_precision=tensorfloat32"
        )
    if training_flags.DATA_LOADING.value == "stream":
        raise BadOption("thumbnails lie on the device; leave out --data_loading=stream")
    try:
        config = ThumbnailConfig.of(
            _FAMILY.value,
            shared=_SHARED.value,
            patch=_PATCH.value,
            stages=_STAGES.value,
            bits=_BITS.value,
            width=_WIDTH.value,
        )
    except ValueError as error:
        raise BadOption(str(error)) from error
    if config.patch > 32:
        raise BadOption(f"--patch={config.patch} is larger than a thumbnail, 32 pixels")
    initial = None
    if _INIT_WEIGHTS.value is not None:
        weights = load_weights(_INIT_WEIGHTS.value)
        if weights.config != config.to_dict():
            raise BadOption(
                f"{_INIT_WEIGHTS.value} holds {weights.config}; the flags ask for {config.to_dict()}"
            )
        initial = weights.params
    source = thumbnail_source(
        read_all(str(training_flags.TRAIN_DATA.value)),
        per_photo=_PER_PHOTO.value,
        patch=config.patch,
        batch_size=training_flags.BATCH_SIZE.value,
        seed=training_flags.SEED.value,
    )
    # On a CPU the gradient of a loop of convolutions takes four times as long as that of its steps written out.
    unroll = config.convolutional and jax.default_backend() == "cpu"
    task = ThumbnailReconstruction(config, _EPSILON.value, unroll)
    training_flags.run(task, source, codec="toderici2016", network=config.to_dict(), initial_params=initial)


if __name__ == "__main__":
    flags.set_default(training_flags.BATCH_SIZE, 64)
    flags.set_default(training_flags.LEARNING_RATE, 1e-3)
    training_flags.main(_train)
