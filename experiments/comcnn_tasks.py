"""The two halves of the alternating training of ComCNN and RecCNN as tasks of the training loop, and their data.

A training picture has three channels: the original luma, what is to be restored, and how coarsely the codec
quantised, everywhere the same. So crops of it are all that RecCNN needs; ComCNN looks at the first only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxcodec.codecs.comcnn.coarseness import step_of_coarseness
from jaxcodec.codecs.comcnn.inner import InnerCodec, inner_codec
from jaxcodec.codecs.comcnn.model import ComCNN, ComCnnConfig, RecCNN, halve
from jaxcodec.codecs.comcnn.networks import Networks, enlarged
from jaxcodec.codecs.comcnn.surrogate import (
    Surrogate,
    all_luma_tables,
    bits_per_sample,
    jpeg_stand_in,
    real_codec,
    restoration_loss,
)
from jaxcodec.zoo.weights import round_params

_MIDDLE_STEP = 32.0
"""The quantisation step at which an example weighs 1."""


@dataclass(frozen=True)
class PairTask:
    """What both halves share: the parameters, `{"comcnn": ..., "reccnn": ...}`, of which each trains its own.

    Attributes
    ----------
    config
        The networks. For a restorer of full-size pictures there is no ComCNN among the parameters.
    dtype
        Of the convolutions.
    step_power
        An example weighs (32 / step)^this: finely quantised ones have small errors, and would not count.
    restorer
        Whether there is RecCNN only.
    """

    config: ComCnnConfig
    dtype: Any = jnp.float32
    step_power: float = 0.5
    restorer: bool = False

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters: RecCNN returns its input, ComCNN the bicubic reduction."""
        first, second = jax.random.split(key)
        x, c = jnp.zeros((1, 32, 32, 1), jnp.float32), jnp.zeros(1, jnp.float32)
        params = {"reccnn": RecCNN(self.config.reccnn).init(first, x, c)["params"]}
        if not self.restorer:
            params["comcnn"] = ComCNN(self.config.compact_channels).init(second, x, c)["params"]
        return params

    def restore(self, params: Any, u: jax.Array, coarseness: jax.Array) -> jax.Array:
        """`u - R(u)`."""
        error: Any = RecCNN(self.config.reccnn, self.dtype).apply({"params": params["reccnn"]}, u, coarseness)
        return u - error

    def weights(self, coarseness: jax.Array) -> jax.Array:
        """`[B]`, of the examples."""
        return (_MIDDLE_STEP / 2.0 ** (8.0 * coarseness)) ** self.step_power

    def train_only(self, part: str, learning_rate: Any) -> optax.GradientTransformation:
        """Adam for one network, nothing for the other."""
        rules: Any = {"trained": optax.adam(learning_rate), "frozen": optax.set_to_zero()}
        return optax.multi_transform(
            rules, lambda params: {name: "trained" if name == part else "frozen" for name in params}
        )


def _terms(mse: jax.Array, before: jax.Array) -> dict[str, jax.Array]:
    psnr = -10.0 * jnp.log10(jnp.maximum(mse, 1e-9))
    return {"psnr": psnr.mean(), "gain": (psnr + 10.0 * jnp.log10(jnp.maximum(before, 1e-9))).mean()}


@dataclass(frozen=True)
class TrainRecCnn(PairTask):
    """ComCNN rests: RecCNN learns from pictures that the real codec coded."""

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Weighted squared error, for uint8 `[B, S, S, 3]`."""
        turned = jax.random.bernoulli(key, 0.5, (batch.shape[0],))[:, None, None, None]
        batch = jnp.where(turned, batch.transpose(0, 2, 1, 3), batch).astype(jnp.float32) / 255.0
        x, u, coarseness = batch[..., :1], batch[..., 1:2], batch[:, 0, 0, 2]
        mse = jnp.square(self.restore(params, u, coarseness) - x).mean((1, 2, 3))
        loss = (self.weights(coarseness) * mse).mean()
        return loss, _terms(mse, jnp.square(u - x).mean((1, 2, 3)))

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam."""
        return self.train_only("reccnn", learning_rate)


@dataclass(frozen=True)
class TrainComCnn(PairTask):
    """RecCNN rests: ComCNN learns which small picture it restores best, through a surrogate of the codec.

    Attributes
    ----------
    surrogate
        One of `surrogate.SURROGATES`.
    rate_weight
        Price of a guessed bit per sample of the small picture, in squared quantisation steps. 0 as in the paper,
        whose files then grow with what ComCNN sharpens.
    """

    surrogate: Surrogate = "ste_codec"
    rate_weight: float = 0.1

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Weighted squared error and rate, for uint8 `[B, S, S, 3]`; S a multiple of 16."""
        x = batch[..., :1].astype(jnp.float32) / 255.0
        codec, jpeg = inner_codec(self.config.inner), self.config.inner == "jpeg"
        # One quality per example; the real codec, which sees the batch as one picture, takes one for all.
        low, high = np.log(self.config.lowest), np.log(self.config.highest)
        draw = jax.random.uniform(key, (x.shape[0],) if jpeg else ())
        quality = jnp.round(jnp.exp(low + (high - low) * draw)).astype(jnp.int32)
        known = np.array([codec.coarseness(max(1, q)) for q in range(101)], np.float32) / 255.0
        coarseness = jnp.broadcast_to(jnp.take(jnp.asarray(known), quality), (x.shape[0],))
        correction: Any = ComCNN(self.config.compact_channels, self.dtype).apply(
            {"params": params["comcnn"]}, x, coarseness
        )
        y = halve(x) + correction
        if jpeg:
            tables = jnp.take(jnp.asarray(all_luma_tables()), quality, axis=0)
            code = partial(jpeg_stand_in, tables=tables)
        else:
            tables = jnp.broadcast_to((2.0 ** (8.0 * coarseness))[:, None, None], (x.shape[0], 8, 8))
            code = partial(real_codec, codec.name, quality=quality)
        frozen = jax.lax.stop_gradient({"reccnn": params["reccnn"]})
        loss, mse = restoration_loss(
            self.surrogate,
            y=y,
            x=x,
            code=code,
            restore=lambda u: self.restore(frozen, u, coarseness),
        )
        bits = bits_per_sample(255.0 * y, tables)
        # Squared error in [0, 1] per bit of a sample that stands for four pixels.
        price = self.rate_weight * jnp.square(2.0 ** (8.0 * coarseness) / 255.0)
        total = (self.weights(coarseness) * (loss + price * bits)).mean()
        return total, {"psnr": -10.0 * jnp.log10(mse).mean(), "bits": bits.mean()}

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam."""
        return self.train_only("comcnn", learning_rate)


# --- data ---


def luma_pictures(photos: Sequence[np.ndarray], scales: Sequence[float]) -> list[np.ndarray]:
    """Luma uint8 of photos uint8 `[H, W, 3]`, each at every scale; sides are even."""
    pictures = []
    for photo in photos:
        luma = Image.fromarray(photo).convert("L")
        for scale in scales:
            size = tuple(2 * int(side * scale / 2) for side in luma.size)
            resized = luma if scale == 1.0 else luma.resize((size[0], size[1]), Image.Resampling.BICUBIC)
            pictures.append(np.asarray(resized)[: size[1], : size[0]])
    return pictures


def random_qualities(config: ComCnnConfig, count: int, *, seed: int) -> list[int]:
    """Qualities from the lowest to the highest, uniform in the logarithm."""
    draw = np.random.default_rng(seed).uniform(np.log(config.lowest), np.log(config.highest), count)
    return [int(quality) for quality in np.round(np.exp(draw))]


def networks_of(config: ComCnnConfig, params: Any) -> Networks:
    """The networks as they will be exported, ready to run."""
    rounded = jax.device_put(round_params(jax.tree.map(np.asarray, params)))
    return Networks(config.reccnn, rounded["reccnn"], config.compact_channels, rounded.get("comcnn"))


def training_picture(luma: np.ndarray, decoded: np.ndarray, coarseness: int) -> np.ndarray:
    """Three channels as the module says."""
    return np.stack([luma, decoded, np.full_like(luma, coarseness)], axis=-1)


def coded_pictures(
    pictures: Sequence[np.ndarray],
    qualities: Sequence[int],
    *,
    codec: InnerCodec,
    networks: Networks | None,
    workers: int = 2,
) -> Iterator[np.ndarray]:
    """Training pictures of luma ones, coded by the real codec: reduced by ComCNN, or in full size without networks."""

    def coded(job: tuple[np.ndarray, int]) -> np.ndarray:
        luma, quality = job
        coarseness = codec.coarseness(quality)
        small = luma if networks is None else networks.compact(luma, coarseness)
        decoded = codec.decode(codec.encode(small, quality))
        whole = decoded if networks is None else enlarged(decoded, (luma.shape[0], luma.shape[1]))
        return training_picture(luma, whole, coarseness)

    with ThreadPoolExecutor(workers) as executor:
        yield from executor.map(coded, zip(pictures, qualities, strict=True))


def steps_of(qualities: Sequence[int], codec: InnerCodec) -> list[float]:
    """Quantisation steps of qualities, in 8-bit levels."""
    return [step_of_coarseness(codec.coarseness(quality)) for quality in qualities]
