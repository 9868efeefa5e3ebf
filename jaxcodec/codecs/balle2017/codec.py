"""Pictures to `.jxc` files and back with a transform coder: analysis, rounding, range coder; and the inverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs import tiling
from jaxcodec.codecs.balle2017.model import STRIDE, Analysis, Synthesis, TransformConfig
from jaxcodec.codecs.base import check_image, check_quality
from jaxcodec.coding.codec_ids import codec_id, codec_name
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack, unpack
from jaxcodec.coding.latents import decode_latents, encode_latents
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import BadOption, CorruptFile, TooLarge, WrongWeights
from jaxcodec.ops.extent import Extent
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import Weights, load_weights

_LARGEST_LATENT = 2**20
"""Latents are clipped to this before rounding: far outside any trained range, exact in float32."""

_LEAST_WINDOW = 80
"""Two halos of 32 and a latent between them."""

_CODER_SLACK = 8
"""Bytes that a range coder may save at the end of its stream."""


@partial(jax.jit, static_argnames="config")
def _analyse(
    params: Any,
    pixels: jax.Array,
    origin: jax.Array,
    size: jax.Array,
    *,
    config: TransformConfig,
) -> jax.Array:
    """Uint8 `[B, H, W, 3]` windows to rounded latents, int32 `[B, H/16, W/16, M]`."""
    x = pixels.astype(jnp.float32) / 255.0
    # A latent at the edge may cover pixels that do not exist: they repeat the last row and column, since a
    # sudden grey there would spoil the last real pixels. Beyond whole latents there are zeros.
    whole = -(-size // STRIDE) * STRIDE
    # An accelerator's default would be TF32 or bfloat16, and its symbols and pixels not those of a CPU.
    with jax.default_matmul_precision("float32"):
        y: Any = Analysis(config).apply({"params": params}, x, Extent(origin, whole))
    y = jnp.clip(y, -_LARGEST_LATENT, _LARGEST_LATENT)
    return jnp.round(y).astype(jnp.int32)


@partial(jax.jit, static_argnames="config")
def _synthesise(
    params: Any, symbols: jax.Array, origin: jax.Array, size: jax.Array, *, config: TransformConfig
) -> jax.Array:
    """Int32 `[B, h, w, M]` windows of latents to uint8 pixels `[B, 16 h, 16 w, 3]`."""
    # Synthesis runs on whole latents, so the picture ends where its last latent does.
    whole = -(-size // STRIDE) * STRIDE
    with jax.default_matmul_precision("float32"):
        x: Any = Synthesis(config).apply(
            {"params": params}, symbols.astype(jnp.float32), Extent(origin, whole)
        )
    return jnp.round(jnp.clip(x, 0.0, 1.0) * 255.0).astype(jnp.uint8)


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
            if any(side % STRIDE or side < _LEAST_WINDOW for side in shape):
                raise BadOption(
                    f"window {shape}: sides must be multiples of {STRIDE}, at least {_LEAST_WINDOW}"
                )
        if not self.window_shapes or (self.window_batch is not None and self.window_batch < 1):
            raise BadOption("at least one window shape is needed, and a window_batch of at least 1")


@dataclass(frozen=True)
class _Model:
    """Weights, ready to run."""

    weights: Weights
    config: TransformConfig
    tables: CodingTables
    analysis: Any
    synthesis: Any


def _build(weights: Weights, name: str) -> _Model:
    if weights.codec != name:
        raise WrongWeights(f"{weights.path} holds weights of {weights.codec}, not of {name}")
    try:
        config = TransformConfig(**weights.config)
        analysis, synthesis = weights.params["analysis"], weights.params["synthesis"]
    except (TypeError, ValueError, KeyError) as error:
        raise WrongWeights(f"{weights.path} does not describe a network of this version: {error}") from error
    tables = CodingTables.from_arrays(weights.tables)
    if tables.channels != config.latent_channels:
        raise WrongWeights(
            f"{weights.path} has {tables.channels} tables for {config.latent_channels} latent channels"
        )
    return _Model(weights, config, tables, jax.device_put(analysis), jax.device_put(synthesis))


class TransformCodec:
    """The codecs `balle2017` and `bmshj2018`: `Codec` of `jaxcodec.codecs.base`.

    Weights are read when first needed. A file is decoded with the weights whose hash it carries: those of
    this codec, or any of the zoo.

    Parameters
    ----------
    name
        The codec's name.
    paths
        Its weight files by quality.
    options
        How to run; `encode` may override it per call.
    """

    extension = ".jxc"

    def __init__(self, name: str, paths: dict[int, Path], *, options: TransformOptions | None = None) -> None:
        self.name = name
        self._paths = dict(sorted(paths.items()))
        self._options = options or TransformOptions()
        self._models: dict[Path, _Model] = {}

    @property
    def qualities(self) -> tuple[int, ...]:
        """Accepted qualities, ascending."""
        return tuple(self._paths)

    @property
    def ladder(self) -> tuple[int, ...]:
        """Every quality."""
        return self.qualities

    @property
    def default_quality(self) -> int:
        """The middle quality, the upper of two."""
        return self.qualities[len(self.qualities) // 2]

    def encode(
        self, image: np.ndarray, *, quality: int | None = None, options: TransformOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]` (coded as three equal channels), to a `.jxc` file."""
        return self.encode_batch([image], quality=quality, options=options)[0]

    def encode_batch(
        self,
        images: Sequence[np.ndarray],
        *,
        quality: int | None = None,
        options: TransformOptions | None = None,
    ) -> list[bytes]:
        """Code pictures of any sizes."""
        model = self._model(self._paths[check_quality(quality, self)])
        coder = get_coder()
        files = []
        for image, symbols in zip(
            images, self.latents(images, quality=quality, options=options), strict=True
        ):
            header = Header(
                codec_id=codec_id(self.name),
                coder_id=coder.coder_id,
                weights_hash=model.weights.hash,
                width=image.shape[1],
                height=image.shape[0],
                channels=1 if image.ndim == 2 else 3,
                bit_depth=8,
                quality=model.weights.quality,
            )
            files.append(pack(header, [encode_latents(symbols, model.tables, coder)]))
        return files

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a `.jxc` file of this codec to uint8 `[H, W, 3]` or `[H, W]`."""
        return self.decode_batch([data])[0]

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode files of any sizes and qualities."""
        parsed = [self._unpack(data) for data in files]
        pictures: list[np.ndarray | None] = [None] * len(files)
        for model in {id(model): model for model, _, _ in parsed}.values():
            mine = [i for i, (used, _, _) in enumerate(parsed) if used is model]
            decoded = self._synthesise(
                model, [parsed[i][2] for i in mine], [(parsed[i][1].height, parsed[i][1].width) for i in mine]
            )
            for i, picture in zip(mine, decoded, strict=True):
                # A grey picture was coded as three equal channels; their mean is its best estimate.
                grey = parsed[i][1].channels == 1
                pictures[i] = np.round(picture.mean(-1)).astype(np.uint8) if grey else picture
        return [picture for picture in pictures if picture is not None]

    def latents(
        self,
        images: Sequence[np.ndarray],
        *,
        quality: int | None = None,
        options: TransformOptions | None = None,
    ) -> list[np.ndarray]:
        """The rounded latents of pictures, int32 `[ceil(H/16), ceil(W/16), M]` each: what gets coded."""
        options = self._checked(options)
        model = self._model(self._paths[check_quality(quality, self)])
        pixels, sizes = [], []
        for image in map(check_image, images):
            if image.shape[0] * image.shape[1] > options.limits.max_pixels:
                raise TooLarge(
                    f"a picture of {image.shape[1]}x{image.shape[0]} exceeds {options.limits.max_pixels} pixels"
                )
            pixels.append(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))
            sizes.append((image.shape[0], image.shape[1]))
        outputs = [
            np.empty((-(-h // STRIDE), -(-w // STRIDE), model.config.latent_channels), np.int32)
            for h, w in sizes
        ]
        self._run(
            partial(_analyse, model.analysis, config=model.config),
            model,
            pixels,
            outputs,
            sizes,
            options,
        )
        return outputs

    def decode_latents(self, data: bytes) -> np.ndarray:
        """The latents in a file, int32 `[ceil(H/16), ceil(W/16), M]`: the same on every device."""
        return self._unpack(data)[2]

    def _unpack(self, data: bytes) -> tuple[_Model, Header, np.ndarray]:
        header, chunks = unpack(data, limits=self._options.limits)
        name = codec_name(header.codec_id)
        if name != self.name:
            raise BadOption(
                f"the file was written by {name}, not {self.name}; jaxcodec.decode picks the codec"
            )
        if len(chunks) != 1:
            raise CorruptFile(f"a {self.name} file has one chunk, this one has {len(chunks)}")
        model = self._model(self._find(header.weights_hash))
        if model.weights.hash != header.weights_hash:
            raise WrongWeights(
                f"{model.weights.path} is damaged: its content does not have the hash in its name; "
                "get another copy of it"
            )
        shape = (-(-header.height // STRIDE), -(-header.width // STRIDE), model.config.latent_channels)
        # Even the likeliest symbols cost something: a small file cannot hold the symbols of a huge picture,
        # and is refused before anything of that size is allocated.
        needed = shape[0] * shape[1] * model.tables.least_bits() / 8
        if len(chunks[0]) + _CODER_SLACK < needed:
            raise CorruptFile(
                f"{len(chunks[0])} bytes cannot hold a picture of {header.width}x{header.height}; "
                "get another copy of the file"
            )
        return model, header, decode_latents(chunks[0], shape, model.tables, get_coder(header.coder_id))

    def _find(self, weights_hash: bytes) -> Path:
        installed = manifest.find(weights_hash)
        if installed is not None:
            return installed
        for path in self._paths.values():
            if path.stem.endswith(weights_hash.hex()) or self._model(path).weights.hash == weights_hash:
                return path
        raise WrongWeights(
            f"the file was written with weights {weights_hash.hex()}, which are not installed; "
            "give them with --weights FILE (weights=... in Python)"
        )

    def _synthesise(
        self, model: _Model, symbols: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        outputs = [np.empty((h, w, 3), np.uint8) for h, w in sizes]
        self._run(
            partial(_synthesise, model.synthesis, config=model.config),
            model,
            symbols,
            outputs,
            sizes,
            self._options,
        )
        return outputs

    def _run(
        self,
        function: Any,
        model: _Model,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        sizes: Sequence[tuple[int, int]],
        options: TransformOptions,
    ) -> None:
        decoding = outputs[0].dtype == np.uint8 if outputs else False
        tiling.run(
            function,
            inputs,
            outputs,
            sizes,
            shapes=options.window_shapes,
            halo=model.config.halo,
            stride=STRIDE,
            input_stride=STRIDE if decoding else 1,
            output_stride=1 if decoding else STRIDE,
            batch_size=options.window_batch or (1 if jax.default_backend() == "cpu" else 8),
        )

    def _model(self, path: Path) -> _Model:
        if path not in self._models:
            self._models[path] = _build(load_weights(path), self.name)
        return self._models[path]

    def _checked(self, options: TransformOptions | None) -> TransformOptions:
        if options is None:
            return self._options
        if not isinstance(options, TransformOptions):
            raise BadOption(f"{self.name} takes TransformOptions, not {type(options).__name__}")
        return options


def _load(name: str, weights: str | Path | Sequence[str | Path] | None) -> TransformCodec:
    if weights is None:
        paths = {entry.quality: entry.file for entry in manifest.current(name)}
        if not paths:
            raise WrongWeights(
                f"no weights of {name} are installed; train some with experiments/balle2017.py, "
                "export them with scripts/export_weights.py and give them with --weights FILE"
            )
        return TransformCodec(name, paths)
    given = [weights] if isinstance(weights, str | Path) else list(weights)
    if not given:
        raise BadOption("the list of weights is empty; give a file, or leave them out")
    paths = {}
    for path in map(Path, given):
        read = load_weights(path)
        if read.codec != name:
            raise WrongWeights(f"{path} holds weights of {read.codec}, not of {name}")
        if read.quality in paths:
            raise BadOption(
                f"{paths[read.quality]} and {path} are both for quality {read.quality}; "
                "give one weight file per quality"
            )
        paths[read.quality] = path
    return TransformCodec(name, paths)


def load_balle2017(weights: str | Path | Sequence[str | Path] | None = None) -> TransformCodec:
    """The codec of the 2017 paper, from the zoo or from weight files of one's own."""
    return _load("balle2017", weights)


def load_bmshj2018(weights: str | Path | Sequence[str | Path] | None = None) -> TransformCodec:
    """The four-stage factorized codec of Ballé et al. (ICLR 2018); no weights are shipped."""
    return _load("bmshj2018", weights)
