"""JPEG, JPEG 2000, WebP, AVIF, HEVC (HEIC) and JPEG XL behind the protocol of the learned codecs.

Files are the formats' own, and any viewer opens them. `quality` is 1..100 everywhere and means what the
library behind the format means by it, except in JPEG 2000, which has no such scale (`Jpeg2000Options`).
Comparisons therefore go by rate and distortion, never by equal quality numbers.

`decode` is for pictures as these codecs write them, and foreign files of that kind: one upright picture,
sRGB or grey. Others it refuses, and `jaxcodec.data.images.read_image` reads them.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
from PIL import (
    AvifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
    features,
)

from jaxcodec.codecs.base import OneByOne
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality
from jaxcodec.codecs.native_formats import check_complete, jpeg_xl_size, native_format
from jaxcodec.errors import (
    BadImage,
    BadOption,
    CorruptFile,
    JaxcodecError,
    MissingDependency,
    NotAJxcFile,
    TooLarge,
    TruncatedFile,
)

QUALITIES = tuple(range(1, 101))
LADDER = tuple(range(5, 96, 10))
MAX_PIXELS = 2**28
Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]

_ORIENTATION, _PHOTOMETRIC = 274, 262  # EXIF tags
_GREY = 1  # of _PHOTOMETRIC: black is zero
_OUTPUT_BUFFER_LOCK = threading.Lock()
# ICC profiles that name sRGB, as text or UTF-16: JPEG XL's decoder makes one for every file.
_SRGB_NAMES = tuple(
    name.encode(coding)
    for name in ("sRGB", "RGB_D65_SRG_Rel_SRG", "Gra_D65_Rel_SRG")
    for coding in ("ascii", "utf-16-be")
)


@dataclass(frozen=True)
class JpegOptions:
    """Options of `jpeg` and `jpeg444`.

    Attributes
    ----------
    subsampling
        Of the chroma; None is the codec's own, 4:2:0 for `jpeg` and 4:4:4 for `jpeg444`.
    optimize
        Whether to compute Huffman tables for this picture rather than take the standard's examples.
    progressive
        Whether to write several scans.
    """

    subsampling: Subsampling | None = None
    optimize: bool = True
    progressive: bool = False


@dataclass(frozen=True)
class Jpeg2000Options:
    """Options of `jpeg2000`, whose quality q asks for a PSNR of 24 + 0.24 q dB of the coded components.

    So quality 5 to 95 is 25 to 47 dB, about 0.02 to 5 bits per pixel on photos. On pictures of a few pixels
    the target is missed by several dB.

    Attributes
    ----------
    irreversible
        The 9/7 wavelet and the real-valued colour transform, which are better at a given rate; else the 5/3
        and the integer transform.
    colour_transform
        Whether to decorrelate RGB. Pillow leaves it out unless asked, which doubles the rate.
    """

    irreversible: bool = True
    colour_transform: bool = True


@dataclass(frozen=True)
class WebpOptions:
    """Options of `webp`: `method` 0 (fast) to 6 (small)."""

    method: int = 6


@dataclass(frozen=True)
class AvifOptions:
    """Options of `avif`: chroma `subsampling`, and `speed` 0 (small) to 10 (fast)."""

    subsampling: Subsampling = "4:2:0"
    speed: int = 6


@dataclass(frozen=True)
class HevcOptions:
    """Options of `hevc`: chroma `subsampling`, and the `preset` and `tune` of the x265 encoder."""

    subsampling: Subsampling = "4:2:0"
    preset: str = "slow"
    tune: Literal["ssim", "psnr"] = "ssim"


@dataclass(frozen=True)
class JxlOptions:
    """Options of `jxl`: `effort` 1 (fast) to 9 (small)."""

    effort: int = 7


Options = JpegOptions | Jpeg2000Options | WebpOptions | AvifOptions | HevcOptions | JxlOptions


@dataclass(frozen=True)
class ClassicalCodec(OneByOne):
    """A `Codec` around an encoder and a decoder of Pillow's kind.

    Attributes
    ----------
    name, qualities, default_quality, ladder, extension
        As in `Codec`.
    file_format
        What `native_format` calls its files.
    max_side
        The largest width or height the format or library takes.
    default_options
        Used where `options` is None; another value has to be of the same class.
    """

    name: str
    extension: str
    file_format: str
    max_side: int
    default_options: Options
    _save: Callable[[Image.Image, int, Any], bytes]
    _open: Callable[[bytes], Image.Image]
    qualities: tuple[int, ...] = QUALITIES
    default_quality: int = 75
    ladder: tuple[int, ...] = LADDER

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: Options | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]`, to a file of the format.

        Raises
        ------
        BadImage, BadOption
            If the picture, the quality or an option is not one the codec takes.
        TooLarge
            If a side is over `max_side` or the picture over `MAX_PIXELS`.
        """
        array = check_image(image)
        quality = check_whole_quality(quality, self)
        options = check_options(options, self, self.default_options)
        height, width = array.shape[:2]
        if max(height, width) > self.max_side or height * width > MAX_PIXELS:
            raise TooLarge(
                f"{self.name} cannot code {width} x {height} pixels: "
                f"at most {self.max_side} a side and {MAX_PIXELS} in all; cut or shrink the picture"
            )
        try:
            return self._save(Image.fromarray(array), quality, options)
        except Exception as error:  # the libraries raise OSError, ValueError, RuntimeError or KeyError
            raise BadOption(
                f"{self.name} cannot code this picture with {options}: {_reason(error)}"
            ) from error

    def decode(self, data: bytes) -> np.ndarray:
        """Decode to uint8 `[H, W, 3]` or `[H, W]`. More than 8 bits a sample are reduced to 8 by the library.

        Raises
        ------
        NotAJxcFile
            If the data is no file of the format.
        TruncatedFile, CorruptFile
            If it is cut or damaged.
        TooLarge
            If the picture has over `MAX_PIXELS` pixels.
        BadImage
            If it holds what these codecs do not write: several pictures, transparency, CMYK, a colour profile
            other than sRGB, or an orientation.
        BadOption
            If Pillow was told to decode cut files.
        """
        if native_format(data) != self.file_format:
            raise NotAJxcFile(f"not a {self.file_format} file")
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            raise BadOption(
                "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so that cut files decode; set it to False"
            )
        check_complete(data, self.file_format)
        try:
            with warnings.catch_warnings():  # of damaged metadata, which is not used
                warnings.simplefilter("ignore")
                picture = self._open(data)
                _check_size(*picture.size)
                _refuse_foreign(picture, self.file_format)
                picture.load()
                return np.array(picture.convert("L") if _is_marked_grey(picture) else picture)
        except JaxcodecError:
            raise
        except MemoryError as error:
            raise TooLarge(f"this {self.file_format} file needs more memory than there is") from error
        except Exception as error:  # as in encode, and whatever a damaged header leads to
            _raise_damaged(self.file_format, error)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _raise_damaged(file_format: str, error: Exception) -> NoReturn:
    text = _reason(error).lower()
    if "truncated" in text or "end of file" in text or "expected to read" in text:
        raise TruncatedFile(f"the {file_format} file is cut short; get a complete copy ({text})") from error
    raise CorruptFile(f"the {file_format} file is damaged; get another copy ({text})") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise TooLarge(f"the file says {width} x {height} pixels; the limit is {MAX_PIXELS} in all")


def _refuse_foreign(picture: Image.Image, file_format: str) -> None:
    profile = picture.info.get("icc_profile")
    orientation = picture.info.get("original_orientation") or picture.getexif().get(_ORIENTATION, 1)
    if getattr(picture, "n_frames", 1) > 1 or "mp" in picture.info:
        trouble = "several pictures"
    elif picture.mode not in ("L", "RGB") or picture.has_transparency_data:
        trouble = f"pixels of kind {picture.mode}"
    elif profile and not any(name in profile for name in _SRGB_NAMES):
        trouble = "a colour profile other than sRGB"
    elif orientation in range(2, 9):
        trouble = f"a picture to be turned (EXIF orientation {orientation})"
    else:
        return
    raise BadImage(
        f"the {file_format} file holds {trouble}, as no codec here writes; "
        "jaxcodec.data.images.read_image reads and converts it"
    )


def _is_marked_grey(picture: Image.Image) -> bool:
    return picture.format == "WEBP" and picture.getexif().get(_PHOTOMETRIC) == _GREY


# --- the codecs, each with how it saves and opens ---


def jpeg() -> ClassicalCodec:
    """Return JPEG with 4:2:0 chroma: libjpeg-turbo and its quality scale."""
    return _jpeg("jpeg", "4:2:0")


def jpeg444() -> ClassicalCodec:
    """Return JPEG with chroma at full resolution."""
    return _jpeg("jpeg444", "4:4:4")


def _jpeg(name: str, subsampling: Subsampling) -> ClassicalCodec:
    def save(picture: Image.Image, quality: int, options: JpegOptions) -> bytes:
        # Optimised tables need the whole file in one buffer, sized by Pillow for photos: noise overruns it.
        with _OUTPUT_BUFFER_LOCK:
            usual = ImageFile.MAXBLOCK
            ImageFile.MAXBLOCK = max(usual, 6 * picture.width * picture.height)  # pyrefly: ignore[bad-assignment]
            try:
                return _saved(
                    picture,
                    "JPEG",
                    quality=quality,
                    subsampling=options.subsampling or subsampling,
                    optimize=options.optimize,
                    progressive=options.progressive,
                )
            finally:
                ImageFile.MAXBLOCK = usual

    def opened(data: bytes) -> Image.Image:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")

    return ClassicalCodec(name, ".jpg", "JPEG", 65500, JpegOptions(), save, opened)


def jpeg2000() -> ClassicalCodec:
    """Return JPEG 2000 (`.jp2`) by OpenJPEG."""
    _require("jpg_2000", "jpeg2000")

    def save(picture: Image.Image, quality: int, options: Jpeg2000Options) -> bytes:
        return _saved(
            picture,
            "JPEG2000",
            quality_mode="dB",
            quality_layers=[24 + 0.24 * quality],
            irreversible=options.irreversible,
            mct=int(options.colour_transform and picture.mode == "RGB"),
        )

    def opened(data: bytes) -> Image.Image:
        return Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data), "")

    return ClassicalCodec("jpeg2000", ".jp2", "JPEG 2000", 2**31 - 1, Jpeg2000Options(), save, opened)


def webp() -> ClassicalCodec:
    """Return WebP, lossy. It has no grey: a grey picture carries 56 bytes of EXIF that say so."""
    _require("webp", "webp")

    def save(picture: Image.Image, quality: int, options: WebpOptions) -> bytes:
        exif = Image.Exif()
        if picture.mode == "L":
            exif[_PHOTOMETRIC] = _GREY
        return _saved(
            picture, "WEBP", quality=quality, method=options.method, exif=exif.tobytes() if exif else b""
        )

    def opened(data: bytes) -> Image.Image:
        return WebPImagePlugin.WebPImageFile(io.BytesIO(data), "")

    return ClassicalCodec("webp", ".webp", "WebP", 16383, WebpOptions(), save, opened)


def avif() -> ClassicalCodec:
    """Return AVIF, AV1 intra coding, by libavif with the encoder that Pillow brings."""
    _require("avif", "avif")

    def save(picture: Image.Image, quality: int, options: AvifOptions) -> bytes:
        chroma = {"subsampling": options.subsampling} if picture.mode == "RGB" else {}
        return _saved(picture, "AVIF", quality=quality, speed=options.speed, **chroma)

    def opened(data: bytes) -> Image.Image:
        return AvifImagePlugin.AvifImageFile(io.BytesIO(data), "")

    return ClassicalCodec("avif", ".avif", "AVIF", 65535, AvifOptions(), save, opened)


def hevc() -> ClassicalCodec:
    """Return HEVC intra coding in HEIC, by x265 through pillow-heif; BPG holds the same kind of coding."""
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependency("hevc needs pillow-heif: pip install 'jaxcodec[codecs]'") from error

    def save(picture: Image.Image, quality: int, options: HevcOptions) -> bytes:
        buffer = io.BytesIO()
        parameters = {"preset": options.preset, "tune": options.tune}
        if picture.mode == "RGB":
            parameters["chroma"] = options.subsampling.replace(":", "")
        pillow_heif.from_pillow(picture).save(buffer, quality=quality, enc_params=parameters)
        return buffer.getvalue()

    def opened(data: bytes) -> Image.Image:
        return pillow_heif.HeifImageFile(io.BytesIO(data), "")

    return ClassicalCodec("hevc", ".heic", "HEIC", 16384, HevcOptions(), save, opened)


def jxl() -> ClassicalCodec:
    """Return JPEG XL by libjxl through pillow-jxl-plugin; quality 100 is lossless."""
    try:
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile
    except ImportError as error:
        raise MissingDependency("jxl needs pillow-jxl-plugin: pip install 'jaxcodec[codecs]'") from error

    def save(picture: Image.Image, quality: int, options: JxlOptions) -> bytes:
        return _saved(picture, "JXL", quality=quality, effort=options.effort, lossless=quality == 100)

    def opened(data: bytes) -> Image.Image:
        _check_size(*jpeg_xl_size(data))  # this plugin decodes everything on opening
        return JXLImageFile(io.BytesIO(data), "")

    return ClassicalCodec("jxl", ".jxl", "JPEG XL", 2**30, JxlOptions(), save, opened)


def _saved(picture: Image.Image, pillow_format: str, **arguments: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, pillow_format, **arguments)
    return buffer.getvalue()


def _require(feature: str, name: str) -> None:
    if not features.check(feature):
        raise MissingDependency(f"{name} needs a Pillow built with it; reinstall pillow from its wheel")
