"""The standard codecs that ComCNN and RecCNN stand around, and how coarsely each quantises at a quality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxcodec.codecs import classical
from jaxcodec.codecs.comcnn.coarseness import (
    hevc_coarseness,
    jpeg2000_coarseness,
    jpeg_coarseness,
    luma_table,
)
from jaxcodec.errors import UnknownCodec


@dataclass(frozen=True)
class InnerCodec:
    """A standard codec.

    Attributes
    ----------
    name
        Its name in the registry.
    coarseness
        Of a quality, 0..255.
    load
        Makes the codec; `MissingDependency` where its package is not installed.
    options
        Of an encoding with a chroma subsampling; None where the codec has none.
    """

    name: str
    coarseness: Callable[[int], int]
    load: Callable[[], classical.ClassicalCodec]
    options: Callable[[classical.Subsampling], classical.Options | None]

    def encode(
        self, image: np.ndarray, quality: int, *, subsampling: classical.Subsampling = "4:2:0"
    ) -> bytes:
        """The file of a picture uint8 `[h, w, 3]` or `[h, w]`."""
        return self.load().encode(image, quality=quality, options=self.options(subsampling))

    def decode(self, data: bytes) -> np.ndarray:
        """The picture of a file."""
        return self.load().decode(data)


_INNER = (
    InnerCodec(
        "jpeg",
        lambda quality: jpeg_coarseness(luma_table(quality)),
        classical.jpeg,
        lambda subsampling: classical.JpegOptions(subsampling=subsampling),
    ),
    InnerCodec("jpeg2000", jpeg2000_coarseness, classical.jpeg2000, lambda subsampling: None),
    InnerCodec(
        "hevc",
        hevc_coarseness,
        classical.hevc,
        lambda subsampling: classical.HevcOptions(subsampling=subsampling, tune="psnr"),
    ),
)


def inner_codec(name: str) -> InnerCodec:
    """The codec of that name; `UnknownCodec` if it is none of the three."""
    for codec in _INNER:
        if codec.name == name:
            return codec
    raise UnknownCodec(f"ComCNN does not stand around '{name}'; choose jpeg, jpeg2000 or hevc")
