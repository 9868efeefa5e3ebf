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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs import progress
from jaxcodec.codecs.base import OneByOne, unpack_iterations
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality, check_writer
from jaxcodec.codecs.models import Models, describing
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
from jaxcodec.codecs.toderici2016.patches import (
    cut_patches,
    join_patches,
    pack_counts,
    patch_grid,
    read_chunks,
)
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import DEFAULT_LIMITS, Header, Limits, pack
from jaxcodec.errors import BadImage, BadOption, CorruptFile, UnknownCodec
from jaxcodec.ops.binarise import sign_binarise
from jaxcodec.zoo.choose import Given, single_weight_file
from jaxcodec.zoo.weights import Weights

NAME = "toderici2016"
THUMBNAIL = 32
"""Pixels per side of a thumbnail."""

RAW_BITS = 0
"""The coder's number in a file that has none."""

_BATCHES = (1, 8, 64)
"""Sizes of the batches that the networks are compiled for, in thumbnails; the last one is filled up."""


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
    with describing(weights, NAME):
        config = ThumbnailConfig(**weights.config)
        wanted = jax.eval_shape(partial(init, config), jax.random.key(0))
        if jax.tree.map(jnp.shape, wanted) != jax.tree.map(np.shape, weights.params):
            raise ValueError("its parameters are not those of its configuration")
    return _Model(weights, config, jax.device_put(weights.params))


class ThumbnailCodec(OneByOne):
    """The codec `toderici2016`: `ProgressiveCodec` of `jaxcodec.codecs.base`; quality is the number of stages.

    A file decodes to the same picture, to one 8-bit level, whatever it is decoded together with and wherever: the
    bits are exact, the network runs in float32. `encode_batch` makes a file of each picture; thumbnails rather go into
    one (`encode_thumbnails`).

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
        self.path = path
        self._options = options or TodericiOptions()
        self._models = Models([path], _build)

    @property
    def config(self) -> ThumbnailConfig:
        """The network that it encodes with."""
        return self._models.first.config

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
        options = check_options(options, self, self._options)
        if quality is None and options.target_psnr is not None:
            quality = self.qualities[-1]
        quality = check_whole_quality(quality, self)
        model = self._models.first
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
            chunks[0] = pack_counts(counts, model.config) + chunks[0]
        return pack(header, chunks)

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
        picture = join_patches(patches, header.height, header.width)
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
        model = self._models.first
        patches = self._patches(model, image, self._options)
        _, _, seen = self._run_encoder(model, patches, quality, pictures=True)
        return np.stack([join_patches(stage, *image.shape[:2]) for stage in seen])

    def stage_counts(self, data: bytes) -> np.ndarray:
        """How many stages each patch has in a file, `[rows, columns]` of patches."""
        model, header, _, counts = self._unpack(data, None, False)
        return counts.reshape(patch_grid(header.height, header.width, model.config))

    def _patches(self, model: _Model, image: np.ndarray, options: TodericiOptions) -> np.ndarray:
        """uint8 `[H, W, 3]` or `[H, W]` to `[n, P, P, 3]`."""
        check_image(image, options.limits)
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        return cut_patches(colour, model.config)

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
        check_writer(header, NAME)
        model = self._models.of_hash(header.weights_hash)
        if header.coder_id != RAW_BITS:
            raise UnknownCodec(f"{NAME} knows no coder number {header.coder_id} for its bits")
        if header.quality > model.config.stages:
            raise CorruptFile(
                f"the file has {header.quality} stages, the network {model.config.stages}; "
                "get another copy of the file"
            )
        return model, header, *read_chunks(chunks, header, model.config)


def _batches(patches: int, config: ThumbnailConfig) -> list[tuple[slice, int]]:
    """Parts of the patches, and the size of the batch that each is filled up to."""
    sizes = [max(1, count * THUMBNAIL**2 // config.patch**2) for count in _BATCHES]
    parts, start = [], 0
    while start < patches:
        size = next((size for size in sizes if size >= patches - start), sizes[-1])
        parts.append((slice(start, min(start + size, patches)), size))
        start += size
    return parts


def load_toderici2016(weights: Given = None) -> ThumbnailCodec:
    """The thumbnail codec, from the zoo or from a weight file of one's own."""
    return ThumbnailCodec(single_weight_file(NAME, weights))
