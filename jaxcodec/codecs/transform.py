"""Pictures to `.jxc` files and back with a transform coder: analysis, rounding, range coder; and the inverse.

What balle2017, bmshj2018 and theis2017 have in common. A weight file serves one quality, or a ladder of them
(`jaxcodec.coding.ladder`): then the latents are quantised with the steps of a rung, and coded with its tables.
Qualities are whole numbers, and any between the ends of a ladder: those between two rungs use the upper one, and give
up more latents. Where several networks serve the same quality, each
picture takes the one that distorts it least (the ensemble of Theis et al. 2017, section 3.3); the hash of the
weights in the file tells which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxcodec.codecs.base import quality_number
from jaxcodec.codecs.checks import check_options, check_quality, check_writer
from jaxcodec.codecs.models import Models, describing
from jaxcodec.codecs.transform_network import Network, TransformOptions, analyse, synthesise
from jaxcodec.coding.classes import ClassTables, decode_by_class, encode_by_class
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import Header, pack, unpack
from jaxcodec.coding.ladder import Ladder
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import CorruptFile, WrongWeights
from jaxcodec.zoo.weights import Weights, read_ladder

_CODER_SLACK = 8
"""Bytes that a range coder may save at the end of its stream."""

_WEIGHT_PER_RATE = 7.5
"""The rate changes about as this root of distortion's weight, on photos: what is between rungs needs that power."""


@dataclass(frozen=True)
class _Model:
    """A weight file, ready to code."""

    weights: Weights
    network: Network
    ladder: Ladder
    stored: bool  # whether the ladder is of the file, or the one rung of a file without

    def rung(self, number: int) -> int:
        """Where the quality in a file's header stands on the ladder; `CorruptFile` if it does not."""
        if not self.stored:
            return 0
        at = int(np.searchsorted(self.ladder.qualities, number))
        if at == len(self.ladder.qualities) or self.ladder.qualities[at] != number:
            raise CorruptFile(
                f"{self.weights.path} has no quality {number / 100:g}; get another copy of the file"
            )
        return at


class TransformCoder(ABC):
    """A codec of the protocol `SteppedCodec` of `jaxcodec.codecs.base`; a system adds how to build its network.

    Weights are read when first needed. A file is decoded with the weights whose hash it carries: those of
    this codec, or any of the zoo.

    Parameters
    ----------
    name
        The codec's name. A variant, `<codec>-<variant>`, is the codec with other weights, and writes its files.
    paths
        Its weight files.
    options
        How to run; `encode` may override it per call.
    """

    extension = ".jxc"

    def __init__(self, name: str, paths: Sequence[Path], *, options: TransformOptions | None = None) -> None:
        self.name = name
        self._system = name.partition("-")[0]
        self._paths = tuple(paths)
        self._options = options or TransformOptions()
        self._models = Models(self._paths, self._build)

    @abstractmethod
    def build(self, weights: Weights) -> Network:
        """The network of a weight file; `WrongWeights`, `ValueError`, `TypeError` or `KeyError` if it is not one."""

    @cached_property
    def _points(self) -> dict[int, list[tuple[Path, float]]]:
        """The weight files of each quality, in hundredths, and their mean rates on training photos in bpp."""
        points: dict[int, list[tuple[Path, float]]] = {}
        for path in self._paths:
            for quality, bpp in read_ladder(path):
                points.setdefault(quality, []).append((path, bpp))
        return dict(sorted(points.items()))

    @property
    def qualities(self) -> tuple[float, ...]:
        """Accepted qualities, ascending."""
        return tuple(quality_number(hundredths) for hundredths in self._points)

    @property
    def ladder(self) -> tuple[float, ...]:
        """The whole qualities, or halves too where there are few of those, or all."""
        for step, enough in ((100, 5), (50, 1)):
            chosen = [hundredths for hundredths in self._points if hundredths % step == 0]
            if len(chosen) >= enough:
                return tuple(quality_number(hundredths) for hundredths in chosen)
        return self.qualities

    @property
    def default_quality(self) -> float:
        """The middle of `ladder`, the upper of two."""
        return self.ladder[len(self.ladder) // 2]

    def expected_bpp(self, quality: float) -> float:
        """Mean rate of training photos at one of `qualities`, headers not counted; NaN where it is not known."""
        return float(np.mean([bpp for _, bpp in self._points[_hundredths(quality)]]))

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: TransformOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]` (coded as three equal channels), to a `.jxc` file."""
        return self.encode_batch([image], quality=quality, options=options)[0]

    def encode_batch(
        self,
        images: Sequence[np.ndarray],
        *,
        quality: float | None = None,
        options: TransformOptions | None = None,
    ) -> list[bytes]:
        """Code pictures of any sizes."""
        return self._encode(
            images, check_quality(quality, self), check_options(options, self, self._options), {}
        )

    def prepare(
        self, image: np.ndarray, *, options: TransformOptions | None = None
    ) -> Callable[[float], bytes]:
        """Return `file(quality)`, which codes the picture; each network analyses it once, when first needed."""
        checked = check_options(options, self, self._options)
        latents: dict[Path, list[np.ndarray]] = {}
        return lambda quality: self._encode([image], check_quality(quality, self), checked, latents)[0]

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a `.jxc` file of this codec to uint8 `[H, W, 3]` or `[H, W]`."""
        return self.decode_batch([data])[0]

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode files of any sizes and qualities."""
        parsed = [self._unpack(data) for data in files]
        pictures: list[np.ndarray | None] = [None] * len(files)
        for model in {id(model): model for model, *_ in parsed}.values():
            mine = [i for i, (used, *_) in enumerate(parsed) if used is model]
            decoded = self.synthesise(
                model.network,
                [model.ladder.dequantise(symbols, rung) for _, _, rung, symbols in (parsed[i] for i in mine)],
                [(parsed[i][1].height, parsed[i][1].width) for i in mine],
            )
            for i, picture in zip(mine, decoded, strict=True):
                # A grey picture was coded as three equal channels; their mean is its best estimate.
                grey = parsed[i][1].channels == 1
                pictures[i] = np.round(picture.mean(-1)).astype(np.uint8) if grey else picture
        return [picture for picture in pictures if picture is not None]

    def analyse(
        self, network: Network, images: Sequence[np.ndarray], *, options: TransformOptions | None = None
    ) -> list[np.ndarray]:
        """Latents of pictures by a network, before any step: float32 `[ceil(H/s), ceil(W/s), M]` each."""
        return analyse(network, images, check_options(options, self, self._options))

    def synthesise(
        self, network: Network, latents: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Pictures, uint8 `[H, W, 3]` of these sizes, from float32 latents `[ceil(H/s), ceil(W/s), M]`."""
        return synthesise(network, latents, sizes, self._options)

    def latents(
        self,
        images: Sequence[np.ndarray],
        *,
        quality: float | None = None,
        options: TransformOptions | None = None,
    ) -> list[np.ndarray]:
        """What is coded of pictures, int32 `[ceil(H/s), ceil(W/s), M]` each, by the first network of a quality."""
        hundredths, thrift = self._place(check_quality(quality, self))
        model = self._models.of_path(self._points[hundredths][0][0])
        rung = model.rung(hundredths)
        analysed = analyse(model.network, images, check_options(options, self, self._options))
        return [model.ladder.quantise(latents, rung, thrift=thrift) for latents in analysed]

    def decode_latents(self, data: bytes) -> np.ndarray:
        """The latents in a file, int32 `[ceil(H/s), ceil(W/s), M]`: the same on every device."""
        return self._unpack(data)[3]

    def _place(self, quality: float) -> tuple[int, float]:
        """The rung that codes a quality, in hundredths, and by what distortion is weighed there."""
        rungs = list(self._points)
        at = bisect_left(rungs, 100.0 * quality - 1e-6)
        if at == 0 or abs(rungs[at] - 100.0 * quality) < 1e-6:
            return rungs[at], 1.0
        share = (rungs[at] - 100.0 * quality) / (rungs[at] - rungs[at - 1])
        below, above = (self.expected_bpp(rungs[i] / 100.0) for i in (at - 1, at))
        return rungs[at], min(1.0, below / above) ** (_WEIGHT_PER_RATE * share)

    def _encode(
        self,
        images: Sequence[np.ndarray],
        quality: float,
        options: TransformOptions,
        analysed: dict[Path, list[np.ndarray]],
    ) -> list[bytes]:
        hundredths, thrift = self._place(quality)
        candidates = []
        for path, _ in self._points[hundredths]:
            model = self._models.of_path(path)
            if path not in analysed:
                analysed[path] = analyse(model.network, images, options)
            rung = model.rung(hundredths)
            symbols = [model.ladder.quantise(latents, rung, thrift=thrift) for latents in analysed[path]]
            candidates.append((model, symbols))
        chosen = (
            [0] * len(images)
            if len(candidates) == 1
            else self._least_distortion(images, candidates, hundredths)
        )
        return [
            self._file(image, *_of(candidates[best], i), hundredths)
            for i, (image, best) in enumerate(zip(images, chosen, strict=True))
        ]

    def _least_distortion(
        self,
        images: Sequence[np.ndarray],
        candidates: Sequence[tuple[_Model, list[np.ndarray]]],
        hundredths: int,
    ) -> list[int]:
        """Which of the candidates has the least squared error, for each picture; the first of equals."""
        errors = []
        for model, symbols in candidates:
            rung = model.rung(hundredths)
            sizes = [(image.shape[0], image.shape[1]) for image in images]
            latents = [model.ladder.dequantise(each, rung) for each in symbols]
            decoded = self.synthesise(model.network, latents, sizes)
            errors.append(
                [
                    float(np.square(a.astype(np.float32) - (b if b.ndim == 3 else b[..., None])).mean())
                    for a, b in zip(decoded, images, strict=True)
                ]
            )
        return [int(i) for i in np.argmin(errors, axis=0)]

    def _file(self, image: np.ndarray, model: _Model, symbols: np.ndarray, hundredths: int) -> bytes:
        coder = get_coder()
        header = Header(
            codec_id=codec_id(self._system),
            coder_id=coder.coder_id,
            weights_hash=model.weights.hash,
            width=image.shape[1],
            height=image.shape[0],
            channels=1 if image.ndim == 2 else 3,
            bit_depth=8,
            quality=hundredths if model.stored else model.weights.quality,
        )
        tables = model.ladder.tables[model.rung(hundredths)]
        return pack(header, [encode_by_class(symbols, tables, coder)])

    def _unpack(self, data: bytes) -> tuple[_Model, Header, int, np.ndarray]:
        header, chunks = unpack(data, limits=self._options.limits)
        check_writer(header, self._system)
        if len(chunks) != 1:
            raise CorruptFile(f"a {self.name} file has one chunk, this one has {len(chunks)}")
        model = self._models.of_hash(header.weights_hash)
        stride, channels = model.network.stride, model.network.channels
        rung = model.rung(header.quality)
        tables = model.ladder.tables[rung]
        shape = (-(-header.height // stride), -(-header.width // stride), channels)
        # Even the likeliest symbols cost something: a small file cannot hold the symbols of a huge picture,
        # and is refused before anything of that size is allocated.
        if len(chunks[0]) + _CODER_SLACK < tables.least_bits(*shape[:2]) / 8:
            raise CorruptFile(
                f"{len(chunks[0])} bytes cannot hold a picture of {header.width}x{header.height}; "
                "get another copy of the file"
            )
        return model, header, rung, decode_by_class(chunks[0], shape, tables, get_coder(header.coder_id))

    def _build(self, weights: Weights) -> _Model:
        with describing(weights, self._system):
            network = self.build(weights)
        stored = "ladder_steps" in weights.tables
        ladder = Ladder.from_arrays(weights.tables) if stored else _one_rung(weights)
        if ladder.channels != network.channels:
            raise WrongWeights(
                f"{weights.path} has {ladder.channels} tables for {network.channels} latent channels"
            )
        return _Model(weights, network, ladder, stored)


def _of(candidate: tuple[_Model, list[np.ndarray]], i: int) -> tuple[_Model, np.ndarray]:
    return candidate[0], candidate[1][i]


def _hundredths(quality: float) -> int:
    return round(100 * quality)


def _one_rung(weights: Weights) -> Ladder:
    """The ladder of a file with plain tables: the step that the network was trained for."""
    tables = CodingTables.from_arrays(weights.tables)
    plain = ClassTables((tables,), 1, np.empty((0, 1), np.uint32))
    steps = np.ones((1, tables.channels), np.float32)
    quality, zero = np.array([max(1, 100 * weights.quality)], np.int32), np.zeros(1, np.float32)
    return Ladder(steps, quality, zero, zero, (plain,))
