"""The protocol every codec follows: a picture goes in, bytes come out, and back.

Pictures are numpy `uint8`, `[H, W, 3]` (sRGB) or `[H, W]` (grey). Nothing else crosses this boundary.

The file of a progressive codec holds iterations that each refine the last, in a chunk each: any number of
the first ones is a file of its own (`ProgressiveCodec`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack, unpack
from jaxcodec.errors import BadOption, CorruptFile


@runtime_checkable
class Codec(Protocol):
    """What `jaxcodec.load` returns.

    Attributes
    ----------
    name
        The name it was loaded by.
    qualities
        Every accepted `quality`, ascending; a larger one means more bits and less distortion. Whole numbers, or
        hundredths too: then any number from the first to the last is accepted.
    default_quality
        Used where `quality` is None.
    ladder
        The qualities a benchmark walks by default.
    extension
        The usual ending of its files, with the dot.
    """

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        ...

    @property
    def qualities(self) -> tuple[float, ...]:
        """Accepted qualities, ascending."""
        ...

    @property
    def default_quality(self) -> float:
        """What None stands for."""
        ...

    @property
    def ladder(self) -> tuple[float, ...]:
        """Qualities of a benchmark."""
        ...

    @property
    def extension(self) -> str:
        """Ending of its files."""
        ...

    def encode(self, image: np.ndarray, *, quality: float | None = None, options: Any = None) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]`; `options` is the codec's own frozen dataclass."""
        ...

    def decode(self, data: bytes) -> np.ndarray:
        """Decode to the picture's own size and channels; raises a `JaxcodecError` on anything wrong."""
        ...

    def encode_batch(
        self, images: Sequence[np.ndarray], *, quality: float | None = None, options: Any = None
    ) -> list[bytes]:
        """Code pictures of any sizes; the same files as one by one."""
        ...

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode files of any sizes; the same pictures as one by one."""
        ...


class OneByOne(ABC):
    """The batches of a codec that codes pictures one by one: the same files and pictures as alone."""

    @abstractmethod
    def encode(self, image: np.ndarray, *, quality: float | None = None, options: Any = None) -> bytes:
        """Code one picture."""

    @abstractmethod
    def decode(self, data: bytes) -> np.ndarray:
        """Decode one file."""

    def encode_batch(
        self, images: Sequence[np.ndarray], *, quality: float | None = None, options: Any = None
    ) -> list[bytes]:
        """Code pictures of any sizes, one after the other."""
        return [self.encode(image, quality=quality, options=options) for image in images]

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode files of any sizes, one after the other."""
        return [self.decode(data) for data in files]


@runtime_checkable
class SteppedCodec(Codec, Protocol):
    """A codec with many qualities to a network: to try several, a picture is analysed once."""

    def expected_bpp(self, quality: float) -> float:
        """Mean rate of photos at one of `qualities`; NaN where it is not known. A first guess for a search."""
        ...

    def prepare(self, image: np.ndarray, *, options: Any = None) -> Callable[[float], bytes]:
        """Return `file(quality)`, the same as `encode` of the picture at that quality, but quicker after the first."""
        ...


@runtime_checkable
class ProgressiveCodec(Codec, Protocol):
    """A codec whose `quality` is the number of iterations, 1..N, and whose files can be cut.

    Its file is a `.jxc` with `quality` in the header and that many chunks, one per iteration, none of which
    depends on how many follow. So the file of K iterations is the first K chunks of every longer one:
    `first_iterations(codec.encode(image, quality=n), k) == codec.encode(image, quality=k)` for k <= n.
    """

    def decode_progressive(
        self, data: bytes, *, iterations: int | None = None, allow_truncated: bool = False
    ) -> np.ndarray:
        """Decode the first iterations of a file; `unpack_iterations` says which, and what is raised."""
        ...


def unpack_iterations(
    data: bytes,
    *,
    iterations: int | None = None,
    allow_truncated: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Header, list[bytes]]:
    """Read the file of a progressive codec, as its `decode_progressive` does first.

    Parameters
    ----------
    data
        The file.
    iterations
        How many of the first iterations are wanted; None for all.
    allow_truncated
        Take the whole iterations of a file that was cut, at least one, where fewer are there than wanted.
    limits
        What to refuse.

    Returns
    -------
    tuple
        The header as it stands in the file, so with `quality` the number of iterations that were written, and
        a chunk per iteration.

    Raises
    ------
    BadOption
        If `iterations` is not within 1 and what was written.
    TruncatedFile
        If the file is cut, without `allow_truncated` or within its first iteration.
    JaxcodecError
        The others of `jaxcodec.coding.container.unpack`.
    """
    header, chunks = unpack(data, limits=limits, allow_truncated=allow_truncated)
    written = header.quality
    if len(chunks) > written or (len(chunks) < written and not allow_truncated):
        raise CorruptFile(
            f"the file has {len(chunks)} chunks for {written} iterations; get another copy of the file"
        )
    if iterations is None:
        return header, chunks
    if not 1 <= iterations <= written:
        raise BadOption(f"{iterations} iterations cannot be decoded: the file was written with {written}")
    return header, chunks[:iterations]


def count_iterations(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Return how many whole iterations a progressive codec's file holds, and how many were written to it.

    The first is smaller in a file that was cut. Raises as `unpack_iterations(data, allow_truncated=True)`.
    """
    header, chunks = unpack_iterations(data, allow_truncated=True, limits=limits)
    return len(chunks), header.quality


def first_iterations(data: bytes, iterations: int, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the file of the first iterations of a whole file, as the codec would have written it.

    Nothing is decoded. Raises as `unpack_iterations`.
    """
    header, chunks = unpack_iterations(data, iterations=iterations, limits=limits)
    return pack(replace(header, quality=len(chunks)), chunks)


@dataclass(frozen=True)
class CodecInfo:
    """A row of `jaxcodec list`: what is known of a codec without loading it.

    Attributes
    ----------
    name, description
        How to ask for it and what it is.
    kind
        `"learned"` or `"classical"`.
    qualities
        Accepted qualities, ascending; empty where no weights are installed. See `Codec`.
    extension
        The usual ending of its files, with the dot.
    requires
        The extra that has to be installed first, or None.
    """

    name: str
    description: str
    kind: str
    qualities: tuple[float, ...]
    extension: str
    requires: str | None = None


def quality_number(hundredths: int) -> float:
    """The quality that so many hundredths are: an int where it is whole."""
    return hundredths // 100 if hundredths % 100 == 0 else hundredths / 100
