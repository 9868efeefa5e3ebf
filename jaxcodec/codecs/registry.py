"""Which codecs there are, and the way from a name or a file to one. Imports no jax, no Pillow."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from jaxcodec.codecs.base import Codec, CodecInfo, ProgressiveCodec
from jaxcodec.codecs.native_formats import CODEC_OF_FORMAT, native_format
from jaxcodec.coding.codec_ids import codec_name
from jaxcodec.coding.container import read_header
from jaxcodec.coding.jpeg_segment import has_segment
from jaxcodec.errors import BadOption, NotAJxcFile, UnknownCodec, WrongWeights

Weights = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class _Entry:
    name: str
    factory: str  # "module:function"
    description: str
    kind: str
    extension: str
    requires: str | None = None
    qualities: tuple[float, ...] | None = None  # None: those the zoo has weights for


def _learned(name: str, factory: str, description: str) -> _Entry:
    return _Entry(name, f"jaxcodec.codecs.{factory}", description, "learned", ".jxc")


def _classical(name: str, extension: str, description: str, requires: str | None = None) -> _Entry:
    factory = f"jaxcodec.codecs.classical:{name}"
    return _Entry(name, factory, description, "classical", extension, requires, tuple(range(1, 101)))


_ENTRIES: tuple[_Entry, ...] = (
    _learned("balle2017", "balle2017:load_balle2017", "end-to-end optimised with GDN, Ballé et al. 2017"),
    _learned(
        "balle2017-pq", "balle2017:load_balle2017_pq", "the same networks quantised to a ninth of their bytes"
    ),
    _learned("bmshj2018", "balle2017:load_bmshj2018", "four-stage factorized-prior model, Ballé et al. 2018"),
    _learned("toderici2016", "toderici2016:load_toderici2016", "thumbnails in stages, Toderici et al. 2016"),
    _learned(
        "toderici2017", "toderici2017:load_toderici2017", "recurrent and progressive, Toderici et al. 2017"
    ),
    _learned(
        "theis2017",
        "theis2017:load_theis2017",
        "compressive autoencoder, one network for every rate, Theis 2017",
    ),
    _Entry(  # its files are plain JPEGs, and decode as such
        "msroi",
        "jaxcodec.codecs.msroi:load_msroi",
        "JPEG steered by a saliency network, Prakash et al. 2017",
        "learned",
        ".jpg",
        "codecs",
    ),
    _Entry(  # its files are JPEGs of half the size, with a segment that says so
        "comcnn",
        "jaxcodec.codecs.comcnn:load_comcnn",
        "two networks around JPEG at half size, Jiang et al. 2017",
        "learned",
        ".jpg",
    ),
    _learned("comcnn-jpeg2000", "comcnn:load_comcnn_jpeg2000", "the same around JPEG 2000"),
    _Entry(
        "comcnn-hevc",
        "jaxcodec.codecs.comcnn:load_comcnn_hevc",
        "the same around HEVC intra coding",
        "learned",
        ".jxc",
        "codecs",
    ),
    _Entry(  # its files hold their own weights, so the zoo has none
        "coconet",
        "jaxcodec.codecs.coconet:load_coconet",
        "a network fitted to each picture, its weights the file; slow, Bricman and Ionescu 2018",
        "learned",
        ".jxc",
        None,
        tuple(range(1, 7)),
    ),
    _Entry(  # as a classical codec it takes no weights; its files are .jxc, and its qualities a ladder of its own
        "fmm",
        "jaxcodec.codecs.fmm:load_fmm",
        "near-lossless baseline, multiples of 5 in 8x8 blocks, Jassim 2012",
        "classical",
        ".jxc",
        None,
        tuple(range(1, 12)),
    ),
    _classical("jpeg", ".jpg", "JPEG, 4:2:0, optimised tables (libjpeg-turbo)"),
    _classical("jpeg444", ".jpg", "JPEG, 4:4:4, optimised tables (libjpeg-turbo)"),
    _classical("jpeg2000", ".jp2", "JPEG 2000, 9/7 wavelet (OpenJPEG)"),
    _classical("webp", ".webp", "WebP, method 6 (libwebp)"),
    _classical("avif", ".avif", "AVIF, 4:2:0 (libavif)"),
    _classical("hevc", ".heic", "HEVC intra in HEIC, 4:2:0 (x265)", "codecs"),
    _classical("jxl", ".jxl", "JPEG XL (libjxl)", "codecs"),
)
# The general learned codecs, the better first.
_PREFERENCE = ("balle2017", "bmshj2018")


def available() -> tuple[CodecInfo, ...]:
    """Return what is known of every codec, learned ones first, without loading any."""
    return tuple(
        CodecInfo(
            entry.name, entry.description, entry.kind, _qualities(entry), entry.extension, entry.requires
        )
        for entry in _ENTRIES
    )


def load(name: str, *, weights: Weights = None) -> Codec:
    """Return the codec of that name, ready to encode and decode.

    Parameters
    ----------
    name
        One of `available()`.
    weights
        A file, or several, of one's own weights, for a learned codec; by default those of the zoo.

    Raises
    ------
    UnknownCodec
        If there is none of that name; near ones are listed.
    WrongWeights
        If the weights are missing or are not this codec's.
    MissingDependency
        If the codec needs a package that is not installed.
    BadOption
        If weights are given for a classical codec.
    """
    entry = _entry(name)
    module, function = entry.factory.split(":")
    factory = getattr(importlib.import_module(module), function)
    if entry.kind == "learned":
        return factory(weights)
    if weights is not None:
        raise BadOption(f"{name} is a classical codec and takes no weights; leave them out")
    return factory()


def best_general_codec() -> str:
    """Return the name of the best general learned codec that the zoo has weights for.

    Raises
    ------
    WrongWeights
        If it has none.
    """
    for name in _PREFERENCE:
        if _qualities(_entry(name)):
            return name
    raise WrongWeights(
        "no weights of a general learned codec are installed; name a codec and give its weights "
        "(--codec balle2017 --weights FILE), or name a classical one (--codec webp)"
    )


def encode(
    image: np.ndarray, codec: str | None = None, *, quality: float | None = None, weights: Weights = None
) -> bytes:
    """Code one picture to a file.

    Parameters
    ----------
    image
        uint8 `[H, W, 3]`, sRGB, or `[H, W]`, grey.
    codec
        One of `available()`; by default the codec that the weights are of, or `best_general_codec()`.
    quality
        One of the codec's qualities, larger is better; by default the codec's own choice.
    weights
        As in `load`.

    Raises
    ------
    JaxcodecError
        Those of `load` and of the codec's `encode`.
    """
    if codec is None:
        codec = best_general_codec() if weights is None else _codec_of(weights)
    return load(codec, weights=weights).encode(image, quality=quality)


def decode(
    data: bytes,
    *,
    weights: Weights = None,
    iterations: int | None = None,
    allow_truncated: bool = False,
) -> np.ndarray:
    """Decode a file that any codec wrote, to uint8 `[H, W, 3]` or `[H, W]`; its first bytes name the codec.

    Parameters
    ----------
    data
        A `.jxc` file, or a JPEG, JPEG 2000, WebP, AVIF, HEIC or JPEG XL file.
    weights
        As in `load`; only for `.jxc` files of weights that are not in the zoo.
    iterations
        How many of the first iterations to decode, for the file of a progressive codec; None for all.
    allow_truncated
        Decode what the file of a progressive codec still holds where it was cut, at least one iteration.

    Raises
    ------
    NotAJxcFile
        If it is none of these.
    BadOption
        If `iterations` or `allow_truncated` is given for a codec that is not progressive, or the file was
        written with fewer iterations.
    JaxcodecError
        The others, for files that are cut, damaged, too large, or in need of a codec, weights or package that
        is not there.
    """
    if isinstance(data, (str, Path)):
        raise BadOption("decode takes the bytes of a file, not its name; use Path(name).read_bytes()")
    data = bytes(data)
    progressively = iterations is not None or allow_truncated
    given = (weights,) if isinstance(weights, (str, Path)) else tuple(weights or ())
    found = native_format(data)
    if found == "JPEG" and has_segment(data):
        if progressively:
            raise _not_progressive("comcnn")
        return _loaded("comcnn", given).decode(data)
    if found is not None:
        if progressively:
            raise _not_progressive(CODEC_OF_FORMAT[found])
        return load(CODEC_OF_FORMAT[found]).decode(data)
    for start, label in _LOSSLESS:
        if data.startswith(start):
            raise NotAJxcFile(f"a {label} file, which no codec here writes; read_image reads it")
    codec = _loaded(codec_name(read_header(data).codec_id), given)
    if not progressively:
        return codec.decode(data)
    if not isinstance(codec, ProgressiveCodec):
        raise _not_progressive(codec.name)
    return codec.decode_progressive(data, iterations=iterations, allow_truncated=allow_truncated)


def _not_progressive(name: str) -> BadOption:
    return BadOption(
        f"the file is {name}'s, which is not progressive: it decodes as a whole; leave out iterations and "
        "allow_truncated (--iterations, --allow-truncated)"
    )


@lru_cache(maxsize=8)
def _loaded(name: str, weights: tuple[str | Path, ...]) -> Codec:
    """The codec, kept: decoding a folder reads the weights once."""
    return load(name, weights=weights or None)


_LOSSLESS = ((b"\x89PNG\r\n", "PNG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))


def _codec_of(weights: str | Path | Sequence[str | Path]) -> str:
    from jaxcodec.zoo.weights import load_weights

    files = [weights] if isinstance(weights, (str, Path)) else list(weights)
    if not files:
        raise BadOption("the list of weights is empty; give a file, or leave them out")
    return load_weights(files[0]).codec


def _entry(name: str) -> _Entry:
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    names = [entry.name for entry in _ENTRIES]
    near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise UnknownCodec(f"no codec is named '{name}'; {hint}")


def _qualities(entry: _Entry) -> tuple[float, ...]:
    if entry.qualities is not None:
        return entry.qualities
    from jaxcodec.zoo.manifest import qualities

    return qualities(entry.name)
