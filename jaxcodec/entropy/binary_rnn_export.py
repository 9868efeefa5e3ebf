"""BinaryRNN from trained floats to the integers that coding evaluates. Done once: a decoder reads the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcodec.entropy.binary_rnn import CONFIDENCE, BinaryRNNConfig, integer_weights, weight_exponent
from jaxcodec.entropy.binary_rnn_integer import (
    ACTIVATION_LIMIT,
    ACTIVATION_UNIT,
    CENTRE,
    GATE_UNIT,
    INDEX_UNIT,
    SUM_LIMIT,
    TABLE_SIZE,
    TABLES,
    accumulator_bound,
)
from jaxcodec.ops.quantise import hard_round


def integer_arrays(params: Mapping[str, Any], config: BinaryRNNConfig) -> dict[str, np.ndarray]:
    """Integers of a trained network, for the `tables` of a weight file.

    Parameters
    ----------
    params
        Of `BinaryRNN(config)`.
    config
        T, D and F.

    Returns
    -------
    dict
        For each layer `<layer>/kernel` int8 `[copies, inputs, outputs]`, `<layer>/bias` int32 and
        `<layer>/shift` uint8 `[copies, outputs]`; and the tables, `table/<name>` `[4096]`.
        `IntegerBinaryRNN.from_arrays` takes them.

    Raises
    ------
    ValueError
        If parameters do not fit the configuration, or a layer's sums might reach 2^31, which takes a bias of
        thousands.
    """
    arrays: dict[str, np.ndarray] = {
        f"table/{name}": table.astype(TABLES[name]) for name, table in _tables().items()
    }
    for name, shape in config.shapes.items():
        kernel = jnp.asarray(params[f"{name}_kernel"], jnp.float32)
        bias = np.asarray(params[f"{name}_bias"], np.float64)
        if kernel.shape != shape[:3]:
            raise ValueError(f"kernel '{name}' is {kernel.shape}, but {config} has {shape[:3]}")
        exponent = weight_exponent(kernel, unit=shape.unit)
        weights = np.asarray(integer_weights(kernel, exponent, quantise=hard_round)).astype(np.int8)
        exponent = np.asarray(exponent).astype(np.int64)
        shift = exponent + shape.unit - INDEX_UNIT
        # In the bias: half a unit of the index, so that the shift rounds, and the middle of the table.
        whole = np.rint(bias * 2.0 ** (exponent + shape.unit)) + ((CENTRE << shift) + ((1 << shift) >> 1))
        if (bound := accumulator_bound(weights, whole, unit=shape.unit)) >= SUM_LIMIT:
            raise ValueError(f"sums of layer '{name}' might reach {bound}, more than an int32 holds")
        arrays[f"{name}/kernel"] = weights
        arrays[f"{name}/bias"] = whole.astype(np.int32)
        arrays[f"{name}/shift"] = shift.astype(np.uint8)
    return arrays


def accumulator_bounds(arrays: Mapping[str, np.ndarray], config: BinaryRNNConfig) -> dict[str, int]:
    """The largest |sum| that each layer can reach whatever its inputs: below 2^31, as `integer_arrays` proved."""
    return {
        name: accumulator_bound(arrays[f"{name}/kernel"], arrays[f"{name}/bias"], unit=shape.unit)
        for name, shape in config.shapes.items()
    }


def _tables() -> dict[str, np.ndarray]:
    v = (np.arange(TABLE_SIZE) - CENTRE) / 2.0**INDEX_UNIT
    tanh = np.tanh(v)
    # The sigmoid by tanh, which cannot overflow.
    sigmoid = 0.5 + 0.5 * np.tanh(0.5 * v)
    return {
        "tanh": np.clip(np.rint(tanh * 2.0**ACTIVATION_UNIT), -ACTIVATION_LIMIT, ACTIVATION_LIMIT),
        "tanh_gate": np.rint(tanh * 2.0**GATE_UNIT),
        "sigmoid_gate": np.rint(sigmoid * 2.0**GATE_UNIT),
        "ones": np.rint(65536 * (0.5 + 0.5 * CONFIDENCE * tanh)),
    }
