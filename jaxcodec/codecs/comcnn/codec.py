"""The codecs `comcnn`, `comcnn-jpeg2000` and `comcnn-hevc`: a picture of half the size by a standard codec, restored.

`comcnn` writes an ordinary JPEG file of half the size; an APP11 segment (`jaxcodec.coding.jpeg_segment`) says that it
is more. The others put a `.jp2` or `.heic` file into a `.jxc` one. `quality` is that of the codec inside. Luma
goes through both networks; chroma is reduced and enlarged plainly, bicubically.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from PIL import Image, JpegImagePlugin

from jaxcodec.codecs.base import OneByOne
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality
from jaxcodec.codecs.classical import Subsampling
from jaxcodec.codecs.comcnn.coarseness import jpeg_coarseness
from jaxcodec.codecs.comcnn.inner import InnerCodec, inner_codec
from jaxcodec.codecs.comcnn.model import ComCnnConfig
from jaxcodec.codecs.comcnn.networks import Networks, enlarged, reduced
from jaxcodec.codecs.models import Models
from jaxcodec.codecs.native_formats import native_format
from jaxcodec.coding.codec_ids import codec_id, codec_name
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack, unpack
from jaxcodec.coding.jpeg_segment import JpegSegment, add_segment, split_segment
from jaxcodec.errors import BadOption, CorruptFile, NotAJxcFile, TruncatedFile, WrongWeights
from jaxcodec.zoo.choose import Given, weight_files
from jaxcodec.zoo.weights import Weights, load_weights

FAMILY = "comcnn"
NAMES = {"jpeg": "comcnn", "jpeg2000": "comcnn-jpeg2000", "hevc": "comcnn-hevc"}
"""The codec around each standard one."""

_LADDER = (5, 10, 20, 30, 40, 50, 60, 75, 90)
_USUAL_QUALITY = 40
_NO_CODER = 0
_START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class ComCnnOptions:
    """Options of the three codecs.

    Attributes
    ----------
    subsampling
        Of the chroma in the reduced picture, which is at half size already; JPEG 2000 has none.
    limits
        What a decoder refuses.
    """

    subsampling: Subsampling = "4:4:4"
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.subsampling not in ("4:2:0", "4:2:2", "4:4:4"):
            raise BadOption(f"subsampling {self.subsampling!r} is not one of 4:2:0, 4:2:2, 4:4:4")


@dataclass(frozen=True)
class Model:
    """A weight file, ready to run."""

    hash: bytes
    config: ComCnnConfig
    networks: Networks

    @property
    def inner(self) -> InnerCodec:
        """The standard codec that it was trained around."""
        return inner_codec(self.config.inner)


def model_of(weights: Weights) -> Model:
    """The networks of a weight file, with or without ComCNN; `WrongWeights` if it does not describe them."""
    try:
        config = ComCnnConfig(**weights.config)
        params = {name: jax.device_put(weights.params[name]) for name in weights.params}
        networks = Networks(config.reccnn, params["reccnn"], config.compact_channels, params.get("comcnn"))
    except (TypeError, ValueError, KeyError) as error:
        raise WrongWeights(f"{weights.path} does not describe networks of this version: {error}") from error
    return Model(weights.hash, config, networks)


def _pair_of(weights: Weights) -> Model:
    model = model_of(weights)
    if weights.codec != NAMES[model.config.inner] or model.networks.comcnn is None:
        raise WrongWeights(f"{weights.path} holds weights of {weights.codec}, not of {FAMILY}")
    return model


class ComCnnCodec(OneByOne):
    """The codec around one standard codec: `Codec` of `jaxcodec.codecs.base`.

    It decodes the files of all three; weights are found by the hash in the file, and read when first needed.

    Parameters
    ----------
    path
        The weight file; its standard codec decides the name.
    options
        Used where `encode` gets none.
    """

    def __init__(self, path: Path, *, options: ComCnnOptions | None = None) -> None:
        self.path = path
        self._options = options or ComCnnOptions()
        self._models = Models([path], _pair_of)

    @property
    def model(self) -> Model:
        """The networks that encode."""
        return self._models.first

    @property
    def name(self) -> str:
        """`comcnn`, `comcnn-jpeg2000` or `comcnn-hevc`."""
        return NAMES[self.model.config.inner]

    @property
    def qualities(self) -> tuple[int, ...]:
        """Those of the codec inside for which the networks were trained."""
        return tuple(range(self.model.config.lowest, self.model.config.highest + 1))

    @property
    def ladder(self) -> tuple[int, ...]:
        """Qualities of a benchmark."""
        offered = self.qualities
        return tuple(quality for quality in _LADDER if quality in offered) or offered

    @property
    def default_quality(self) -> int:
        """40, or the nearest that there is."""
        return min(self.qualities, key=lambda quality: abs(quality - _USUAL_QUALITY))

    @property
    def extension(self) -> str:
        """`.jpg` around JPEG, else `.jxc`."""
        return ".jpg" if self.model.config.inner == "jpeg" else ".jxc"

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: ComCnnOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]`.

        Raises
        ------
        BadImage, BadOption
            If the picture, the quality or an option is not one the codec takes.
        TooLarge
            If the picture is larger than a decoder accepts.
        MissingDependency
            Around HEVC, if pillow-heif is not installed.
        """
        options = check_options(options, self, self._options)
        array, whole = check_image(image, options.limits), check_whole_quality(quality, self)
        height, width = array.shape[:2]
        model = self.model
        small = reduce_picture(array, model.networks, model.inner.coarseness(whole))
        payload = model.inner.encode(small, whole, subsampling=options.subsampling)
        number = codec_id(FAMILY)
        if model.config.inner == "jpeg":
            return add_segment(payload, JpegSegment(number, model.hash, width, height))
        channels = 1 if array.ndim == 2 else 3
        return pack(Header(number, _NO_CODER, model.hash, width, height, channels, 8, whole), [payload])

    def decode(self, data: bytes) -> np.ndarray:
        """Decode to uint8 `[H, W, 3]` or `[H, W]`.

        Raises
        ------
        NotAJxcFile
            If it is no file of these codecs; plain JPEGs are among those.
        TruncatedFile, CorruptFile, TooLarge, WrongWeights, UnknownCodec, MissingDependency
            If it is cut, damaged, too large, or needs what is not there.
        """
        data, limits = bytes(data), self._options.limits
        if native_format(data) == "JPEG":
            split = split_segment(data, limits=limits)
            if split is None:
                raise NotAJxcFile("a JPEG file that is not of comcnn; the codec jpeg decodes it")
            segment, payload = split
            _check_family(segment.codec_id)
            model = self._models.of_hash(segment.weights_hash)
            known = jpeg_coarseness(luma_table_of(payload))
            return self._restored(model, payload, known, segment.height, segment.width, None)
        header, chunks = unpack(data, limits=limits)
        _check_family(header.codec_id)
        if len(chunks) != 1 or header.coder_id != _NO_CODER:
            raise CorruptFile("a file of comcnn has one chunk and no coder; get another copy of the file")
        model = self._models.of_hash(header.weights_hash)
        if not model.config.lowest <= header.quality <= model.config.highest:
            raise CorruptFile(f"comcnn has no quality {header.quality}; get another copy of the file")
        known = model.inner.coarseness(header.quality)
        return self._restored(model, chunks[0], known, header.height, header.width, header.channels)

    def _restored(
        self, model: Model, payload: bytes, coarseness: int, height: int, width: int, channels: int | None
    ) -> np.ndarray:
        small = model.inner.decode(payload)
        half = (-(-height // 2), -(-width // 2))
        found = 1 if small.ndim == 2 else 3
        if small.shape[:2] != half or channels not in (None, found):
            raise CorruptFile(
                f"the file holds {small.shape[1]} x {small.shape[0]} samples for a picture of "
                f"{width} x {height}; get another copy of the file"
            )
        return enlarge_picture(small, model.networks, coarseness, (height, width))


def _check_family(number: int) -> None:
    if number != codec_id(FAMILY):
        raise NotAJxcFile(
            f"the file is {codec_name(number)}'s, not {FAMILY}'s; jaxcodec.decode finds the codec"
        )


def reduce_picture(image: np.ndarray, networks: Networks, coarseness: int) -> np.ndarray:
    """The picture of half the size, uint8 `[ceil(H/2), ceil(W/2), 3]` or without colour: luma by ComCNN."""
    if image.ndim == 2:
        return networks.compact(image, coarseness)
    luma, *chroma = (np.asarray(plane) for plane in Image.fromarray(image).convert("YCbCr").split())
    planes = [networks.compact(luma, coarseness)]
    planes += [np.clip(np.round(reduced(plane)), 0, 255).astype(np.uint8) for plane in chroma]
    return _merged(planes)


def enlarge_picture(
    small: np.ndarray, networks: Networks, coarseness: int, size: tuple[int, int]
) -> np.ndarray:
    """The picture of its true size, uint8 `[H, W, 3]` or `[H, W]`: luma by RecCNN."""
    if small.ndim == 2:
        return networks.restore(enlarged(small, size), coarseness)
    planes = [enlarged(np.asarray(plane), size) for plane in Image.fromarray(small).convert("YCbCr").split()]
    return _merged([networks.restore(planes[0], coarseness), *planes[1:]])


def _merged(planes: Sequence[np.ndarray]) -> np.ndarray:
    """RGB of luma and chroma planes, uint8."""
    picture = Image.merge("YCbCr", [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes])
    return np.asarray(picture.convert("RGB"))


def luma_table_of(data: bytes) -> np.ndarray:
    """The quantisation table of a JPEG file's first component, `[8, 8]`.

    Raises
    ------
    TruncatedFile, CorruptFile
        If no scan begins in the file, or it has no such table.
    """
    if _START_OF_SCAN not in data:
        raise TruncatedFile("the JPEG file is cut short; get a complete copy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")
        return np.array(picture.quantization[picture.layer[0][3]]).reshape(8, 8)
    except Exception as error:  # Pillow raises nearly anything on damaged headers
        raise CorruptFile(f"the JPEG file has no quantisation table ({error}); get another copy") from error


def _load(inner: str, weights: Given) -> ComCnnCodec:
    name = NAMES[inner]
    if weights is None:
        return ComCnnCodec(weight_files(name, None, experiment=FAMILY)[0])
    paths = [weights] if isinstance(weights, str | Path) else list(weights)
    if len(paths) != 1:
        raise BadOption(f"{name} has one pair of networks for all qualities; give one weight file")
    given = load_weights(paths[0]).codec
    # A file of any of the three is decoded by `comcnn`, which its number names.
    if given != name and not (inner == "jpeg" and given in NAMES.values()):
        raise WrongWeights(f"{paths[0]} holds weights of {given}, not of {name}")
    return ComCnnCodec(Path(paths[0]))


def load_comcnn(weights: Given = None) -> ComCnnCodec:
    """The codec `comcnn` of the zoo's weights, or of one's own."""
    return _load("jpeg", weights)


def load_comcnn_jpeg2000(weights: Given = None) -> ComCnnCodec:
    """The same around JPEG 2000."""
    return _load("jpeg2000", weights)


def load_comcnn_hevc(weights: Given = None) -> ComCnnCodec:
    """The same around HEVC intra coding."""
    return _load("hevc", weights)
