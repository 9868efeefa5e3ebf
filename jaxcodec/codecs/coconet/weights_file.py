"""The weights of a network as bytes: whole numbers per tensor, entropy coded with tables made of integers.

A layer's kernel is a group, and all biases together are one. Of each group the file has the step (float16) that its
numbers are multiples of, and two integers that say how they are spread: number n has a probability in proportion to

    (s / (s + n^2))^p    with s = spread / 256 >= 1 / 256,  p of 1, 2, 4, 8, 16

which runs from heavy tails (p = 1) to nearly a Gaussian, or, with a large s, to a uniform distribution. Tables are
computed in integers, so every decoder has the same. Layout: inputs, activation, octaves, bits (a byte each), varints
width and depth; then per group the step, the exponent (a byte: log2 p) and the spread (a varint); then one range
coder's bytes, group by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaxcodec.codecs.coconet.grid import INPUTS
from jaxcodec.codecs.coconet.model import ACTIVATIONS, NetworkConfig
from jaxcodec.coding.range_coder import RangeCoder
from jaxcodec.coding.tables import PRECISION, TOTAL
from jaxcodec.coding.varint import decode_varint, encode_varint
from jaxcodec.errors import BadOption, CorruptFile, TooLarge, TruncatedFile, UnknownCodec
from jaxcodec.version import __version__

MIN_BITS, MAX_BITS = 2, 12
MAX_EXPONENT = 4  # p = 2^0 .. 2^4
MAX_SPREAD = 1 << 40
MAX_PARAMETERS = 1 << 21

_COPY = "get another copy of the file"
_SCALE = 1 << 48


@dataclass(frozen=True, eq=False)
class QuantisedNetwork:
    """A network in whole numbers.

    Attributes
    ----------
    config
        Its shape.
    bits
        Its numbers are within +-`limit_of(bits)`.
    steps
        float16 `[depth + 2]`, finite and above 0: of each layer's kernel, then of all biases.
    kernels, biases
        int32, layer by layer: `[fan_in, fan_out]` and `[fan_out]`.
    """

    config: NetworkConfig
    bits: int
    steps: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def params(self) -> tuple[dict[str, np.ndarray], ...]:
        """The weights as `model.apply` takes them, float32: numbers times steps."""
        steps = self.steps.astype(np.float32)
        return tuple(
            {"kernel": kernel.astype(np.float32) * step, "bias": bias.astype(np.float32) * steps[-1]}
            for kernel, bias, step in zip(self.kernels, self.biases, steps[:-1], strict=True)
        )


def limit_of(bits: int) -> int:
    """Return the largest number of so many bits with a sign, `2^(bits - 1) - 1`; `BadOption` if not of 2..12."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise BadOption(f"weights have {MIN_BITS} to {MAX_BITS} bits, not {bits}")
    return (1 << (bits - 1)) - 1


@lru_cache(maxsize=1024)
def counts_of(limit: int, exponent: int, spread: int) -> np.ndarray:
    """Return the table of numbers -`limit` .. `limit`, uint32, summing to 65536, all at least 1."""
    half = []
    for number in range(limit + 1):
        mass = _SCALE * spread // (spread + 256 * number * number)
        for _ in range(exponent):
            mass = mass * mass // _SCALE
        half.append(mass)
    total = half[0] + 2 * sum(half[1:])
    spare = TOTAL - (2 * limit + 1)
    side = [1 + spare * mass // total for mass in half]
    counts = np.array(side[:0:-1] + side, np.uint32)
    counts[limit] += TOTAL - int(counts.sum())  # what rounding down has left
    counts.setflags(write=False)
    return counts


def best_table(numbers: np.ndarray, limit: int) -> tuple[int, int, float]:
    """Return the exponent and spread that cost int32 `[n]` numbers the fewest bits, and these bits."""
    occurring = np.bincount(numbers + limit, minlength=2 * limit + 1)
    best = (0, 1, np.inf)
    for exponent in range(MAX_EXPONENT + 1):
        # From a standard deviation far below 1 to one far above the limit, by factors of sqrt(2) in the variance.
        for power in range(8, 2 * (2 * limit.bit_length() + exponent + 12)):
            spread = min(MAX_SPREAD, round(2 ** (power / 2)))
            bits = float(occurring @ (PRECISION - np.log2(counts_of(limit, exponent, spread))))
            if bits < best[2]:
                best = exponent, spread, bits
    return best


def to_bytes(network: QuantisedNetwork, coder: RangeCoder) -> bytes:
    """Return the network as it stands in a file."""
    config, limit = network.config, limit_of(network.bits)
    head = bytes(
        [INPUTS.index(config.inputs), ACTIVATIONS.index(config.activation), config.octaves, network.bits]
    )
    parts = [head, encode_varint(config.width), encode_varint(config.depth)]
    encoder = coder.encoder()
    for numbers, step in zip(_groups(network.kernels, network.biases), network.steps, strict=True):
        exponent, spread, _ = best_table(numbers, limit)
        parts += [np.asarray(step, "<f2").tobytes(), bytes([exponent]), encode_varint(spread)]
        encoder.encode(numbers + limit, counts_of(limit, exponent, spread))
    return b"".join(parts) + encoder.finish()


def from_bytes(data: bytes, channels: int, coder: RangeCoder) -> QuantisedNetwork:
    """Undo `to_bytes`.

    Raises
    ------
    CorruptFile, TruncatedFile, UnknownCodec, TooLarge
        If the bytes are no network; its size is checked before anything is allocated.
    """
    config, bits, position = _read_config(data, channels)
    limit = limit_of(bits)
    shapes = config.layer_shapes
    sizes = [fan_in * fan_out for fan_in, fan_out in shapes] + [sum(fan_out for _, fan_out in shapes)]
    steps, tables = np.empty(len(sizes), np.float16), []
    for group in range(len(sizes)):
        if position + 3 > len(data):
            raise TruncatedFile("the file ends inside its steps; get a complete copy")
        steps[group] = np.frombuffer(data, "<f2", 1, position)[0]
        exponent = data[position + 2]
        spread, position = decode_varint(data, position + 3, "spread of the weights")
        if not (np.isfinite(steps[group]) and steps[group] > 0):
            raise CorruptFile(f"a step of the weights is {steps[group]}; {_COPY}")
        if exponent > MAX_EXPONENT or not 1 <= spread <= MAX_SPREAD:
            raise CorruptFile(f"the weights cannot be spread by {exponent} and {spread}; {_COPY}")
        tables.append(counts_of(limit, exponent, spread))
    least = sum(
        size * (PRECISION - float(np.log2(table.max()))) for size, table in zip(sizes, tables, strict=True)
    )
    # A range coder may save a little by rounding, and its last bytes may be left out.
    if least > 8 * (len(data) - position) * 1.01 + 64:
        raise CorruptFile(f"{len(data) - position} coded bytes cannot hold so large a network; {_COPY}")
    decoder = coder.decoder(data[position:])
    groups = [decoder.decode(table, size) - limit for size, table in zip(sizes, tables, strict=True)]
    decoder.finish()
    kernels = tuple(group.reshape(shape) for group, shape in zip(groups[:-1], shapes, strict=True))
    ends = np.cumsum([fan_out for _, fan_out in shapes])[:-1]
    return QuantisedNetwork(config, bits, steps, kernels, tuple(np.split(groups[-1], ends)))


def _groups(kernels: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [kernel.ravel() for kernel in kernels] + [np.concatenate(biases)]


def _read_config(data: bytes, channels: int) -> tuple[NetworkConfig, int, int]:
    if len(data) < 6:
        raise TruncatedFile("the file ends before its network begins; get a complete copy")
    inputs, activation, octaves, bits = data[:4]
    if inputs >= len(INPUTS) or activation >= len(ACTIVATIONS):
        raise UnknownCodec(
            f"the file has a network of kind {inputs}, {activation}, which jaxcodec {__version__} does not know; "
            "upgrade jaxcodec to read it"
        )
    width, position = decode_varint(data, 4, "width")
    depth, position = decode_varint(data, position, "depth")
    try:
        limit_of(bits)
        config = NetworkConfig(
            width, depth, ACTIVATIONS[activation], INPUTS[inputs], octaves=octaves, channels=channels
        )
    except BadOption as error:
        raise CorruptFile(f"{error}; {_COPY}") from error
    if config.parameter_count > MAX_PARAMETERS:
        raise TooLarge(
            f"the network has {config.parameter_count} weights, over the limit of {MAX_PARAMETERS}"
        )
    return config, bits, position
