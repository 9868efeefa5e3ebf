"""Thumbnails, and pictures of any size patch by patch, to progressive `.jxc` files and back.

The picture's last row and column are repeated up to whole patches, and all patches are coded independently. A chunk
is one stage of all of them, in raster order: their bits as they are, eight to a byte, the first highest, zeros at the
end. Where patches have stages of their own number (`TodericiOptions.target_psnr`), a stage holds only those that
reach it, and the first chunk begins with the numbers less one, in `(stages - 1).bit_length()` bits each; its length
tells which of the two it is.

Many 32x32 thumbnails make one file, as a picture of their width with all of them below each other: the header would
be half of a file of 64 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs import progress
from jaxcodec.codecs.base import check_image, check_whole_quality, unpack_iterations
from jaxcodec.codecs.toderici2016.model import (
    ThumbnailConfig,
    decode_stage,
    encode_stage,
    init,
    initial_states,
    stage_params,
    to_pixels,
    to_values,
)
from jaxcodec.coding.codec_ids import codec_id, codec_name
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack
from jaxcodec.errors import BadImage, BadOption, CorruptFile, TooLarge, UnknownCodec, WrongWeights
from jaxcodec.ops.binarise import sign_binarise
from jaxcodec.zoo import manifest
from jaxcodec.zoo.choose import Given, single_weight_file
from jaxcodec.zoo.weights import Weights, load_weights

NAME = "toderici2016"
THUMBNAIL = 32
"""Pixels per side of a thumbnail."""

RAW_BITS = 0
"""The coder's number in a file that has none."""

_BATCHES = (1, 8, 64)
"""Sizes of the batches that the networks are compiled for, in thumbnails; the last one is filled up."""

_ANOTHER_COPY = "get another copy of the file"


@partial(jax.jit, static_argnames=("config", "pictures"))
def _encode(
    params: Any, pixels: jax.Array, stages: jax.Array, *, config: ThumbnailConfig, pictures: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first `stages` stages of uint8 patches `[B, P, P, 3]`.

    Returns bits, bool `[N, B, bits]`; the sums of squared errors in 8 bits, int32 `[N, B]`; and with `pictures` what
    the encoder sees, uint8 `[N, B, P, P, 3]`. All are zero from `stages` on: N is the same for every quality, so
    nothing is compiled anew.
    """
    x, batch = to_values(pixels), pixels.shape[0]

    def body(stage: jax.Array, carry: Any) -> Any:
        encoder_state, decoder_state, reconstruction, codes, errors, seen = carry
        own = stage_params(params, stage, config)
        encoder_state, code = encode_stage(own, encoder_state, x - reconstruction, config)
        bits = sign_binarise(code)
        decoder_state, reconstruction = decode_stage(own, decoder_state, bits, reconstruction, config)
        current = to_pixels(reconstruction)
        difference = current.astype(jnp.int32) - pixels.astype(jnp.int32)
        error = jnp.sum(difference * difference, axis=(1, 2, 3))
        if pictures:
            seen = seen.at[stage].set(current)
        return (
            *(encoder_state, decoder_state, reconstruction),
            *(codes.at[stage].set(bits > 0), errors.at[stage].set(error), seen),
        )

    start = (
        *initial_states(config, batch),
        jnp.zeros_like(x),
        jnp.zeros((config.stages, batch, config.bits), bool),
        jnp.zeros((config.stages, batch), jnp.int32),
        jnp.zeros((config.stages if pictures else 0, *pixels.shape), jnp.uint8),
    )
    # An accelerator's default would be TF32 or bfloat16, and its pixels not those of a CPU.
    with jax.default_matmul_precision("float32"):
        return jax.lax.fori_loop(0, stages, body, start)[3:]


@partial(jax.jit, static_argnames="config")
def _decode(params: Any, codes: jax.Array, counts: jax.Array, *, config: ThumbnailConfig) -> jax.Array:
    """Bool `[N, B, bits]` to uint8 `[B, P, P, 3]`, of each patch the first `counts` `[B]` stages."""

    def body(stage: jax.Array, carry: Any) -> Any:
        state, reconstruction = carry
        own = stage_params(params, stage, config)
        bits = 2.0 * codes[stage].astype(jnp.float32) - 1.0
        state, further = decode_stage(own, state, bits, reconstruction, config)
        reached = (stage < counts)[:, None, None, None]
        return state, jnp.where(jnp.broadcast_to(reached, further.shape), further, reconstruction)

    batch = codes.shape[1]
    blank = jnp.zeros((batch, config.patch, config.patch, 3), jnp.float32)
    with jax.default_matmul_precision("float32"):
        start = (initial_states(config, batch)[1], blank)
        return to_pixels(jax.lax.fori_loop(0, jnp.max(counts), body, start)[1])


@dataclass(frozen=True)
class TodericiOptions:
    """How to encode.

    Attributes
    ----------
    target_psnr
        Give each patch of its own as few stages as reach this PSNR, in dB of the patch in 8 bits, and at most
        `quality` (all, when not given). None: all patches have `quality` stages.
    limits
        What a decoder refuses.
    """

    target_psnr: float | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.target_psnr is not None and not 0.0 < self.target_psnr < math.inf:
            raise BadOption(f"target_psnr={self.target_psnr} makes no sense; give decibels above 0")


@dataclass(frozen=True)
class _Model:
    """Weights, ready to run."""

    weights: Weights
    config: ThumbnailConfig
    params: Any


def _build(weights: Weights) -> _Model:
    if weights.codec != NAME:
        raise WrongWeights(f"{weights.path} holds weights of {weights.codec}, not of {NAME}")
    try:
        config = ThumbnailConfig(**weights.config)
        wanted = jax.eval_shape(partial(init, config), jax.random.key(0))
        if jax.tree.map(jnp.shape, wanted) != jax.tree.map(np.shape, weights.params):
            raise ValueError("its parameters are not those of its configuration")
    except (TypeError, ValueError) as error:
        raise WrongWeights(f"{weights.path} does not describe a network of this version: {error}") from error
    return _Model(weights, config, jax.device_put(weights.params))


class ThumbnailCodec:
    """The codec `toderici2016`: `ProgressiveCodec` of `jaxcodec.codecs.base`; quality is the number of stages.

    A file decodes to the same picture, to one 8-bit level, whatever it is decoded together with and wherever: the
    bits are exact, the network runs in float32.

    Parameters
    ----------
    path
        The weight file to encode with.
    options
        How to encode; `encode` may override it per call.
    """

    name = NAME
    extension = ".jxc"

    def __init__(self, path: Path, *, options: TodericiOptions | None = None) -> None:
        self._path = path
        self._options = options or TodericiOptions()
        self._models: dict[Path, _Model] = {}

    @property
    def config(self) -> ThumbnailConfig:
        """The network that it encodes with."""
        return self._model(self._path).config

    @property
    def qualities(self) -> tuple[int, ...]:
        """1 to the stages that the network was trained with."""
        return tuple(range(1, self.config.stages + 1))

    @property
    def ladder(self) -> tuple[int, ...]:
        """Every quality."""
        return self.qualities

    @property
    def default_quality(self) -> int:
        """The middle quality."""
        return self.qualities[(len(self.qualities) - 1) // 2]

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: TodericiOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]` (coded as three equal channels), to a `.jxc` file."""
        options = self._checked(options)
        if quality is None and options.target_psnr is not None:
            quality = self.qualities[-1]
        quality = check_whole_quality(quality, self)
        model = self._model(self._path)
        patches = self._patches(model, image, options)
        codes, errors, _ = self._run_encoder(model, patches, quality)
        counts = np.full(len(patches), quality)
        if options.target_psnr is not None:
            largest = 255.0**2 * 3 * model.config.patch**2 / 10.0 ** (options.target_psnr / 10.0)
            enough = errors <= largest  # from the first stage that is good enough, or else all
            counts = np.where(enough.any(axis=0), enough.argmax(axis=0) + 1, quality)
        header = Header(
            codec_id=codec_id(NAME),
            coder_id=RAW_BITS,
            weights_hash=model.weights.hash,
            width=image.shape[1],
            height=image.shape[0],
            channels=1 if image.ndim == 2 else 3,
            bit_depth=8,
            quality=int(counts.max()),
        )
        chunks = [np.packbits(codes[t][counts > t]).tobytes() for t in range(header.quality)]
        if options.target_psnr is not None:
            chunks[0] = _pack_counts(counts, model.config) + chunks[0]
        return pack(header, chunks)

    def encode_batch(
        self,
        images: Sequence[np.ndarray],
        *,
        quality: float | None = None,
        options: TodericiOptions | None = None,
    ) -> list[bytes]:
        """Code pictures of any sizes to a file each; thumbnails rather go into one (`encode_thumbnails`)."""
        return [self.encode(image, quality=quality, options=options) for image in images]

    def encode_thumbnails(
        self, images: np.ndarray, *, quality: float | None = None, options: TodericiOptions | None = None
    ) -> bytes:
        """Code thumbnails, uint8 `[n, 32, 32, 3]` or `[n, 32, 32]`, to one file: a picture of 32 x 32 n pixels.

        Raises
        ------
        BadImage
            If they have another shape, or there is none.
        """
        if images.ndim not in (3, 4) or images.shape[1:3] != (THUMBNAIL, THUMBNAIL) or not len(images):
            raise BadImage(f"thumbnails are uint8 [n, 32, 32, 3] or [n, 32, 32], got {list(images.shape)}")
        tall = images.reshape(-1, *images.shape[2:])
        return self.encode(tall, quality=quality, options=options)

    def decode(self, data: bytes) -> np.ndarray:
        """Decode all stages of a whole file to uint8 `[H, W, 3]` or `[H, W]`."""
        return self.decode_progressive(data)

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode files of any sizes."""
        return [self.decode(data) for data in files]

    def decode_progressive(
        self, data: bytes, *, iterations: int | None = None, allow_truncated: bool = False
    ) -> np.ndarray:
        """Decode the first stages of a file; see `ProgressiveCodec`."""
        model, header, codes, counts = self._unpack(data, iterations, allow_truncated)
        patches = np.empty((len(counts), model.config.patch, model.config.patch, 3), np.uint8)
        for part, batch in _batches(len(counts), model.config):
            own = codes[:, part]
            missing = ((0, model.config.stages - len(own)), (0, batch - own.shape[1]), (0, 0))
            decoded = _decode(
                model.params,
                np.pad(own, missing),
                np.pad(counts[part], missing[1]).astype(np.int32),
                config=model.config,
            )
            patches[part] = np.asarray(decoded)[: own.shape[1]]
            progress.report(part.stop, len(counts))
        picture = _join(patches, header.height, header.width)
        # A grey picture was coded as three equal channels; their mean is its best estimate.
        return np.rint(picture.mean(-1)).astype(np.uint8) if header.channels == 1 else picture

    def decode_thumbnails(
        self, data: bytes, *, iterations: int | None = None, allow_truncated: bool = False
    ) -> np.ndarray:
        """Decode a file of thumbnails to uint8 `[n, 32, 32, 3]` or `[n, 32, 32]`.

        Raises
        ------
        BadOption
            If it holds a picture of another shape.
        JaxcodecError
            As `decode_progressive`.
        """
        tall = self.decode_progressive(data, iterations=iterations, allow_truncated=allow_truncated)
        if tall.shape[1] != THUMBNAIL or tall.shape[0] % THUMBNAIL:
            raise BadOption(
                f"the file holds a picture of {tall.shape[1]}x{tall.shape[0]}, no thumbnails; use decode"
            )
        return tall.reshape(-1, THUMBNAIL, *tall.shape[1:])

    def reconstructions(self, image: np.ndarray, *, quality: float | None = None) -> np.ndarray:
        """What the encoder sees after each stage, uint8 `[quality, H, W, 3]`."""
        quality = check_whole_quality(quality, self)
        model = self._model(self._path)
        patches = self._patches(model, image, self._options)
        _, _, seen = self._run_encoder(model, patches, quality, pictures=True)
        return np.stack([_join(stage, *image.shape[:2]) for stage in seen])

    def stage_counts(self, data: bytes) -> np.ndarray:
        """How many stages each patch has in a file, `[rows, columns]` of patches."""
        model, header, _, counts = self._unpack(data, None, False)
        return counts.reshape(_grid(header.height, header.width, model.config))

    def _patches(self, model: _Model, image: np.ndarray, options: TodericiOptions) -> np.ndarray:
        """uint8 `[H, W, 3]` or `[H, W]` to `[n, P, P, 3]`."""
        height, width = check_image(image).shape[:2]
        if height * width > options.limits.max_pixels:
            raise TooLarge(f"a picture of {width}x{height} exceeds {options.limits.max_pixels} pixels")
        side = model.config.patch
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        whole = np.pad(colour, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
        rows, columns = _grid(height, width, model.config)
        return whole.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)

    def _run_encoder(
        self, model: _Model, patches: np.ndarray, quality: int, *, pictures: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`_encode` of any number of patches, along axis 1 of the results; axis 0 is `quality`."""
        results: list[list[np.ndarray]] = [[], [], []]
        for part, batch in _batches(len(patches), model.config):
            own = patches[part]
            pixels = np.pad(own, ((0, batch - len(own)), (0, 0), (0, 0), (0, 0)))
            coded = _encode(model.params, pixels, np.int32(quality), config=model.config, pictures=pictures)
            for result, array in zip(results, coded, strict=True):
                result.append(np.asarray(array)[:quality, : len(own)])
            progress.report(part.stop, len(patches))
        codes, errors, seen = (np.concatenate(result, axis=1) for result in results)
        return codes, errors, seen

    def _unpack(
        self, data: bytes, iterations: int | None, allow_truncated: bool
    ) -> tuple[_Model, Header, np.ndarray, np.ndarray]:
        """The bits that are wanted, bool `[K, n, bits]`, and how many stages of each patch, `[n]`."""
        header, chunks = unpack_iterations(
            data, iterations=iterations, allow_truncated=allow_truncated, limits=self._options.limits
        )
        name = codec_name(header.codec_id)
        if name != NAME:
            raise BadOption(f"the file was written by {name}, not {NAME}; jaxcodec.decode picks the codec")
        model = self._model(self._find(header.weights_hash))
        if model.weights.hash != header.weights_hash:
            raise WrongWeights(
                f"{model.weights.path} is damaged: its content does not have the hash in its name; "
                "get another copy of it"
            )
        if header.coder_id != RAW_BITS:
            raise UnknownCodec(f"{NAME} knows no coder number {header.coder_id} for its bits")
        if header.quality > model.config.stages:
            raise CorruptFile(
                f"the file has {header.quality} stages, the network {model.config.stages}; {_ANOTHER_COPY}"
            )
        return model, header, *_read_chunks(chunks, header, model.config)

    def _find(self, weights_hash: bytes) -> Path:
        installed = manifest.find(weights_hash)
        if installed is not None:
            return installed
        if self._model(self._path).weights.hash == weights_hash:
            return self._path
        raise WrongWeights(
            f"the file was written with weights {weights_hash.hex()}, which are not installed; "
            "give them with --weights FILE (weights=... in Python)"
        )

    def _model(self, path: Path) -> _Model:
        if path not in self._models:
            self._models[path] = _build(load_weights(path))
        return self._models[path]

    def _checked(self, options: TodericiOptions | None) -> TodericiOptions:
        if options is None:
            return self._options
        if not isinstance(options, TodericiOptions):
            raise BadOption(f"{NAME} takes TodericiOptions, not {type(options).__name__}")
        return options


def _grid(height: int, width: int, config: ThumbnailConfig) -> tuple[int, int]:
    return math.ceil(height / config.patch), math.ceil(width / config.patch)


def _join(patches: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[n, P, P, 3]` to `[H, W, 3]`."""
    side = patches.shape[1]
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    whole = patches.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(whole.reshape(rows * side, columns * side, 3)[:height, :width])


def _batches(patches: int, config: ThumbnailConfig) -> list[tuple[slice, int]]:
    """Parts of the patches, and the size of the batch that each is filled up to."""
    sizes = [max(1, count * THUMBNAIL**2 // config.patch**2) for count in _BATCHES]
    parts, start = [], 0
    while start < patches:
        size = next((size for size in sizes if size >= patches - start), sizes[-1])
        parts.append((slice(start, min(start + size, patches)), size))
        start += size
    return parts


def _pack_counts(counts: np.ndarray, config: ThumbnailConfig) -> bytes:
    digits = np.arange((config.stages - 1).bit_length())[::-1]
    return np.packbits(((counts[:, None] - 1) >> digits) & 1).tobytes()


def _read_chunks(
    chunks: Sequence[bytes], header: Header, config: ThumbnailConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Bits, bool `[K, n, bits]`, and stages of each patch, `[n]`; lengths are checked before bits are unpacked."""
    rows, columns = _grid(header.height, header.width, config)
    patches, digits = rows * columns, (config.stages - 1).bit_length()
    first, counted = chunks[0], math.ceil(patches * digits / 8)
    counts = np.full(patches, len(chunks)) if len(first) == math.ceil(patches * config.bits / 8) else None
    if counts is None:
        if len(first) != counted + math.ceil(patches * config.bits / 8):
            raise CorruptFile(
                f"{len(first)} bytes are not the first stage of {patches} patches; {_ANOTHER_COPY}"
            )
        weights = 1 << np.arange(digits)[::-1]
        stored = 1 + _unpack_bits(first[:counted], patches, digits) @ weights
        if stored.max() > config.stages:
            raise CorruptFile(
                f"a patch has {stored.max()} stages, the network {config.stages}; {_ANOTHER_COPY}"
            )
        counts, first = np.minimum(stored, len(chunks)), first[counted:]
    stages = [first, *chunks[1:]]
    active = [counts > stage for stage in range(len(stages))]
    for chunk, reached in zip(stages, active, strict=True):
        if not reached.any() or len(chunk) != math.ceil(np.count_nonzero(reached) * config.bits / 8):
            raise CorruptFile(
                f"{len(chunk)} bytes are not a stage of {np.count_nonzero(reached)} patches; {_ANOTHER_COPY}"
            )
    codes = np.zeros((len(stages), patches, config.bits), bool)
    for code, chunk, reached in zip(codes, stages, active, strict=True):
        code[reached] = _unpack_bits(chunk, int(reached.sum()), config.bits)
    return codes, counts


def _unpack_bits(data: bytes, rows: int, columns: int) -> np.ndarray:
    """Bool `[rows, columns]`."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(bool)
    if bits[rows * columns :].any():
        raise CorruptFile(f"bits follow the last one of a stage; {_ANOTHER_COPY}")
    return bits[: rows * columns].reshape(rows, columns)


def load_toderici2016(weights: Given = None) -> ThumbnailCodec:
    """The thumbnail codec, from the zoo or from a weight file of one's own."""
    return ThumbnailCodec(single_weight_file(NAME, weights))
