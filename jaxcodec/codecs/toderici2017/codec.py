"""Pictures to progressive `.jxc` files and back with the recurrent network: a chunk of bits per iteration.

A picture larger than a tile (`TILE` pixels per side) is cut into tiles that are coded independently, since each
iteration would otherwise need the whole picture's state at once. The grid of tiles is part of the format: rows of
tiles from the top left, each of `TILE` x `TILE` pixels but for the last ones. Within a chunk the tiles' streams follow
each other, each but the last preceded by its length as a varint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs import progress
from jaxcodec.codecs.base import OneByOne, unpack_iterations
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality, check_writer
from jaxcodec.codecs.models import Models, describing
from jaxcodec.codecs.tiling import cut
from jaxcodec.codecs.toderici2017.bits import BitCoder
from jaxcodec.codecs.toderici2017.model import STRIDE, CoderState, RecurrentCoder, RecurrentConfig
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack
from jaxcodec.errors import BadOption, CorruptFile
from jaxcodec.ops.binarise import sign_binarise
from jaxcodec.ops.extent import Extent
from jaxcodec.zoo.choose import Given, single_weight_file
from jaxcodec.zoo.weights import Weights

NAME = "toderici2017"
TILE = 1024
"""Pixels per side of what is coded independently; fixed by the format."""

_WINDOWS = ((64, 64), (256, 256), (512, 768), (768, 512), (TILE, TILE))
"""Shapes that the network is compiled for, ascending in area; multiples of 32."""


@partial(jax.jit, static_argnames=("config", "shape", "encoder"))
def _start(params: Any, *, config: RecurrentConfig, shape: tuple[int, int], encoder: bool) -> CoderState:
    state: Any = RecurrentCoder(config).apply(
        {"params": params}, 1, *shape, encoder=encoder, method="initial_state"
    )
    return state


@partial(jax.jit, static_argnames="config")
def _encode(
    params: Any, state: CoderState, pixels: jax.Array, extent: Extent, *, config: RecurrentConfig
) -> tuple[CoderState, jax.Array]:
    """One iteration's bits, bool `[1, h, w, bits]`, of uint8 `[1, H, W, 3]`; the decoder's part is left as it was."""
    x = pixels.astype(jnp.float32) / 255.0 - 0.5
    with jax.default_matmul_precision("float32"):
        after: Any = RecurrentCoder(config).apply({"params": params}, state, x, extent, method="encode")
    return after[0], sign_binarise(after[1]) > 0


@partial(jax.jit, static_argnames="config")
def _decode(
    params: Any, state: CoderState, bits: jax.Array, extent: Extent, *, config: RecurrentConfig
) -> CoderState:
    """Add one iteration's bits. Encoder and decoder both run this very program, so they see the same pictures."""
    signs = 2.0 * bits.astype(jnp.float32) - 1.0
    with jax.default_matmul_precision("float32"):
        after: Any = RecurrentCoder(config).apply({"params": params}, state, signs, extent, method="decode")
    return after


def _pixels(state: CoderState) -> np.ndarray:
    levels = np.asarray(state.reconstruction[0]) * np.float32(255.0) + np.float32(127.5)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class RecurrentOptions:
    """How the codec runs; a decoder needs to know none of it.

    Attributes
    ----------
    windows
        Heights and widths in pixels that the network is compiled for, multiples of 32, ascending in area; the
        last holds a tile.
    limits
        What a decoder refuses.
    """

    windows: tuple[tuple[int, int], ...] = _WINDOWS
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if any(side % 32 for shape in self.windows for side in shape):
            raise BadOption(f"windows {self.windows}: sides must be multiples of 32")
        if not self.windows or min(self.windows[-1]) < TILE:
            raise BadOption(f"the last window must hold a tile of {TILE}x{TILE}")


class _Tile(NamedTuple):
    top: int
    left: int
    height: int
    width: int

    @property
    def code_shape(self) -> tuple[int, int]:
        return math.ceil(self.height / STRIDE), math.ceil(self.width / STRIDE)


def _tiles(height: int, width: int) -> list[_Tile]:
    return [
        _Tile(top, left, min(TILE, height - top), min(TILE, width - left))
        for top in range(0, height, TILE)
        for left in range(0, width, TILE)
    ]


@dataclass(frozen=True)
class _Model:
    """Weights, ready to run."""

    weights: Weights
    config: RecurrentConfig
    params: Any
    bit_coder: BitCoder


def _build(weights: Weights) -> _Model:
    with describing(weights, NAME):
        config = RecurrentConfig(**weights.config)
    return _Model(
        weights, config, jax.device_put(weights.params), BitCoder(weights.tables, depth=config.bits)
    )


class RecurrentCodec(OneByOne):
    """The codec `toderici2017`: `ProgressiveCodec` of `jaxcodec.codecs.base`; quality is the number of iterations.

    Parameters
    ----------
    path
        The weight file to encode with.
    options
        How to run; `encode` may override it per call.
    """

    name = NAME
    extension = ".jxc"

    def __init__(self, path: Path, *, options: RecurrentOptions | None = None) -> None:
        self.path = path
        self._options = options or RecurrentOptions()
        self._models = Models([path], _build)

    @property
    def qualities(self) -> tuple[int, ...]:
        """1 to the iterations that the network was trained with."""
        return tuple(range(1, self._models.first.config.iterations + 1))

    @property
    def ladder(self) -> tuple[int, ...]:
        """Every quality."""
        return self.qualities

    @property
    def default_quality(self) -> int:
        """The middle quality."""
        return self.qualities[(len(self.qualities) - 1) // 2]

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: RecurrentOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]` (coded as three equal channels), to a `.jxc` file."""
        quality, options = check_whole_quality(quality, self), check_options(options, self, self._options)
        model = self._models.first
        height, width = check_image(image, options.limits).shape[:2]
        codes = [bits for bits, _ in self._encode_tiles(model, image, quality, options)]
        header = Header(
            codec_id=codec_id(NAME),
            coder_id=model.bit_coder.coder_id,
            weights_hash=model.weights.hash,
            width=width,
            height=height,
            channels=1 if image.ndim == 2 else 3,
            bit_depth=8,
            quality=quality,
        )
        return pack(header, model.bit_coder.encode(codes))

    def decode(self, data: bytes) -> np.ndarray:
        """Decode all iterations of a whole file to uint8 `[H, W, 3]` or `[H, W]`."""
        return self.decode_progressive(data)

    def decode_progressive(
        self, data: bytes, *, iterations: int | None = None, allow_truncated: bool = False
    ) -> np.ndarray:
        """Decode the first iterations of a file; see `ProgressiveCodec`."""
        model, header, tiles, codes = self._unpack(data, iterations, allow_truncated)
        picture = np.empty((header.height, header.width, 3), np.uint8)
        total, done = sum(len(bits) for bits in codes), 0
        for tile, bits in zip(tiles, codes, strict=True):
            shape = self._window(tile, self._options)
            state = _start(model.params, config=model.config, shape=shape, encoder=False)
            for one in bits:
                state = _decode(
                    model.params, state, _padded(one, shape)[None], _extent(tile), config=model.config
                )
                done += 1
                _tell(done, total, state)
            picture[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = _pixels(state)[
                : tile.height, : tile.width
            ]
        # A grey picture was coded as three equal channels; their mean is its best estimate.
        return np.rint(picture.mean(-1)).astype(np.uint8) if header.channels == 1 else picture

    def codes(self, image: np.ndarray, *, quality: float | None = None) -> list[np.ndarray]:
        """The bits of a picture, bool `[quality, h, w, bits]` for each tile: what gets coded."""
        quality = check_whole_quality(quality, self)
        model = self._models.first
        return [bits for bits, _ in self._encode_tiles(model, check_image(image), quality, self._options)]

    def reconstructions(self, image: np.ndarray, *, quality: float | None = None) -> np.ndarray:
        """What the encoder sees after each iteration, uint8 `[quality, H, W, 3]`."""
        quality = check_whole_quality(quality, self)
        model = self._models.first
        pictures = np.empty((quality, *check_image(image).shape[:2], 3), np.uint8)
        tiles = _tiles(*image.shape[:2])
        coded = self._encode_tiles(model, image, quality, self._options, pictures=True)
        for tile, (_, seen) in zip(tiles, coded, strict=True):
            pictures[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = seen
        return pictures

    def decode_codes(self, data: bytes) -> list[np.ndarray]:
        """The bits in a file, bool `[iterations, h, w, bits]` for each tile: the same on every device."""
        return self._unpack(data, None, False)[3]

    def _encode_tiles(
        self,
        model: _Model,
        image: np.ndarray,
        quality: int,
        options: RecurrentOptions,
        *,
        pictures: bool = False,
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Bits of each tile and, if asked for, its picture after each iteration."""
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        tiles = _tiles(*image.shape[:2])
        done = 0
        for tile in tiles:
            shape = self._window(tile, options)
            part = colour[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            pixels = cut(part, 0, 0, *shape)[None]
            state = _start(model.params, config=model.config, shape=shape, encoder=True)
            bits, seen = [], []
            for iteration in range(quality):
                state, one = _encode(model.params, state, pixels, _extent(tile), config=model.config)
                bits.append(one)
                if pictures or iteration + 1 < quality:
                    state = _decode(model.params, state, one, _extent(tile), config=model.config)
                if pictures:
                    seen.append(_pixels(state)[: tile.height, : tile.width])
                done += 1
                _tell(done, quality * len(tiles), state)
            h, w = tile.code_shape
            yield np.stack([np.asarray(one[0])[:h, :w] for one in bits]), seen

    def _unpack(
        self, data: bytes, iterations: int | None, allow_truncated: bool
    ) -> tuple[_Model, Header, list[_Tile], list[np.ndarray]]:
        header, chunks = unpack_iterations(
            data, iterations=iterations, allow_truncated=allow_truncated, limits=self._options.limits
        )
        check_writer(header, NAME)
        model = self._models.of_hash(header.weights_hash)
        if len(chunks) > model.config.iterations:
            raise CorruptFile(
                f"the file has {len(chunks)} iterations, the network {model.config.iterations}; "
                "get another copy of the file"
            )
        tiles = _tiles(header.height, header.width)
        codes = model.bit_coder.decode(chunks, [tile.code_shape for tile in tiles], header.coder_id)
        return model, header, tiles, codes

    @staticmethod
    def _window(tile: _Tile, options: RecurrentOptions) -> tuple[int, int]:
        return next(s for s in options.windows if s[0] >= tile.height and s[1] >= tile.width)


def _tell(done: int, total: int, state: CoderState) -> None:
    if progress.listened_to():
        jax.block_until_ready(state)
        progress.report(done, total)


def _extent(tile: _Tile) -> Extent:
    # The network sees whole positions of the code: their last row and column repeat the picture's.
    h, w = tile.code_shape
    return Extent(jnp.zeros((1, 2), jnp.int32), jnp.array([[h * STRIDE, w * STRIDE]], jnp.int32))


def _padded(bits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    h, w = shape[0] // STRIDE, shape[1] // STRIDE
    return np.pad(bits, ((0, h - bits.shape[0]), (0, w - bits.shape[1]), (0, 0)))


def load_toderici2017(weights: Given = None) -> RecurrentCodec:
    """The full-resolution recurrent codec, from the zoo or from a weight file of one's own."""
    return RecurrentCodec(single_weight_file(NAME, weights))
