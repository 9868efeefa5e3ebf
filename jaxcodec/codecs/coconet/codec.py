"""Pictures to `.jxc` files and back: the file holds the weights of a small network that was fitted to the picture.

The chunk of a file is the network (`weights_file.py`). The quality stands for a size of network (`LADDER`), so a file
of a quality has about as many bytes whatever the picture and its size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jaxcodec.codecs.base import OneByOne
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality, check_writer
from jaxcodec.codecs.coconet.fit import FitSettings, fit
from jaxcodec.codecs.coconet.model import NetworkConfig, render
from jaxcodec.codecs.coconet.quantise import quantise, tuning_of
from jaxcodec.codecs.coconet.weights_file import (
    MAX_PARAMETERS,
    QuantisedNetwork,
    from_bytes,
    limit_of,
    to_bytes,
)
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack, unpack
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.errors import BadOption, CorruptFile, TooLarge, UnknownCodec

NAME = "coconet"
COMPACT = NetworkConfig(width=28, activation="sine", inputs="xy")
LADDER: tuple[tuple[int, int, int], ...] = (
    (14, 4, 8),
    (20, 5, 8),
    (28, 6, 8),
    (28, 10, 8),
    (40, 10, 8),
    (56, 10, 8),
)
"""Width, depth and bits of a weight, of quality 1, 2, ...; the fourth is the size of COIN (Dupont et al. 2021)."""

ENCODING = FitSettings(steps=2000, learning_rate=1e-3, cosine=True, batch_size=4096)

_NO_WEIGHTS = bytes(4)  # in the place of the hash of weights: they are the file's content
_COPY = "get another copy of the file"


@dataclass(frozen=True)
class CocoNetOptions:
    """Options of `coconet`.

    Attributes
    ----------
    network
        In place of the quality's; its channels are those of the picture.
    bits
        Of a weight, 2..12, in place of the quality's.
    settings
        How it is fitted; a tenth of the steps more are taken with rounded weights.
    max_pixels
        Pixels of a picture that `encode` agrees to fit to: the time grows with the steps, not with the pixels, but a
        small network cannot hold a large picture.
    max_evaluations
        Pixels times weights that `decode` agrees to; the default takes minutes.
    limits
        What to refuse of a file.
    """

    network: NetworkConfig | None = None
    bits: int | None = None
    settings: FitSettings = ENCODING
    max_pixels: int = 1 << 22
    max_evaluations: int = 1 << 41
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.bits is not None:
            limit_of(self.bits)
        if self.network is not None and self.network.parameter_count > MAX_PARAMETERS:
            raise BadOption(
                f"a network of {self.network.parameter_count} weights is no code of a picture; "
                f"take one of at most {MAX_PARAMETERS}"
            )


class CocoNetCodec(OneByOne):
    """The codec `coconet`: `Codec` of `jaxcodec.codecs.base`.

    Parameters
    ----------
    options
        How to code; `encode` may override it per call, and `decode` uses its limits.

    Notes
    -----
    Bricman and Ionescu, "CocoNet: A Deep Neural Network for Mapping Pixel Coordinates to Color Values", ICONIP 2018
    (arXiv 1805.11357). The paper names compression as a use and gives no rates; its network has 91,903 weights. As a
    code it needs the compact networks, the rounding and the tables here, which are this library's own. Decoding is
    float32 arithmetic: pictures agree within one level between devices.
    """

    name = NAME
    extension = ".jxc"
    qualities: tuple[int, ...] = tuple(range(1, len(LADDER) + 1))
    ladder: tuple[int, ...] = qualities[:4]
    default_quality = 4

    def __init__(self, *, options: CocoNetOptions | None = None) -> None:
        self._options = options or CocoNetOptions()

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: CocoNetOptions | None = None
    ) -> bytes:
        """Fit a network to one picture, uint8 `[H, W, 3]` or `[H, W]`, and write it to a `.jxc` file.

        Takes seconds to minutes, and reports its steps (`jaxcodec.codecs.progress`).

        Raises
        ------
        BadImage, BadOption
            If the picture, the quality or an option is not one the codec takes.
        TooLarge
            If the picture has more pixels than `max_pixels` or the limits say.
        """
        image, options = check_image(image), check_options(options, self, self._options)
        chosen, config, bits = self._network(quality, options, channels=1 if image.ndim == 2 else 3)
        height, width = image.shape[:2]
        most = min(options.max_pixels, options.limits.max_pixels)
        if height * width > most:
            raise TooLarge(
                f"a picture of {width} x {height} exceeds {most} pixels: a small network would hold little of it; "
                "scale it down, cut it into parts, or raise max_pixels of CocoNetOptions"
            )
        pixels = image.reshape(height, width, -1)
        params = fit(pixels[None], config, options.settings)
        network = quantise(params, pixels, config, bits=bits, tuning=tuning_of(options.settings))
        coder = get_coder()
        header = Header(
            codec_id=codec_id(NAME),
            coder_id=coder.coder_id,
            weights_hash=_NO_WEIGHTS,
            width=width,
            height=height,
            channels=config.channels,
            bit_depth=8,
            quality=chosen,
        )
        return pack(header, [to_bytes(network, coder)])

    def decode(self, data: bytes) -> np.ndarray:
        """Evaluate a file's network at every pixel: uint8 `[H, W, 3]` or `[H, W]`.

        Raises
        ------
        NotAJxcFile, TruncatedFile, CorruptFile, UnknownCodec, TooLarge
            As `jaxcodec.coding.container.unpack`, and for what is no network.
        BadOption
            If another codec wrote the file.
        """
        header, network = self.read(data)
        return render(network.params(), header.height, header.width, network.config)

    def decode_enlarged(self, data: bytes, *, factor: float) -> np.ndarray:
        """Decode to a picture of `factor` times the size: the network knows colours between pixels too."""
        header, network = self.read(data)
        self._check_work(header, network, factor)
        return render(network.params(), header.height, header.width, network.config, factor=factor)

    def read(self, data: bytes) -> tuple[Header, QuantisedNetwork]:
        """Return what a file holds, all checked; raises as `decode`."""
        header, chunks = unpack(data, limits=self._options.limits)
        check_writer(header, NAME)
        if len(chunks) != 1:
            raise CorruptFile(f"a file of {NAME} has one chunk, not {len(chunks)}; {_COPY}")
        if header.weights_hash != _NO_WEIGHTS:
            raise CorruptFile(f"the file names weights of {NAME}, whose files bring their own; {_COPY}")
        coder = get_coder()
        if header.coder_id != coder.coder_id:
            raise UnknownCodec(
                f"the file has coder number {header.coder_id}, where {NAME} writes {coder.coder_id}; "
                "upgrade jaxcodec or get another copy of the file"
            )
        if header.quality > len(LADDER):
            raise CorruptFile(f"{NAME} has no quality {header.quality}; {_COPY}")
        network = from_bytes(chunks[0], header.channels, coder)
        self._check_work(header, network, 1.0)
        return header, network

    def _network(
        self, quality: float | None, options: CocoNetOptions, *, channels: int
    ) -> tuple[int, NetworkConfig, int]:
        """The number for the header, 0 for a network of one's own; the network; the bits of its weights."""
        if options.network is not None and quality is not None:
            raise BadOption(f"quality {quality} and a network of one's own contradict each other; give one")
        chosen = check_whole_quality(quality, self)
        width, depth, bits = LADDER[chosen - 1]
        config = options.network or replace(COMPACT, width=width, depth=depth)
        own = options.network is not None or options.bits is not None
        return 0 if own else chosen, replace(config, channels=channels), options.bits or bits

    def _check_work(self, header: Header, network: QuantisedNetwork, factor: float) -> None:
        work = header.height * header.width * network.config.parameter_count * factor * factor
        if work > self._options.max_evaluations:
            raise TooLarge(
                f"a picture of {header.width} x {header.height} by a network of "
                f"{network.config.parameter_count} weights exceeds {self._options.max_evaluations} "
                "multiplications; raise max_evaluations of CocoNetOptions if you trust the file"
            )


def load_coconet(weights: object = None) -> CocoNetCodec:
    """Return the codec; `BadOption` if weights are given, for a file brings its own."""
    if weights is not None:
        raise BadOption(f"{NAME} takes no weights, for each file holds its own; leave them out")
    return CocoNetCodec()
