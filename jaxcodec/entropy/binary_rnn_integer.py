"""BinaryRNN in integers: what coding evaluates, position by position, the same on every machine. No jax here.

Operands are int8 and each sum of products stays below 2^31, which `from_arrays` proves of every layer. The
products are done by numpy in float64: there all sums of such integers are exact, in whatever order a library
adds them, and fast. Everything else is shifts, clips and tables that come with the weights:

| quantity                                   | integer                 | unit  |
|--------------------------------------------|-------------------------|-------|
| a bit, +-1                                 | +-64, outside the map 0 | 2^-6  |
| outputs of tanh layers, hidden states      | -127..127               | 2^-7  |
| weights of an output channel               | -127..127               | 2^-e  |
| index of a table, round(256 v) + 2048      | clipped to 0..4095      | 2^-8  |
| gates                                      | -4096..4096             | 2^-12 |
| cell states                                | -32767..32767           | 2^-12 |

A layer is `index = (x @ kernel + bias) >> shift`, shift = e + 6 - 8 or e + 7 - 8 per output channel, where the bias
already holds half a unit for rounding and the 2048. `tests/entropy/test_binary_rnn.py` writes the same network
down a second time, in int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxcodec.errors import CorruptFile

BIT, BIT_UNIT = 64, 6
ACTIVATION_LIMIT, ACTIVATION_UNIT = 127, 7
INDEX_UNIT, TABLE_SIZE = 8, 4096
CENTRE = TABLE_SIZE // 2
GATE_UNIT = 12
CELL_LIMIT = 2**15 - 1
SUM_LIMIT = 2**31
STRIP = 4096
"""Positions that a convolution takes at once, so that memory stays bounded."""

TABLES = {"tanh": np.int8, "tanh_gate": np.int16, "sigmoid_gate": np.int16, "ones": np.uint16}
_REMEDY = "export the weights again or get another copy of their file"


class Taps(NamedTuple):
    """Where a position looks: rows down and columns to the right. Inputs of a kernel go by row, column, channel."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """All pairs of (row, column), in order."""
        return [(row, column) for row in self.rows for column in self.columns]


# The strict 7x7 mask is what is above and what is to the left.
ABOVE = Taps((-3, -2, -1), (-3, -2, -1, 0, 1, 2, 3))
LEFT = Taps((0,), (-3, -2, -1))
AROUND = Taps((-1, 0, 1), (-1, 0, 1))
_CONTEXT, _AROUND = len(ABOVE.offsets + LEFT.offsets), len(AROUND.offsets)


class LayerShape(NamedTuple):
    """Of a layer's kernel, `[copies, inputs, outputs]`; `unit` is that of its inputs."""

    copies: int
    inputs: int
    outputs: int
    unit: int = ACTIVATION_UNIT


def layer_shapes(*, iterations: int, bits: int, depth: int, shortcut: bool) -> dict[str, LayerShape]:
    """All layers, in the order of the forward pass, for T iterations of D bits and F channels.

    The inputs of `line` are, in this order, the outputs of `context` at columns -1 and 0, those of
    `state_context` there, and the hidden state of the row above at columns -1, 0 and 1; those of `iteration` are
    the summary and the hidden state. LSTM outputs are the gates f, i, o and j. With a shortcut, `output` has as
    inputs, besides those of `output_hidden`, the bits that `context` sees and the 3x3 bits of the iteration
    before; as everything else there is in units of 2^-7, these count as +-1/2.
    """
    T, D, F = iterations, bits, depth
    return {
        # Of each iteration: from its own bits and the state, to the probabilities.
        "context": LayerShape(T, _CONTEXT * D, F, BIT_UNIT),
        "state_context": LayerShape(T, _AROUND * D, F),
        "line": LayerShape(T, 7 * F, 4 * F),
        "output_hidden": LayerShape(T, F, F),
        "output": LayerShape(T, F + (_CONTEXT + _AROUND) * D if shortcut else F, D),
        # Of each iteration but the last: what its bits say to the next; then, shared, the state.
        "summary_hidden": LayerShape(T - 1, _AROUND * D, F, BIT_UNIT),
        "summary": LayerShape(T - 1, _AROUND * F, D),
        "iteration": LayerShape(1, D + F, 4 * F),
        "state_hidden": LayerShape(1, F, F),
        "state": LayerShape(1, F, D),
    }


def accumulator_bound(kernel: np.ndarray, bias: np.ndarray, *, unit: int) -> int:
    """The largest |sum| that any inputs, in any order of addition, can give a layer `[copies, inputs, outputs]`."""
    largest = BIT if unit == BIT_UNIT else ACTIVATION_LIMIT
    return int((largest * np.abs(kernel.astype(np.int64)).sum(-2) + np.abs(bias.astype(np.int64))).max())


class _Layer:
    """One copy of a layer, ready to multiply."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray) -> None:
        self.kernel, self.bias = kernel.astype(np.float64), bias.astype(np.float64)
        self.shift = shift.astype(np.int64)

    def index(self, x: np.ndarray) -> np.ndarray:
        """Indices of the table that follows, int64 `[n, outputs]` or `[outputs]`; not yet clipped."""
        return (x @ self.kernel + self.bias).astype(np.int64) >> self.shift


class _Blocks:
    """A kernel in blocks of eight columns, for products with the positions of one row.

    A BLAS spreads a product of this size over threads, and on a busy machine waking them takes ten times as long
    as the product; those of the blocks stay below what is spread.
    """

    def __init__(self, kernel: np.ndarray) -> None:
        inputs, outputs = kernel.shape
        width = math.gcd(outputs, 8)
        self._blocks = np.ascontiguousarray(kernel.reshape(inputs, -1, width).swapaxes(0, 1))

    def product(self, x: np.ndarray) -> np.ndarray:
        """`x @ kernel`, `[n, outputs]`."""
        return (x @ self._blocks).swapaxes(0, 1).reshape(len(x), -1)


@dataclass(frozen=True, eq=False)
class IntegerBinaryRNN:
    """The network as arrays of integers; a `PlaneModel` of `jaxcodec.coding.binary_planes`.

    Attributes
    ----------
    iterations, bits, depth, shortcut
        T, D, F, and whether bits also act on the output directly.
    layers
        By name, one `_Layer` per copy.
    tables
        By name, `[4096]`.
    """

    iterations: int
    bits: int
    depth: int
    shortcut: bool
    layers: Mapping[str, tuple[_Layer, ...]]
    tables: Mapping[str, np.ndarray]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> IntegerBinaryRNN:
        """Rebuild the network from `jaxcodec.entropy.binary_rnn_export.integer_arrays`.

        Raises
        ------
        CorruptFile
            If an array is missing or not such, or a layer's sums might reach 2^31.
        """
        context, output = (_array(arrays, f"{name}/kernel", np.int8, None) for name in ("context", "output"))
        if context.ndim != 3 or output.ndim != 3 or context.shape[1] % _CONTEXT or not context.size:
            raise CorruptFile(
                f"BinaryRNN: kernels are {list(context.shape)} and {list(output.shape)}; {_REMEDY}"
            )
        iterations, inputs, depth = context.shape
        sizes: dict[str, Any] = {"iterations": iterations, "bits": inputs // _CONTEXT, "depth": depth}
        sizes["shortcut"] = output.shape[1] != depth
        layers = {}
        for name, (copies, inputs, outputs, unit) in layer_shapes(**sizes).items():
            kernel = _array(arrays, f"{name}/kernel", np.int8, (copies, inputs, outputs))
            bias = _array(arrays, f"{name}/bias", np.int32, (copies, outputs))
            shift = _array(arrays, f"{name}/shift", np.uint8, (copies, outputs))
            if copies and (shift.max() > 31 or accumulator_bound(kernel, bias, unit=unit) >= SUM_LIMIT):
                raise CorruptFile(f"BinaryRNN: the sums of layer '{name}' might overflow; {_REMEDY}")
            layers[name] = tuple(map(_Layer, kernel, bias, shift))
        tables = {n: _array(arrays, f"table/{n}", kind, (TABLE_SIZE,)) for n, kind in TABLES.items()}
        for name, limit in (("tanh", ACTIVATION_LIMIT), ("tanh_gate", 4096), ("sigmoid_gate", 4096)):
            if np.abs(tables[name].astype(np.int64)).max() > limit:
                raise CorruptFile(f"BinaryRNN: table '{name}' has entries beyond {limit}; {_REMEDY}")
        if tables["ones"].min() < 1:
            raise CorruptFile(f"BinaryRNN: table 'ones' has an impossible bit; {_REMEDY}")
        # What goes on into products is kept as float64, the rest as int64.
        kept = {n: t.astype(np.float64 if n == "tanh" else np.int64) for n, t in tables.items()}
        return cls(**sizes, layers=layers, tables=kept)

    @property
    def least_bits(self) -> float:
        """Bits that the likeliest bit costs."""
        ones = self.tables["ones"]
        return float(16 - np.log2(max(ones.max(), 65536 - ones.min())))

    def working_bytes(self, height: int, width: int) -> int:
        """Maps of states and bits, 8 bytes a number, and strips of neighbourhoods."""
        maps = height * width * (5 * self.bits + 4 * self.depth)
        strips = max(STRIP, width) * 20 * (self.bits + self.depth)
        return 8 * (maps + strips + width * (22 * self.bits + 16 * self.depth))

    def walk(self, height: int, width: int) -> BinaryRNNWalk:
        """Begin a picture whose planes are `[height, width, D]`."""
        return BinaryRNNWalk(self, height, width)

    def tanh(self, index: np.ndarray) -> np.ndarray:
        """Table lookup: float64 integers in -127..127."""
        return self.tables["tanh"].take(index, mode="clip")

    def lstm(self, gates: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """New cell and hidden states, int64 `[..., F]`, from indices of gates `[..., 4F]` and cells `[..., F]`."""
        F = self.depth
        f_i_o = self.tables["sigmoid_gate"].take(gates[..., : 3 * F], mode="clip")
        j = self.tables["tanh_gate"].take(gates[..., 3 * F :], mode="clip")
        # 2^-12 times 2^-12: at most 2^27 + 2^24. Then back to 2^-12, rounded.
        cell = (f_i_o[..., :F] * cell + f_i_o[..., F : 2 * F] * j + 2**11) >> GATE_UNIT
        cell = np.maximum(np.minimum(cell, CELL_LIMIT), -CELL_LIMIT)
        index = (cell + (2**3 + 2**4 * CENTRE)) >> (GATE_UNIT - INDEX_UNIT)
        product = f_i_o[..., 2 * F :] * self.tables["tanh_gate"].take(index, mode="clip")
        hidden = (product + 2**16) >> (2 * GATE_UNIT - ACTIVATION_UNIT)
        return cell, np.maximum(np.minimum(hidden, ACTIVATION_LIMIT), -ACTIVATION_LIMIT)


class BinaryRNNWalk:
    """A picture in the middle of its iterations.

    Of a position's sums, everything that only depends on the rows above and on earlier iterations is computed
    for a whole row at once; what is left is four small products a position.
    """

    def __init__(self, model: IntegerBinaryRNN, height: int, width: int) -> None:
        self._model, self._height, self._width = model, height, width
        self._next = 0
        D, F = model.bits, model.depth
        self._plane = np.zeros((height + 2, width + 2, D))  # the last one, as `_filter` wants it
        self._state = np.zeros((height + 2, width + 2, D))  # with a border of zeros
        self._cell = np.zeros((height, width, F), np.int64)
        self._hidden = np.zeros((height, width, F))
        rows = max(1, STRIP // width)
        self._strips = [slice(row, min(row + rows, height)) for row in range(0, height, rows)]

    def plane(self, code: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Have the bits of the next iteration coded, D at a time in raster order: uint8 `[h, w, D]`."""
        model, width, D, F = self._model, self._width, self._model.bits, self._model.depth
        if self._next == model.iterations:
            raise ValueError(f"all {model.iterations} iterations are coded")
        if self._next:
            self._update_state()
        context, state_context, line, output_hidden, output = (
            model.layers[name][self._next]
            for name in ("context", "state_context", "line", "output_hidden", "output")
        )
        # With a shortcut, what depends on the bits is D outputs wider: these go on to the output's sums.
        above, seen_bits = len(ABOVE.offsets) * D, _CONTEXT * D
        from_bits = context.kernel
        shortcut = np.zeros((self._height, width, D))
        if model.shortcut:
            from_bits = np.concatenate([from_bits, output.kernel[F : F + seen_bits]], axis=1)
            for strip in self._strips:
                x = self._around(self._plane, strip)
                shortcut[strip] = (x @ output.kernel[F + seen_bits :]).reshape(shortcut[strip].shape)
        above_kernel, left_kernel = _Blocks(from_bits[:above]), from_bits[above:]
        bits_bias = np.concatenate([context.bias, np.zeros(from_bits.shape[1] - F)])
        output_kernel = output.kernel[:F]
        shortcut += output.bias
        gate_kernel, other_kernel = line.kernel[: 2 * F], _Blocks(line.kernel[2 * F :])
        tanh, lstm, ones = model.tanh, model.lstm, model.tables["ones"]
        # Three rows above the map and three columns at either side.
        plane = np.zeros((self._height + 3, width + 6, D))
        coded = np.empty((self._height, width, D), np.uint8)
        cell, hidden = np.zeros((width, F), np.int64), np.zeros((width + 2, F))
        seen = np.zeros((self._height, width + 1, F))
        for strip in self._strips:
            seen[strip, 1:] = self._filter(state_context, self._state, strip)
        for row in range(self._height):
            rows_above = [plane[row + 3 + dy, 3 + dx : 3 + dx + width] for dy, dx in ABOVE.offsets]
            from_above = above_kernel.product(np.concatenate(rows_above, 1)) + bits_bias
            others = (seen[row, :-1], seen[row, 1:], hidden[:-2], hidden[1:-1], hidden[2:])
            from_others = other_kernel.product(np.concatenate(others, 1)) + line.bias
            here = plane[row + 3]
            read = np.zeros((width + 1, F))
            for column in range(width):
                sums = here[column : column + 3].ravel() @ left_kernel + from_above[column]
                read[column + 1] = tanh(sums[:F].astype(np.int64) >> context.shift)
                direct = shortcut[row, column]
                if model.shortcut:
                    direct = direct + sums[F:]
                sums = read[column : column + 2].ravel() @ gate_kernel + from_others[column]
                cell[column], new = lstm(sums.astype(np.int64) >> line.shift, cell[column])
                hidden[column + 1] = new
                sums = tanh(output_hidden.index(hidden[column + 1])) @ output_kernel + direct
                index = sums.astype(np.int64) >> output.shift
                bits = coded[row, column] = code(ones.take(index, mode="clip"))
                here[column + 3] = 2.0 * BIT * bits - BIT
        self._next += 1
        # The border of three becomes one of one.
        self._plane = np.pad(plane[3:, 3:-3], ((1, 1), (1, 1), (0, 0)))
        return coded

    def _update_state(self) -> None:
        """Read the last plane into the state."""
        model, depth = self._model, self._model.depth
        summary_hidden, summary = (
            model.layers[name][self._next - 1] for name in ("summary_hidden", "summary")
        )
        iteration, state_hidden, state = (
            model.layers[name][0] for name in ("iteration", "state_hidden", "state")
        )
        wide = np.zeros((self._height + 2, self._width + 2, depth))
        for strip in self._strips:
            wide[1:-1, 1:-1][strip] = self._filter(summary_hidden, self._plane, strip)
        for strip in self._strips:
            summarised = self._filter(summary, wide, strip).reshape(-1, model.bits)
            shape = self._cell[strip].shape
            hidden = self._hidden[strip].reshape(-1, depth)
            gates = iteration.index(np.concatenate([summarised, hidden], axis=1))
            cell, hidden = model.lstm(gates, self._cell[strip].reshape(-1, depth))
            self._cell[strip], self._hidden[strip] = cell.reshape(shape), hidden.reshape(shape)
            s = model.tanh(state.index(model.tanh(state_hidden.index(hidden.astype(np.float64)))))
            self._state[1:-1, 1:-1][strip] = s.reshape(*shape[:2], -1)

    def _filter(self, layer: _Layer, padded: np.ndarray, strip: slice) -> np.ndarray:
        """A 3x3 tanh layer over some rows of a map that has a border of one: `[rows, w, outputs]`."""
        x = self._model.tanh(layer.index(self._around(padded, strip)))
        return x.reshape(-1, self._width, x.shape[1])

    def _around(self, padded: np.ndarray, strip: slice) -> np.ndarray:
        """The 3x3 neighbourhoods of some rows of such a map: `[rows * w, 9 C]`."""
        rows = [padded[1 + dy : 1 + dy + self._height][strip] for dy in AROUND.rows]
        around = [row[:, 1 + dx : 1 + dx + self._width] for row in rows for dx in AROUND.columns]
        return np.concatenate(around, axis=2).reshape(-1, len(around) * padded.shape[2])


def _array(
    arrays: Mapping[str, np.ndarray], name: str, dtype: type, shape: tuple[int, ...] | None
) -> np.ndarray:
    if name not in arrays:
        raise CorruptFile(f"BinaryRNN: the array '{name}' is missing; {_REMEDY}")
    array = arrays[name]
    if array.dtype != dtype or (shape is not None and array.shape != shape):
        expected = "" if shape is None else f" {list(shape)}"
        raise CorruptFile(
            f"BinaryRNN: '{name}' must be {np.dtype(dtype)}{expected}, "
            f"got {array.dtype} {list(array.shape)}; {_REMEDY}"
        )
    return array
