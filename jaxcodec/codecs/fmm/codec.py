"""Pictures to `.jxc` files and back by the modulus transform: near-lossless, no weights, no learning.

The chunk of a file is the modulus, the stage's number (one byte each) and the stage's bytes (`stream.py`).
R, G and B are coded alike and independently. The quality stands for a modulus (`LADDER`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxcodec.codecs.base import OneByOne
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality, check_writer
from jaxcodec.codecs.fmm.stream import ENTROPY_CODED, STAGES, Stage, decode_planes, encode_planes
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack, unpack
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.errors import BadOption, CorruptFile, UnknownCodec
from jaxcodec.version import __version__

NAME = "fmm"
LADDER = (20, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2)
"""The modulus of quality 1, 2, ...: the smaller it is, the more bits and the less distortion."""
MAX_MODULUS = 255

_RAW = 0  # the coder's number in files that no range coder wrote
_NO_WEIGHTS = bytes(4)  # in the place of the hash of weights: the transform has none
_COPY = "get another copy of the file"


@dataclass(frozen=True)
class FMMOptions:
    """Options of `fmm`.

    Attributes
    ----------
    modulus
        k, 1 (lossless) to 255, in place of a quality; None for that of the quality.
    stage
        How the multiples are coded, from plain to small: `"flat"`, `"block"` (the paper's kind of stream),
        `"block_entropy"`, `"predictive"`; see `stream.py`. A decoder finds it in the file.
    limits
        What to refuse.
    """

    modulus: int | None = None
    stage: Stage = "block"
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.modulus is not None and not 1 <= self.modulus <= MAX_MODULUS:
            raise BadOption(f"modulus cannot be {self.modulus}: it is 1..{MAX_MODULUS}")
        if self.stage not in STAGES:
            raise BadOption(f"there is no stage {self.stage!r}; there are {', '.join(STAGES)}")


class ModulusCodec(OneByOne):
    """The codec `fmm`: `Codec` of `jaxcodec.codecs.base`.

    Parameters
    ----------
    options
        How to code; `encode` may override it per call, and `decode` uses its limits.

    Notes
    -----
    The Five Modulus Method of F. A. Jassim (arXiv 1211.4591, 2012) and its generalisation to any modulus (arXiv
    1304.6759, 2013). The papers leave the stream open; this one is the library's own. It is a baseline.
    """

    name = NAME
    extension = ".jxc"
    qualities: tuple[int, ...] = tuple(range(1, len(LADDER) + 1))
    ladder: tuple[int, ...] = qualities
    default_quality = LADDER.index(5) + 1

    def __init__(self, *, options: FMMOptions | None = None) -> None:
        self._options = options or FMMOptions()

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: FMMOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]`, to a `.jxc` file.

        Raises
        ------
        BadImage, BadOption
            If the picture, the quality or an option is not one the codec takes.
        TooLarge
            If the picture has more pixels than the limits say.
        """
        options = check_options(options, self, self._options)
        image = check_image(image, options.limits)
        quality, modulus = self._quality_and_modulus(quality, options)
        height, width = image.shape[:2]
        planes = image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))
        coder = get_coder()
        body = encode_planes(planes, modulus=modulus, stage=options.stage, coder=coder)
        header = Header(
            codec_id=codec_id(NAME),
            coder_id=coder.coder_id if options.stage in ENTROPY_CODED else _RAW,
            weights_hash=_NO_WEIGHTS,
            width=width,
            height=height,
            channels=len(planes),
            bit_depth=8,
            quality=quality,
        )
        return pack(header, [bytes([modulus, STAGES.index(options.stage)]) + body])

    def decode(self, data: bytes) -> np.ndarray:
        """Decode to uint8 `[H, W, 3]` or `[H, W]`: exactly the multiples that were coded.

        Raises
        ------
        NotAJxcFile, TruncatedFile, CorruptFile, UnknownCodec, TooLarge
            As `jaxcodec.coding.container.unpack`, and for what does not fit the picture.
        BadOption
            If another codec wrote the file.
        """
        header, chunks = unpack(data, limits=self._options.limits)
        modulus, stage = _settings(header, chunks)
        planes = decode_planes(
            chunks[0][2:],
            (header.channels, header.height, header.width),
            modulus=modulus,
            stage=stage,
            coder=get_coder(),
        )
        if header.channels == 1:
            return planes[0]
        image = np.empty((header.height, header.width, 3), np.uint8)
        for channel, plane in enumerate(planes):  # several times faster than one transposition
            image[..., channel] = plane
        return image

    def _quality_and_modulus(self, quality: float | None, options: FMMOptions) -> tuple[int, int]:
        if options.modulus is None:
            chosen = check_whole_quality(quality, self)
            return chosen, LADDER[chosen - 1]
        own = _quality_of(options.modulus)
        if quality is not None and quality != own:
            raise BadOption(f"quality {quality} contradicts modulus {options.modulus}; give one of them")
        return own, options.modulus


def _quality_of(modulus: int) -> int:
    """The quality whose modulus it is, 0 for those that no quality has."""
    return LADDER.index(modulus) + 1 if modulus in LADDER else 0


def _settings(header: Header, chunks: Sequence[bytes]) -> tuple[int, Stage]:
    """Return modulus and stage, once all that the file says about itself agrees."""
    check_writer(header, NAME)
    if len(chunks) != 1 or len(chunks[0]) < 2:
        raise CorruptFile(f"a file of {NAME} has one chunk of at least 2 bytes; {_COPY}")
    if header.weights_hash != _NO_WEIGHTS:
        raise CorruptFile(f"the file names weights, and {NAME} has none; {_COPY}")
    modulus, number = chunks[0][0], chunks[0][1]
    if number >= len(STAGES):
        raise UnknownCodec(
            f"the file has stage number {number} of {NAME}, which jaxcodec {__version__} does not know; "
            "upgrade jaxcodec to read it"
        )
    stage = STAGES[number]
    expected = get_coder().coder_id if stage in ENTROPY_CODED else _RAW
    if header.coder_id != expected:
        raise UnknownCodec(
            f"the file has coder number {header.coder_id}, where stage {stage!r} of {NAME} is written with "
            f"{expected}; upgrade jaxcodec or get another copy of the file"
        )
    if modulus == 0 or header.quality != _quality_of(modulus):
        raise CorruptFile(f"modulus {modulus} does not fit quality {header.quality}; {_COPY}")
    return modulus, stage


def load_fmm() -> ModulusCodec:
    """Return the codec; there are no weights to give."""
    return ModulusCodec()
