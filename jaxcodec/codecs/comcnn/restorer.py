"""RecCNN for JPEG files that exist: their luma restored, their chroma kept.

The network is told how coarsely the file was quantised, by its own table, and so serves all qualities.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from jaxcodec.codecs.classical import MAX_PIXELS
from jaxcodec.codecs.comcnn.coarseness import jpeg_coarseness
from jaxcodec.codecs.comcnn.codec import Model, luma_table_of, model_of
from jaxcodec.codecs.native_formats import native_format
from jaxcodec.coding.jpeg_segment import has_segment
from jaxcodec.errors import BadImage, CorruptFile, JaxcodecError, NotAJxcFile, TooLarge, TruncatedFile
from jaxcodec.zoo.choose import Given, single_weight_file
from jaxcodec.zoo.weights import load_weights

NAME = "reccnn"
_ORIENTATION = 274  # the EXIF tag


@dataclass(frozen=True)
class Restored:
    """A restored picture, as it lies in its file: neither turned upright nor converted to sRGB.

    Attributes
    ----------
    pixels
        uint8 `[H, W, 3]` or `[H, W]`.
    coarseness
        Of the file, 0..255; see `coarseness.py`.
    orientation
        EXIF's, 1..8.
    profile
        The embedded ICC profile, or None.
    """

    pixels: np.ndarray
    coarseness: int
    orientation: int
    profile: bytes | None


class Restorer:
    """RecCNN, trained on full-size JPEG pictures.

    Parameters
    ----------
    path
        The weight file, read when first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: Model | None = None

    def restore_luma(self, luma: np.ndarray, coarseness: int) -> np.ndarray:
        """Restore decoded luma, uint8 `[H, W]`, of a file of this coarseness."""
        if self._loaded is None:
            self._loaded = model_of(load_weights(self._path))
        return self._loaded.networks.restore(luma, coarseness)

    def restore(self, data: bytes) -> Restored:
        """Restore a JPEG file.

        Raises
        ------
        NotAJxcFile
            If it is no JPEG, or one of `comcnn`, which `decode` restores.
        TruncatedFile, CorruptFile, TooLarge
            If it is cut, damaged or too large.
        BadImage
            If it is neither grey nor YCbCr.
        """
        if native_format(data) != "JPEG":
            raise NotAJxcFile("not a JPEG file, and only those are restored")
        if has_segment(data):
            raise NotAJxcFile("a file of comcnn, which `jaxcodec decode` restores")
        coarseness = jpeg_coarseness(luma_table_of(data))
        planes, orientation, profile = _decoded(data)
        luma = self.restore_luma(np.asarray(planes[0]), coarseness)
        if len(planes) == 1:
            return Restored(luma, coarseness, orientation, profile)
        merged = Image.merge("YCbCr", [Image.fromarray(luma), *planes[1:]])
        return Restored(np.asarray(merged.convert("RGB")), coarseness, orientation, profile)


def _decoded(data: bytes) -> tuple[list[Image.Image], int, bytes | None]:
    """The planes of a JPEG file, without the detour over RGB, its orientation and its profile."""
    try:
        with warnings.catch_warnings():  # of damaged metadata
            warnings.simplefilter("ignore")
            picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")
            if picture.width * picture.height > MAX_PIXELS:
                raise TooLarge(f"the file says {picture.width} x {picture.height} pixels; too many")
            if picture.mode not in ("L", "RGB"):
                raise BadImage(
                    f"the JPEG file holds pixels of kind {picture.mode}; only grey and YCbCr are restored"
                )
            if picture.mode == "RGB":
                picture.draft("YCbCr", picture.size)
            orientation = int(picture.getexif().get(_ORIENTATION, 1))
            picture.load()
            whole = picture if picture.mode in ("L", "YCbCr") else picture.convert("YCbCr")
            return list(whole.split()), orientation, picture.info.get("icc_profile")
    except JaxcodecError:
        raise
    except MemoryError as error:
        raise TooLarge("this JPEG file needs more memory than there is") from error
    except Exception as error:  # Pillow raises nearly anything on damaged files
        reason = " ".join(str(error).split())
        if "truncated" in reason.lower() or "end of file" in reason.lower():
            raise TruncatedFile(f"the JPEG file is cut short; get a complete copy ({reason})") from error
        raise CorruptFile(f"the JPEG file is damaged; get another copy ({reason})") from error


def load_restorer(weights: Given = None) -> Restorer:
    """The restorer of the zoo's weights, or of a weight file of one's own."""
    if weights is None:
        return Restorer(single_weight_file(NAME, None))
    return Restorer(single_weight_file(NAME, weights))
