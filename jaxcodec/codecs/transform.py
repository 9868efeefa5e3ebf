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

import jax
import numpy as np

from jaxcodec.codecs import tiling
from jaxcodec.codecs.base import check_image, check_quality, quality_number
from jaxcodec.coding.classes import ClassTables, decode_by_class, encode_by_class
from jaxcodec.coding.codec_ids import codec_id, codec_name
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack, unpack
from jaxcodec.coding.ladder import Ladder
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import BadOption, CorruptFile, TooLarge, WrongWeights
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import Weights, load_weights, read_ladder

_LEAST_WINDOW = 96
"""Two halos of 40 and two latents between them."""

_CODER_SLACK = 8
"""Bytes that a range coder may save at the end of its stream."""

_WEIGHT_PER_RATE = 7.5
"""The rate changes about as this root of distortion's weight, on photos: what is between rungs needs that power."""

Windows = Callable[[np.ndarray, np.ndarray, np.ndarray], jax.Array]
"""`(windows [B, h, w, C], origin int32 [B, 2], size int32 [B, 2]) -> [B, h', w', C']`, as in `tiling.run`."""


@dataclass(frozen=True)
class TransformOptions:
    """How a transform coder runs; a decoder needs to know none of it.

    Attributes
    ----------
    window_shapes
        Heights and widths of the windows, multiples of 16.
    window_batch
        Windows per call of the network; None for 1 on a CPU and 8 on an accelerator.
    limits
        What a decoder refuses.
    """

    window_shapes: tuple[tuple[int, int], ...] = tiling.WINDOW_SHAPES
    window_batch: int | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        for shape in self.window_shapes:
            if any(side % 16 or side < _LEAST_WINDOW for side in shape):
                raise BadOption(f"window {shape}: sides must be multiples of 16, at least {_LEAST_WINDOW}")
        if not self.window_shapes or (self.window_batch is not None and self.window_batch < 1):
            raise BadOption("at least one window shape is needed, and a window_batch of at least 1")


@dataclass(frozen=True)
class Network:
    """A trained network, ready to run.

    Attributes
    ----------
    stride, halo
        Pixels per latent, and of context that a latent or a decoded pixel needs on each side.
    channels
        Of the latents.
    analyse
        uint8 windows to float32 latents.
    synthesise
        float32 windows of latents to uint8 pixels.
    mirrored
        Pixels before and after a picture that analysis wants beside it, mirrored.
    """

    stride: int
    halo: int
    channels: int
    analyse: Windows
    synthesise: Windows
    mirrored: tuple[int, int] = (0, 0)


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
        self._models: dict[Path, _Model] = {}

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
        return self._encode(images, check_quality(quality, self), self._checked(options), {})

    def prepare(
        self, image: np.ndarray, *, options: TransformOptions | None = None
    ) -> Callable[[float], bytes]:
        """Return `file(quality)`, which codes the picture; each network analyses it once, when first needed."""
        checked = self._checked(options)
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
        return self._analyse(network, images, self._checked(options))

    def synthesise(
        self, network: Network, latents: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Pictures, uint8 `[H, W, 3]` of these sizes, from float32 latents `[ceil(H/s), ceil(W/s), M]`."""
        outputs = [np.empty((height, width, 3), np.uint8) for height, width in sizes]
        tiling.run(
            network.synthesise,
            latents,
            outputs,
            sizes,
            shapes=self._options.window_shapes,
            halo=network.halo,
            stride=network.stride,
            input_stride=network.stride,
            output_stride=1,
            batch_size=_window_batch(self._options),
        )
        return outputs

    def latents(
        self,
        images: Sequence[np.ndarray],
        *,
        quality: float | None = None,
        options: TransformOptions | None = None,
    ) -> list[np.ndarray]:
        """What is coded of pictures, int32 `[ceil(H/s), ceil(W/s), M]` each, by the first network of a quality."""
        hundredths, thrift = self._place(check_quality(quality, self))
        model = self._model(self._points[hundredths][0][0])
        rung = model.rung(hundredths)
        analysed = self._analyse(model.network, images, self._checked(options))
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
            model = self._model(path)
            if path not in analysed:
                analysed[path] = self._analyse(model.network, images, options)
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
        name = codec_name(header.codec_id)
        if name != self._system:
            raise BadOption(
                f"the file was written by {name}, not {self._system}; jaxcodec.decode picks the codec"
            )
        if len(chunks) != 1:
            raise CorruptFile(f"a {self.name} file has one chunk, this one has {len(chunks)}")
        model = self._model(self._find(header.weights_hash))
        if model.weights.hash != header.weights_hash:
            raise WrongWeights(
                f"{model.weights.path} is damaged: its content does not have the hash in its name; "
                "get another copy of it"
            )
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

    def _find(self, weights_hash: bytes) -> Path:
        installed = manifest.find(weights_hash)
        if installed is not None:
            return installed
        for path in self._paths:
            if path.stem.endswith(weights_hash.hex()) or self._model(path).weights.hash == weights_hash:
                return path
        raise WrongWeights(
            f"the file was written with weights {weights_hash.hex()}, which are not installed; "
            "give them with --weights FILE (weights=... in Python)"
        )

    def _analyse(
        self, network: Network, images: Sequence[np.ndarray], options: TransformOptions
    ) -> list[np.ndarray]:
        pixels, sizes = [], []
        for image in map(check_image, images):
            height, width = image.shape[:2]
            if height * width > options.limits.max_pixels:
                raise TooLarge(f"a picture of {width}x{height} exceeds {options.limits.max_pixels} pixels")
            colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
            pixels.append(_mirror(colour, network))
            sizes.append((height, width))
        outputs = [
            np.empty((-(-h // network.stride), -(-w // network.stride), network.channels), np.float32)
            for h, w in sizes
        ]
        tiling.run(
            network.analyse,
            pixels,
            outputs,
            sizes,
            shapes=options.window_shapes,
            halo=network.halo,
            stride=network.stride,
            input_stride=1,
            output_stride=network.stride,
            batch_size=_window_batch(options),
            input_margin=sum(network.mirrored),
        )
        return outputs

    def _model(self, path: Path) -> _Model:
        if path not in self._models:
            weights = load_weights(path)
            if weights.codec != self._system:
                raise WrongWeights(f"{weights.path} holds weights of {weights.codec}, not of {self._system}")
            try:
                network = self.build(weights)
            except (TypeError, ValueError, KeyError) as error:
                raise WrongWeights(
                    f"{weights.path} does not describe a network of this version: {error}"
                ) from error
            stored = "ladder_steps" in weights.tables
            ladder = Ladder.from_arrays(weights.tables) if stored else _one_rung(weights)
            if ladder.channels != network.channels:
                raise WrongWeights(
                    f"{weights.path} has {ladder.channels} tables for {network.channels} latent channels"
                )
            self._models[path] = _Model(weights, network, ladder, stored)
        return self._models[path]

    def _checked(self, options: TransformOptions | None) -> TransformOptions:
        if options is None:
            return self._options
        if not isinstance(options, TransformOptions):
            raise BadOption(f"{self.name} takes TransformOptions, not {type(options).__name__}")
        return options


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


def _mirror(pixels: np.ndarray, network: Network) -> np.ndarray:
    """Extend `[H, W, 3]` to whole latents and by `network.mirrored`, or leave it as it is without the latter."""
    before, after = network.mirrored
    if not before and not after:
        return pixels
    sides = [(before, after - side % -network.stride) for side in pixels.shape[:2]]
    return np.pad(pixels, (*sides, (0, 0)), mode="symmetric")


def _window_batch(options: TransformOptions) -> int:
    return options.window_batch or (1 if jax.default_backend() == "cpu" else 8)
