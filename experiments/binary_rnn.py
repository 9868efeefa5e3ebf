r"""Train BinaryRNN, the entropy model of the 2017 recurrent codec, on codes of pictures.

python -m experiments.binary_rnn --train_data=codes.npz --workdir=runs/binary_rnn --depth=64 --max_seconds=180

`codes.npz` holds one array `codes`, uint8 `[n, T, h, w, D / 8]`: the codes of n pictures of one size under a trained
and frozen codec, packed along D by `numpy.packbits`. The paper saves 5 to 32 % this way, most at low rates.

The last `--holdout` pictures are not trained on. When the training is done, the workdir gets
`binary_rnn.npz`, the integer network (`jaxcodec.entropy.binary_rnn_integer`), and `binary_rnn.json`, the mean bits
of a binary code of the held-out pictures, by iteration: of real streams of the network and of the two simple
models, and the cross-entropy of the network in integers and in floats.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags, logging
from etils import epath

from experiments import training_flags
from jaxcodec.coding.binary_planes import (
    AdaptivePlanes,
    PlaneModel,
    StaticPlanes,
    encode_codes,
    ideal_bits,
    probabilities,
)
from jaxcodec.entropy.binary_rnn import BinaryRNN, BinaryRNNConfig
from jaxcodec.entropy.binary_rnn_export import integer_arrays
from jaxcodec.entropy.binary_rnn_integer import IntegerBinaryRNN
from jaxcodec.errors import BadOption
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.training.source import ResidentSource

_DEPTH = flags.DEFINE_integer("depth", 64, "F, channels of the hidden layers.", lower_bound=1)
_SHORTCUT = flags.DEFINE_bool("shortcut", True, "Let the output see bits directly, which the paper has not.")
_HOLDOUT = flags.DEFINE_integer("holdout", 8, "Pictures at the end to measure on instead.", lower_bound=1)

flags.set_default(training_flags.CROP_SIZE, 16)  # positions per side
flags.set_default(training_flags.LEARNING_RATE, 2e-3)


@dataclass(frozen=True)
class CodeLength:
    """The training task: mean bits of a binary code."""

    config: BinaryRNNConfig

    def init(self, key: jax.Array) -> Any:
        """Fresh random parameters."""
        codes = jnp.zeros((1, self.config.iterations, 4, 4, self.config.bits), jnp.float32)
        return BinaryRNN(self.config).init(key, codes)["params"]

    def loss(
        self, params: Any, batch: jax.Array, *, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Bits per code of packed codes, uint8 `[B, T, S, S, D / 8]`; the terms are those of each iteration."""
        del key
        cost: Any = BinaryRNN(self.config).apply({"params": params}, signs(batch))
        by_iteration = cost.mean((0, 2, 3, 4))
        terms = {f"bits_{k + 1}": by_iteration[k] for k in range(self.config.iterations)}
        return by_iteration.mean(), terms

    def optimiser(self, learning_rate: Any) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(learning_rate)


def signs(packed: jax.Array) -> jax.Array:
    """Packed bits `[..., D / 8]` to float32 +-1 `[..., D]`."""
    return 2.0 * jnp.unpackbits(packed, axis=-1).astype(jnp.float32) - 1.0


def random_tiles(codes: jax.Array, *, key: jax.Array, batch_size: int, size: int) -> jax.Array:
    """Draw `[B, T, S, S, D / 8]` from codes `[n, T, h, w, D / 8]`, uniformly over pictures and positions."""
    n, T, h, w, packed = codes.shape
    limits = (n, h - size + 1, w - size + 1)
    pictures, rows, columns = (
        jax.random.randint(k, (batch_size,), 0, limit)
        for k, limit in zip(jax.random.split(key, 3), limits, strict=True)
    )

    def tile(picture: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(codes, (picture, 0, row, column, 0), (1, T, size, size, packed))[0]

    return jax.vmap(tile)(pictures, rows, columns)


def read_codes(path: str) -> np.ndarray:
    """Read `codes` of an npz file; `BadOption` if there are none of the right kind."""
    try:
        with np.load(io.BytesIO(epath.Path(path).read_bytes())) as file:
            codes = file["codes"]
    except (OSError, ValueError, KeyError) as error:
        raise BadOption(f"--train_data={path} is not an npz file with an array 'codes': {error}") from error
    if codes.dtype != np.uint8 or codes.ndim != 5 or codes.shape[1] < 2 or not codes.size:
        raise BadOption(
            f"{path}: codes must be uint8 [n, T, h, w, D / 8] of at least 2 iterations, "
            f"got {codes.dtype} {list(codes.shape)}"
        )
    return codes


def measure(
    codes: np.ndarray, *, fitted_on: np.ndarray, params: Any, config: BinaryRNNConfig
) -> dict[str, Any]:
    """Mean bits per binary code and iteration, by several ways of coding.

    Parameters
    ----------
    codes, fitted_on
        Packed, `[n, T, h, w, D / 8]`: what is measured, and what the static model takes its frequencies from.
    params, config
        The trained network.
    """
    network = IntegerBinaryRNN.from_arrays(integer_arrays(params, config))
    models: dict[str, PlaneModel] = {
        "binary_rnn": network,
        "static": StaticPlanes.fit(np.unpackbits(fitted_on, axis=-1)),
        "adaptive": AdaptivePlanes(config.iterations, config.bits),
    }

    @jax.jit
    def float_cost(params: Any, packed: jax.Array) -> Any:
        return BinaryRNN(config).apply({"params": params}, signs(packed), quantise=lambda x: x)

    sums = {name: np.zeros(config.iterations) for name in (*models, "integer_entropy", "float_entropy")}
    for picture in codes:
        bits = np.unpackbits(picture, axis=-1)
        for name, model in models.items():
            sums[name] += [8 * len(chunk) for chunk in encode_codes(bits, model)]
        sums["integer_entropy"] += ideal_bits(bits, probabilities(bits, network))
        sums["float_entropy"] += np.asarray(float_cost(params, picture[None]), np.float64).sum((0, 2, 3, 4))
    whole = 8 * codes[:, 0].size
    return {
        "pictures": len(codes),
        "bits_per_code": {name: (total / whole).round(5).tolist() for name, total in sums.items()},
        "mean": {name: round(float(total.mean()) / whole, 5) for name, total in sums.items()},
    }


def _finish(codes: np.ndarray, held_out: np.ndarray, config: BinaryRNNConfig) -> None:
    workdir = epath.Path(str(training_flags.WORKDIR.value))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state, _ = checkpoints.read()
    params = jax.tree.map(np.asarray, state["ema_params"])
    buffer, arrays = io.BytesIO(), integer_arrays(params, config)
    np.savez_compressed(buffer, **arrays)  # pyrefly: ignore  # no array is called allow_pickle
    (workdir / "binary_rnn.npz").write_bytes(buffer.getvalue())
    results = {
        "network": config.to_dict(),
        **measure(held_out, fitted_on=codes, params=params, config=config),
    }
    (workdir / "binary_rnn.json").write_text(json.dumps(results, indent=1) + "\n")
    for name, by_iteration in results["bits_per_code"].items():
        logging.info("%16s: %s", name, " ".join(f"{bits:.4f}" for bits in by_iteration))


def _train() -> None:
    codes = read_codes(str(training_flags.TRAIN_DATA.value))
    size, held_out = training_flags.CROP_SIZE.value, _HOLDOUT.value
    if size > min(codes.shape[2:4]):
        raise BadOption(f"--crop_size={size} is larger than the codes of {codes.shape[2]}x{codes.shape[3]}")
    if len(codes) <= held_out:
        raise BadOption(f"--holdout={held_out} leaves nothing of {len(codes)} pictures to train on")
    config = BinaryRNNConfig(codes.shape[1], 8 * codes.shape[4], _DEPTH.value, shortcut=_SHORTCUT.value)
    batch_size = training_flags.BATCH_SIZE.value
    draw = partial(random_tiles, batch_size=batch_size, size=size)
    source = ResidentSource(codes[:-held_out], draw, batch_size)
    training_flags.run(CodeLength(config), source, codec="binary_rnn", network=config.to_dict())
    if jax.process_index() == 0:
        _finish(codes[:-held_out], codes[-held_out:], config)


if __name__ == "__main__":
    training_flags.main(_train)
