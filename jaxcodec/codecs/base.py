"""The protocol every codec follows: a picture goes in, bytes come out, and back.

Pictures are numpy `uint8`, `[H, W, 3]` (sRGB) or `[H, W]` (grey). Nothing else crosses this boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxcodec.errors import BadImage, BadOption


@runtime_checkable
class Codec(Protocol):
    """What `jaxcodec.load` returns.

    Attributes
    ----------
    name
        The name it was loaded by.
    qualities
        Every accepted `quality`, ascending; a larger one means more bits and less distortion.
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
    def qualities(self) -> tuple[int, ...]:
        """Accepted qualities, ascending."""
        ...

    @property
    def default_quality(self) -> int:
        """What None stands for."""
        ...

    @property
    def ladder(self) -> tuple[int, ...]:
        """Qualities of a benchmark."""
        ...

    @property
    def extension(self) -> str:
        """Ending of its files."""
        ...

    def encode(self, image: np.ndarray, *, quality: int | None = None, options: Any = None) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]`; `options` is the codec's own frozen dataclass."""
        ...

    def decode(self, data: bytes) -> np.ndarray:
        """Decode to the picture's own size and channels; raises a `JaxcodecError` on anything wrong."""
        ...

    def encode_batch(
        self, images: Sequence[np.ndarray], *, quality: int | None = None, options: Any = None
    ) -> list[bytes]:
        """Code pictures of any sizes; the same files as one by one."""
        ...

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode files of any sizes; the same pictures as one by one."""
        ...


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
        Accepted qualities, ascending; empty where no weights are installed.
    extension
        The usual ending of its files, with the dot.
    requires
        The extra that has to be installed first, or None.
    """

    name: str
    description: str
    kind: str
    qualities: tuple[int, ...]
    extension: str
    requires: str | None = None


def check_image(image: np.ndarray) -> np.ndarray:
    """Return `image` if it is a picture as the protocol wants it.

    Raises
    ------
    BadImage
        If it is not uint8, `[H, W, 3]` or `[H, W]`, with at least one pixel.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise BadImage(
            f"a picture must be uint8 [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}; "
            "jaxcodec.data.images.read_image converts files"
        )
    if array.size == 0:
        raise BadImage(f"a picture needs at least one pixel, got {list(array.shape)}")
    return array


def check_quality(quality: int | None, codec: Codec) -> int:
    """Return the quality to use, the codec's default for None.

    Raises
    ------
    BadOption
        If the codec does not offer it.
    """
    if quality is None:
        return codec.default_quality
    if quality not in codec.qualities:
        offered = codec.qualities
        span = f"{offered[0]}..{offered[-1]}" if offered else "none (no weights installed)"
        raise BadOption(f"{codec.name} has no quality {quality}; it offers {span}")
    return int(quality)
