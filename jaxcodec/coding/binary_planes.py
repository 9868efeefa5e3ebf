"""Bits whose probabilities a model gives as it goes: the codes of a progressive codec to bytes and back.

Codes are `[T, h, w, D]`, one plane `[h, w, D]` per iteration, one chunk of bytes per plane. A model walks over a
plane and asks for bits, each time with their probabilities; when encoding, the bits are known and the
probabilities are noted, and when decoding they are read. So encoder and decoder evaluate the model in the same
way, on the same numbers, in the same order.

`StaticPlanes` and `AdaptivePlanes` are the two simple models that a learned one has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jaxcodec.coding.range_coder import constriction_stream
from jaxcodec.coding.tables import PRECISION, TOTAL
from jaxcodec.errors import BadOption, CorruptFile, TooLarge

CodeBits = Callable[[np.ndarray], np.ndarray]
"""Takes the probabilities of n ones as counts out of 65536, int64 `[n]`; gives the n bits, uint8 `[n]`."""

_COPY = "get another copy of the file"


class PlaneWalk(Protocol):
    """A model in the middle of a picture."""

    def plane(self, code: CodeBits) -> np.ndarray:
        """Have all bits of the next iteration coded, in raster order with D innermost: uint8 `[h, w, D]`."""
        ...


class PlaneModel(Protocol):
    """Probabilities of bits, given those of earlier iterations and positions."""

    @property
    def iterations(self) -> int:
        """T, the most planes it can code."""
        ...

    @property
    def bits(self) -> int:
        """D, bits per position and iteration."""
        ...

    @property
    def least_bits(self) -> float:
        """A lower bound of what a bit costs."""
        ...

    def working_bytes(self, height: int, width: int) -> int:
        """About how much memory a walk over maps of this size takes."""
        ...

    def walk(self, height: int, width: int) -> PlaneWalk:
        """Begin a picture whose planes are `[height, width, D]`."""
        ...


# --- The range coder, bit by bit.


class BitEncoder:
    """Collects bits with their probabilities in a range coder (that of `jaxcodec.coding.range_coder`)."""

    def __init__(self) -> None:
        stream = constriction_stream()
        self._encoder = stream.queue.RangeEncoder()
        self._family = stream.model.Categorical(perfect=False)

    def encode(self, bits: np.ndarray, ones: np.ndarray) -> None:
        """Append bits 0 or 1 `[n]` whose probabilities of being 1 are `ones / 65536`, integers `[n]`."""
        try:
            self._encoder.encode(bits.astype(np.int32), self._family, _coder_weights(ones))
        except (AssertionError, KeyError, ValueError) as error:
            raise BadOption(f"bits must be 0 or 1, and counts of ones between 1 and {TOTAL - 1}") from error

    def finish(self) -> bytes:
        """Return the bytes of everything appended."""
        return self._encoder.get_compressed().astype("<u4").tobytes()


class BitDecoder:
    """Gives the bits back in the order in which they were encoded.

    Raises
    ------
    CorruptFile
        If `data` is not whole 32-bit words.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise CorruptFile(f"coded bits come in words of 4 bytes, got {len(data)}; {_COPY}")
        stream = constriction_stream()
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self._family = stream.model.Categorical(perfect=False)

    def decode(self, ones: np.ndarray) -> np.ndarray:
        """Read n bits, uint8 `[n]`, given their counts `[n]`; `CorruptFile` if the bytes cannot be such."""
        try:
            return self._decoder.decode(self._family, _coder_weights(ones)).astype(np.uint8)
        except (AssertionError, KeyError, ValueError) as error:
            raise CorruptFile(f"the coded bits are damaged; {_COPY}") from error

    def finish(self) -> None:
        """Raise `CorruptFile` if bytes are left or the end is not one that the encoder writes."""
        if not self._decoder.maybe_exhausted():
            raise CorruptFile(f"bytes are left after the last coded bit; {_COPY}")


def _coder_weights(ones: np.ndarray) -> np.ndarray:
    """Weights float64 `[n, 2]` that give a bit exactly `count / 65536`, as in `range_coder`: 256 count - 1."""
    if len(ones) and not (ones.min() >= 1 and ones.max() < TOTAL):
        raise ValueError("a bit is impossible")  # the coder would take it, and write something else
    weights = np.empty((len(ones), 2))
    weights[:, 1] = ones
    weights[:, 0] = TOTAL - weights[:, 1]
    weights *= 256.0
    weights -= 1.0
    return weights


# --- Codes to chunks and back.


def probabilities(codes: np.ndarray, model: PlaneModel) -> np.ndarray:
    """Counts of ones out of 65536 for each bit of the codes, given all that precede it.

    Parameters
    ----------
    codes
        Bits 0 or 1, uint8 or bool `[t, h, w, D]`, `t <= T`.

    Returns
    -------
    np.ndarray
        uint16, of the same shape, each at least 1.
    """
    codes = np.asarray(codes)
    if codes.ndim != 4 or codes.dtype not in (np.bool_, np.uint8) or codes.size == 0:
        raise ValueError(f"codes must be uint8 [t, h, w, {model.bits}], got {codes.dtype} {codes.shape}")
    t, height, width, bits = codes.shape
    if bits != model.bits or t > model.iterations:
        raise ValueError(f"codes {codes.shape} do not fit {model.iterations} iterations of {model.bits} bits")
    if codes.max() > 1:
        raise ValueError("codes must be 0 or 1")
    walk = model.walk(height, width)
    ones = np.empty(codes.shape, np.uint16)
    for known, noted in zip(codes.astype(np.uint8), ones, strict=True):
        walk.plane(_Replay(known.ravel(), noted.reshape(-1)))
    return ones


class _Replay:
    """Codes known bits: notes their probabilities in `noted`."""

    def __init__(self, known: np.ndarray, noted: np.ndarray) -> None:
        self._known, self._noted, self._position = known, noted, 0

    def __call__(self, ones: np.ndarray) -> np.ndarray:
        start = self._position
        self._position = end = start + len(ones)
        self._noted[start:end] = ones
        return self._known[start:end]


def ideal_bits(codes: np.ndarray, ones: np.ndarray) -> np.ndarray:
    """Cross-entropy in bits of each plane: float64 `[t]`, for `ones` as `probabilities` gives them."""
    likely = np.where(codes, ones, TOTAL - ones.astype(np.int64))
    return (PRECISION - np.log2(likely)).reshape(len(codes), -1).sum(1)


def encode_codes(codes: np.ndarray, model: PlaneModel) -> list[bytes]:
    """Code uint8 or bool `[t, h, w, D]` bits, `t <= T`: one chunk per iteration.

    Each chunk is `ideal_bits / 8` bytes long, within 0.1 % and 8 bytes.
    """
    chunks = []
    for plane, ones in zip(codes, probabilities(codes, model), strict=True):
        encoder = BitEncoder()
        encoder.encode(plane.ravel(), ones.ravel())
        chunks.append(encoder.finish())
    return chunks


def decode_codes(
    chunks: Sequence[bytes], shape: tuple[int, int], model: PlaneModel, *, max_bytes: int = 1 << 31
) -> np.ndarray:
    """Decode the iterations that `chunks` hold, all of `encode_codes` or the first few.

    Parameters
    ----------
    chunks
        One per iteration.
    shape
        Height and width of the map.
    model
        The one that encoded.
    max_bytes
        The most memory to use.

    Returns
    -------
    np.ndarray
        uint8 `[len(chunks), h, w, D]`, 0 or 1.

    Raises
    ------
    TooLarge
        If the map would take more memory, before any is taken.
    CorruptFile
        If the chunks cannot come from `encode_codes`. Not every wrong byte can be seen here; the container's
        checksums see those.
    """
    height, width = shape
    if height < 1 or width < 1:
        raise ValueError(f"a map has at least one position, got {shape}")
    if len(chunks) > model.iterations:
        raise CorruptFile(f"there are {len(chunks)} iterations, but at most {model.iterations}; {_COPY}")
    count = height * width * model.bits
    needed = model.working_bytes(height, width) + count * len(chunks)
    if needed > max_bytes:
        raise TooLarge(
            f"decoding a map of {width}x{height} codes takes {needed} bytes, the limit is {max_bytes}"
        )
    for number, chunk in enumerate(chunks):
        # A few bytes must not have us walk over a large map: even the likeliest bit costs something.
        if count * model.least_bits > 8.08 * len(chunk) + 64:
            raise CorruptFile(f"iteration {number + 1} is too short for {width}x{height} codes; {_COPY}")
    codes = np.empty((len(chunks), height, width, model.bits), np.uint8)
    walk = model.walk(height, width)
    for chunk, plane in zip(chunks, codes, strict=True):
        decoder = BitDecoder(chunk)
        plane[:] = walk.plane(decoder.decode)
        decoder.finish()
    return codes


# --- The models to beat.


@dataclass(frozen=True, eq=False)
class StaticPlanes:
    """One fixed probability for each bit of each iteration, whatever its neighbours.

    Attributes
    ----------
    ones
        int64 `[T, D]`, counts out of 65536.
    """

    ones: np.ndarray

    @classmethod
    def fit(cls, codes: np.ndarray) -> StaticPlanes:
        """Take the frequencies of bits `[n, T, h, w, D]` (with one of each added)."""
        seen = codes.shape[0] * codes.shape[2] * codes.shape[3]
        counts = codes.sum((0, 2, 3), dtype=np.int64)
        return cls(_counts(counts + 1, seen + 2))

    @property
    def iterations(self) -> int:
        """T."""
        return self.ones.shape[0]

    @property
    def bits(self) -> int:
        """D."""
        return self.ones.shape[1]

    @property
    def least_bits(self) -> float:
        """Of its likeliest bit."""
        return float(PRECISION - np.log2(max(self.ones.max(), TOTAL - self.ones.min())))

    def working_bytes(self, height: int, width: int) -> int:
        """Counts, weights and bits of a plane."""
        return 32 * height * width * self.bits

    def walk(self, height: int, width: int) -> PlaneWalk:
        """Begin a picture."""
        return _StaticWalk(self.ones, height, width)


class _StaticWalk:
    def __init__(self, ones: np.ndarray, height: int, width: int) -> None:
        self._ones, self._shape = iter(ones), (height, width, ones.shape[1])

    def plane(self, code: CodeBits) -> np.ndarray:
        ones = np.broadcast_to(next(self._ones), self._shape)
        return code(ones.ravel()).reshape(self._shape)


@dataclass(frozen=True)
class AdaptivePlanes:
    """Frequencies learned while coding, apart for each bit and each value of three neighbours.

    The neighbours of a bit are those of the same number to the left, above left and above (0 outside); each
    iteration begins anew. With n ones among N bits seen, the next is 1 with probability
    (n + 1/2) / (N + 1) (Krichevsky and Trofimov, 1981).
    """

    iterations: int
    bits: int

    least_bits = float(PRECISION - np.log2(TOTAL - 1))

    def working_bytes(self, height: int, width: int) -> int:
        """Bits and contexts of a plane."""
        return 16 * height * width * self.bits

    def walk(self, height: int, width: int) -> PlaneWalk:
        """Begin a picture."""
        return _AdaptiveWalk(height, width, self.bits)


class _AdaptiveWalk:
    def __init__(self, height: int, width: int, bits: int) -> None:
        self._shape = (height, width, bits)

    def plane(self, code: CodeBits) -> np.ndarray:
        height, width, bits = self._shape
        # One row above and one column to the left of the map; contexts are numbered through all bits.
        plane = np.zeros((height + 1, width + 1, bits), np.uint8)
        ones, seen = np.zeros(8 * bits, np.int64), np.zeros(8 * bits, np.int64)
        first = 8 * np.arange(bits)
        for row in range(1, height + 1):
            above, here = plane[row - 1], plane[row]
            from_above = first + (above[:-1] + 2 * above[1:])
            for column in range(1, width + 1):
                context = from_above[column - 1] + 4 * here[column - 1]
                here[column] = code(_counts(2 * ones[context] + 1, 2 * seen[context] + 2))
                ones[context] += here[column]
                seen[context] += 1
        return plane[1:, 1:]


def _counts(part: np.ndarray, whole: np.ndarray | int) -> np.ndarray:
    """`part / whole` as counts out of 65536, neither none nor all."""
    return np.clip(part * TOTAL // whole, 1, TOTAL - 1)
