"""Picture files -> uint8 `[H, W, 3]` (sRGB) or `[H, W]` (grey), and back. Nothing is dropped in silence.

What becomes of the odd ones (a "note" is a sentence for the user, in `LoadedImage.notes`):

- EXIF orientation: applied; note.
- ICC profile: colours converted to sRGB, greys to sRGB's curve; note. One equal to sRGB changes nothing, one
  that is damaged or of another kind of colour is ignored; note.
- Colours stated otherwise (PNG's gamma and cICP, nclx in AVIF and HEIC), if not sRGB: ignored; note.
- Transparency: composed over white, in sRGB. An alpha channel that is opaque everywhere: dropped. Note.
- Palette: expanded to RGB; note. 1 bit: 8-bit grey; note. L*a*b* and the like: converted to sRGB; note.
- CMYK and YCCK: converted by the embedded profile, else approximately; note.
- 9 to 16 bits a sample: 8 bits; note. Grey is rounded; colour is reduced by the library behind the format,
  which for PNG and TIFF drops the lower byte.
- 32-bit and floating-point samples: refused, `BadImage`.
- Several frames (GIF, APNG, WebP, AVIF) or pages (TIFF): refused, `BadImage`.
- Several pictures as phones store them (MPO, HEIC): the first, or main, one; note.
- Over 2**28 pixels, in WebP and TIFF over Pillow's own 179 million: refused, `TooLarge`, before decoding.
- Cut, damaged, empty or no picture: refused, `BadImage`.

Metadata (date, camera, place) stays behind. Read are PNG, JPEG, WebP, TIFF, GIF, BMP, PPM/PGM/PBM, JPEG 2000,
AVIF and, with pillow-heif installed, HEIC; Pillow's other formats are left alone.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from jaxcodec.data.declared import colour_note, is_cut, stored_bits
from jaxcodec.data.files import write_bytes
from jaxcodec.data.pixels import to_pixels
from jaxcodec.errors import BadImage, BadOption, JaxcodecError, MissingDependency, TooLarge

MAX_PIXELS = 2**28
ImageSource = str | Path | bytes | BinaryIO
_ORIENTATION = 274  # the EXIF tag
_HEAD = 64  # enough to recognise any format


@dataclass(frozen=True)
class LoadedImage:
    """A picture as the codecs want it.

    Attributes
    ----------
    pixels
        uint8 `[H, W, 3]`, sRGB, or `[H, W]`, grey.
    notes
        One sentence for each thing that was converted; empty for an ordinary picture.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def read_image(source: ImageSource) -> LoadedImage:
    """Read a picture from a path, its bytes or an open binary file, converted as the module says.

    Raises
    ------
    BadImage
        If it is no picture, is damaged or cut, or is of a kind that would lose something.
    TooLarge
        If it has more than `MAX_PIXELS` pixels.
    MissingDependency
        If its format needs a package that is not installed.
    """
    name = _name_of(source)
    notes: list[str] = []
    try:
        # Pillow only warns of damaged metadata; the user gets that as a note.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pixels = _read(source, notes)
    except JaxcodecError as error:
        raise type(error)(f"{name}: {error}") from error.__cause__
    for warning in caught:
        if not issubclass(warning.category, (Image.DecompressionBombWarning, DeprecationWarning)):
            notes.append(f"While reading: {' '.join(str(warning.message).split())}")
    return LoadedImage(pixels, tuple(dict.fromkeys(notes)))


def write_image(path: str | Path, pixels: np.ndarray, *, force: bool = False) -> Path:
    """Write a picture, uint8 `[H, W, 3]` or `[H, W]`, in the format its extension names, and return the path.

    Raises
    ------
    BadOption
        If the extension is not one of `image_bytes`, or the file cannot be written.
    OutputExists
        If there is such a file and `force` is False.
    """
    return write_bytes(path, image_bytes(pixels, extension=Path(path).suffix or ".png"), force=force)


def image_bytes(pixels: np.ndarray, *, extension: str = ".png") -> bytes:
    """Return the file of a picture, uint8 `[H, W, 3]` or `[H, W]`.

    Lossless are `.png`, `.ppm`, `.pgm` (grey only), `.bmp`, `.tif` (`.tiff`) and `.webp` (which has no grey);
    `.jpg` (`.jpeg`) is of quality 95 without chroma subsampling.

    Raises
    ------
    BadOption
        If the extension is none of these, or the format cannot hold the picture.
    """
    ending = extension.lower()
    if ending not in _WRITERS:
        raise BadOption(f"no picture is written as '{extension}'; choose one of {', '.join(_WRITERS)}")
    if ending == ".pgm" and pixels.ndim != 2:
        raise BadOption("a .pgm file holds grey pictures only; choose .ppm")
    file_format, arguments = _WRITERS[ending]
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, file_format, **arguments)
    except (OSError, ValueError, OverflowError) as error:
        raise BadOption(f"a {ending} file cannot hold a picture of {list(pixels.shape)}: {error}") from error
    return buffer.getvalue()


_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".ppm": ("PPM", {}),
    ".pgm": ("PPM", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
}


# --- reading, in the order in which it happens ---


def _name_of(source: ImageSource) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "name", "the picture"))


def _read(source: ImageSource, notes: list[str]) -> np.ndarray:
    label, opener, data = _recognise(source)
    if is_cut(label, data):
        raise BadImage(f"is cut short and cannot be read as {label}; get a complete copy")
    try:
        picture = opener(io.BytesIO(data), "")
        _check_size(picture)
        _check_frames(label, picture, notes)
        orientation = picture.info.get("original_orientation") or picture.getexif().get(_ORIENTATION, 1)
        bits = stored_bits(label, picture, data)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        if (
            label == "PNG" and upright.mode == "RGBA" and data[25] == 4
        ):  # 16-bit grey with alpha, as Pillow has it
            upright = upright.convert("LA")
        if orientation in range(2, 9):
            notes.append(f"The picture was turned upright, as its EXIF orientation ({orientation}) asks.")
        profile = picture.info.get("icc_profile")
        if not profile:
            notes += colour_note(label, picture, data)
        return to_pixels(upright, profile=profile, bits=bits, fills_16_bits=label != "TIFF", notes=notes)
    except JaxcodecError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise TooLarge(f"is too large to read: {_reason(error)}") from error
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise BadImage(f"is damaged or cut and cannot be read as {label} ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _recognise(source: ImageSource) -> tuple[str, Callable[..., Image.Image], bytes]:
    """Return the format's name, what opens it and the file; of what is no picture only the head is read."""
    try:
        if isinstance(source, bytes):
            label, opener = _format_of(source[:_HEAD])
            return label, opener, source
        if isinstance(source, (str, Path)):
            with open(source, "rb") as file:
                return _recognise(file)
        head = source.read(_HEAD)
        label, opener = _format_of(head)
        return label, opener, head + source.read()
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror or error}") from error


def _format_of(head: bytes) -> tuple[str, Callable[..., Image.Image]]:
    for label, starts, feature, opener in _FORMATS:
        if head.startswith(starts) and (label != "WebP" or head[8:12] == b"WEBP"):
            if feature and not features.check(feature):
                raise MissingDependency(
                    f"is a {label} file, which this build of Pillow cannot read; reinstall it"
                )
            return label, opener
    if head[4:8] == b"ftyp":  # ISO media: the brands say what is inside
        if b"avif" in head[8:] or b"avis" in head[8:]:
            if not features.check("avif"):
                raise MissingDependency(
                    "is an AVIF file, which this build of Pillow cannot read; reinstall it"
                )
            return "AVIF", AvifImagePlugin.AvifImageFile
        if any(
            brand in head[8:] for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
        ):
            return "HEIC", _heic_opener()
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n")):
        raise BadImage("is a JPEG XL file; `jaxcodec decode` turns it into a PNG")
    if head.startswith(b"\x8aJX\n"):
        raise BadImage("is a .jxc file, not a picture; `jaxcodec decode` turns it into one")
    if not head:
        raise BadImage("is empty")
    raise BadImage(
        "is not a picture that can be read (PNG, JPEG, WebP, TIFF, GIF, BMP, PPM, JPEG 2000, AVIF, HEIC)"
    )


def _heic_opener() -> Callable[..., Image.Image]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingDependency("is a HEIC file; to read it, pip install 'jaxcodec[codecs]'") from error
    return HeifImageFile


# Format, how its files begin, the feature of Pillow it needs, what opens it. The plugins are called directly:
# Image.open would try formats that run other programs, and has a limit on pixels of its own that warns.
_FORMATS: tuple[tuple[str, tuple[bytes, ...], str | None, Callable[..., Image.Image]], ...] = (
    ("PNG", (b"\x89PNG\r\n\x1a\n",), None, PngImagePlugin.PngImageFile),
    ("JPEG", (b"\xff\xd8\xff",), None, JpegImagePlugin.JpegImageFile),
    ("WebP", (b"RIFF",), "webp", WebPImagePlugin.WebPImageFile),
    ("GIF", (b"GIF87a", b"GIF89a"), None, GifImagePlugin.GifImageFile),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), None, TiffImagePlugin.TiffImageFile),
    ("BMP", (b"BM",), None, BmpImagePlugin.BmpImageFile),
    ("PPM", tuple(b"P%c" % kind for kind in b"123456Ff"), None, PpmImagePlugin.PpmImageFile),
    (
        "JPEG 2000",
        (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
        "jpg_2000",
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
)


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"has {width} x {height} pixels; the limit is {MAX_PIXELS} in all, so cut or shrink it first"
        )
    if width < 1 or height < 1:
        raise BadImage("has no pixels")


def _check_frames(label: str, picture: Image.Image, notes: list[str]) -> None:
    frames = getattr(picture, "n_frames", 1)
    if label == "JPEG" and "mp" in picture.info:
        notes.append("The file holds several pictures (MPO); the first was taken.")
    elif label == "HEIC" and frames > 1:
        notes.append(f"The file holds {frames} pictures; the main one was taken.")
    elif label == "TIFF" and frames > 1:
        raise BadImage(f"has {frames} pages; extract one first")
    elif frames > 1:
        raise BadImage(f"is animated ({frames} frames); extract one frame first")
