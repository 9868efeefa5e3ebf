"""Quantised DCT coefficients of a JPEG file, read and written without loss by `jpeglib` (extra `codecs`).

Coefficients `[rows, columns, 8, 8]` int16 in units of their table's step, `[v, u]` by vertical and horizontal
frequency. Written files are baseline with Huffman tables made for the picture, and hold a JFIF header and nothing
that is not needed: byte for byte as large as Pillow's of the same coefficients.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxcodec.errors import MissingDependency


@dataclass(frozen=True)
class DctFile:
    """A JPEG file's coefficients.

    Attributes
    ----------
    planes
        Of luma, or of luma and the two chroma components: int16 `[rows, columns, 8, 8]` each.
    tables
        The quantisation table of each plane, int64 `[8, 8]`.
    """

    planes: tuple[np.ndarray, ...]
    tables: tuple[np.ndarray, ...]
    _file: Any

    def written(self, planes: Sequence[np.ndarray]) -> bytes:
        """Return the file with other coefficients, of the same shapes, in place of its own."""
        file = self._file
        file.Y = planes[0]
        if len(planes) == 3:
            file.Cb, file.Cr = planes[1], planes[2]
        file.markers = []  # the JFIF header is written anyway, and would come twice
        with tempfile.TemporaryDirectory(prefix="jaxcodec-") as folder:
            path = Path(folder, "out.jpg")
            file.write_dct(str(path), flags=["+OPTIMIZE_CODING"])
            return path.read_bytes()


def is_installed() -> bool:
    """Whether coefficients can be read and written."""
    return importlib.util.find_spec("jpeglib") is not None


def read_coefficients(data: bytes) -> DctFile:
    """Read a JPEG file of one or three components that one of our own encoders wrote.

    Raises
    ------
    MissingDependency
        If jpeglib is not installed.
    """
    try:
        import jpeglib  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise MissingDependency(
            "msroi's mode `coefficients` needs jpeglib: pip install 'jaxcodec[codecs]', "
            "or choose the mode `composite`"
        ) from error
    with tempfile.TemporaryDirectory(prefix="jaxcodec-") as folder:
        path = Path(folder, "in.jpg")
        path.write_bytes(data)
        file = jpeglib.read_dct(str(path))
    planes = tuple(plane for plane in (file.Y, file.Cb, file.Cr) if plane is not None)
    tables = tuple(file.qt[number].astype(np.int64) for number in file.quant_tbl_no[: len(planes)])
    return DctFile(planes, tables, file)
