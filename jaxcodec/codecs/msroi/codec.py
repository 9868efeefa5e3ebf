"""Pictures to plain JPEG files whose bytes go where a network, or the user, says it matters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxcodec.codecs import classical
from jaxcodec.codecs.base import OneByOne
from jaxcodec.codecs.checks import check_image, check_options, check_whole_quality
from jaxcodec.codecs.models import Models, describing
from jaxcodec.codecs.msroi.jpeg import Encoded, encode_coefficients, encode_composite, resize_map
from jaxcodec.codecs.msroi.model import RULES, STRIDE, RegionConfig, RegionNetwork, Rule, combine
from jaxcodec.errors import BadImage, BadOption
from jaxcodec.zoo.choose import Given, single_weight_file
from jaxcodec.zoo.weights import Weights

NAME = "msroi"
Mode = Literal["coefficients", "composite"]

LARGEST_SIDE = 256
"""Larger pictures are reduced to this before the network sees them: it knows whole objects, of the size that they had
in its training, and not their texture. (AUC against fixations on 40 photos: 0.69 at 192 to 256, 0.63 at 480.)"""

_WINDOW = 128
"""Pictures are padded to multiples of this, so that few sizes need to be compiled."""

_CENTRE_SPREAD = 0.25
"""Standard deviation of the centre prior, as a share of width and height."""


@dataclass(frozen=True, eq=False)
class MsRoiOptions:
    """Options of `msroi`; a decoder needs to know none of them.

    Attributes
    ----------
    mask
        What matters, in place of the network's map: uint8 or float in [0, 1], `[h, w]` of any size, stretched over
        the picture. White, or 1, matters.
    mode
        `coefficients` (one generation of loss; needs jpeglib) or `composite` (as in the paper).
    rule
        How class maps become one map: `mixture`, `threshold`, `softmax` or `argmax` (`model.combine`).
    background
        The weight of an error where the map is 0, within (0, 1]; 1 gives plain JPEG. It is the trade between the
        regions that matter and the rest.
    centre
        The share of a Gaussian around the middle that is mixed with the network's map, within [0, 1]; a mask is
        taken as it is. People look there, whatever is in the picture, and the mixture follows their eyes better than
        the network alone (results/msroi.txt).
    levels
        For `composite`: the qualities that are pasted together, ascending, for equal parts of the map's range;
        None tries two ladders from below the reference's quality to 100.
    subsampling
        Of the chroma, in the file and in its reference.
    """

    mask: np.ndarray | None = None
    mode: Mode = "coefficients"
    rule: Rule = "mixture"
    background: float = 0.1
    centre: float = 0.5
    levels: tuple[int, ...] | None = None
    subsampling: classical.Subsampling = "4:2:0"

    def __post_init__(self) -> None:
        if self.mode not in ("coefficients", "composite"):
            raise BadOption(f"mode {self.mode!r} is neither coefficients nor composite")
        if self.rule not in RULES:
            raise BadOption(f"rule {self.rule!r} is not one of {', '.join(RULES)}")
        if not 0.0 < self.background <= 1.0:
            raise BadOption(f"background={self.background} must be above 0 and at most 1")
        if not 0.0 <= self.centre <= 1.0:
            raise BadOption(f"centre={self.centre} must be within 0 and 1")
        if self.levels is not None and (
            not self.levels or any(not 1 <= level <= 100 for level in self.levels)
        ):
            raise BadOption(f"levels {self.levels} must be qualities of JPEG, 1..100")
        if self.subsampling not in ("4:2:0", "4:2:2", "4:4:4"):
            raise BadOption(f"subsampling {self.subsampling!r} is not one of 4:2:0, 4:2:2, 4:4:4")
        if self.mask is not None:
            check_mask(self.mask)


def check_mask(mask: np.ndarray) -> np.ndarray:
    """Return a mask as a map, float32 `[h, w]` in [0, 1].

    Raises
    ------
    BadImage
        If it is not `[h, w]`, uint8 or float in [0, 1], with at least one sample.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0 or not (array.dtype == np.uint8 or array.dtype.kind in "bf"):
        raise BadImage(
            f"a mask must be [h, w], uint8 or float in [0, 1], got {array.dtype} {list(array.shape)}"
        )
    values = array.astype(np.float32) / (255.0 if array.dtype == np.uint8 else 1.0)
    if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
        raise BadImage("a mask of floats must lie within 0 and 1; divide it by its largest value")
    return values


@partial(jax.jit, static_argnames="config")
def _class_maps(params: Any, pixels: jax.Array, *, config: RegionConfig) -> jax.Array:
    """Uint8 `[B, H, W, 3]` to class maps `[B, H/16, W/16, classes]`."""
    with jax.default_matmul_precision("float32"):
        maps: Any = RegionNetwork(config).apply({"params": params}, pixels)
    return maps


@dataclass(frozen=True)
class _Model:
    config: RegionConfig
    params: Any


def _build(weights: Weights) -> _Model:
    with describing(weights, NAME):
        params = {"trunk": weights.params["trunk"], "head": weights.params["head"]}
        return _Model(RegionConfig(**weights.config), jax.device_put(params))


class MsRoiCodec(OneByOne):
    """The codec `msroi`: `Codec` of `jaxcodec.codecs.base`.

    `quality` is that of the plain JPEG, by the codec `jpeg`, whose size no file exceeds. Files are plain JPEGs and
    decode as such; neither map nor weights are needed. The weights are read when first needed, which a mask spares.

    Parameters
    ----------
    path
        The weight file.
    options
        Used where `encode` gets none.
    """

    name = NAME
    extension = ".jpg"
    qualities = classical.QUALITIES
    default_quality = 75
    ladder = classical.LADDER

    def __init__(self, path: Path, *, options: MsRoiOptions | None = None) -> None:
        self.path = path
        self._options = options or MsRoiOptions()
        self._models = Models([path], _build)

    @property
    def config(self) -> RegionConfig:
        """The network's configuration."""
        return self._models.first.config

    def with_options(self, options: MsRoiOptions) -> MsRoiCodec:
        """Return the codec with other options of its own."""
        return MsRoiCodec(self.path, options=options)

    def encode(
        self, image: np.ndarray, *, quality: float | None = None, options: MsRoiOptions | None = None
    ) -> bytes:
        """Code one picture, uint8 `[H, W, 3]` or `[H, W]`, to a plain baseline JPEG.

        Raises
        ------
        BadImage, BadOption, TooLarge
            If the picture, the quality or an option is not one the codec takes.
        MissingDependency
            In the mode `coefficients`, if jpeglib is not installed.
        WrongWeights
            If the weights are needed and are not this codec's.
        """
        return self.encode_details(image, quality=quality, options=options).data

    def encode_details(
        self, image: np.ndarray, *, quality: float | None = None, options: MsRoiOptions | None = None
    ) -> Encoded:
        """Code one picture as `encode` does, and say how."""
        array, whole = check_image(image), check_whole_quality(quality, self)
        options = check_options(options, self, self._options)
        saliency = self.saliency(array, options=options)
        if options.mode == "coefficients":
            return encode_coefficients(
                array,
                saliency,
                quality=whole,
                background=options.background,
                subsampling=options.subsampling,
            )
        return encode_composite(
            array,
            saliency,
            quality=whole,
            background=options.background,
            levels=options.levels,
            subsampling=options.subsampling,
        )

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a JPEG file, as the codec `jpeg` does."""
        return classical.jpeg().decode(data)

    def saliency(self, image: np.ndarray, *, options: MsRoiOptions | None = None) -> np.ndarray:
        """Return what matters of a picture, float32 `[ceil(H/16), ceil(W/16)]` in [0, 1].

        That is the mask of the options, resampled, or else the network's map.
        """
        array, options = check_image(image), check_options(options, self, self._options)
        rows, columns = -(-array.shape[0] // STRIDE), -(-array.shape[1] // STRIDE)
        if options.mask is not None:
            return np.clip(resize_map(check_mask(options.mask), rows, columns), 0.0, 1.0)
        maps = self.class_maps(array)
        found = combine(maps, rule=options.rule, clutter=self.config.clutter)
        if found.shape != (rows, columns):
            found = np.clip(resize_map(found, rows, columns), 0.0, 1.0)
        if options.centre > 0.0:
            prior = centre_prior(rows, columns)
            found = ((1.0 - options.centre) * found + options.centre * prior).astype(np.float32)
        return found

    def class_maps(self, image: np.ndarray) -> np.ndarray:
        """Return a map of each class, float32 `[h, w, classes]`, whose means are the logits.

        h and w are the sides over 16, rounded up, of the picture as the network sees it: of at most `LARGEST_SIDE`.
        """
        array, model = check_image(image), self._models.first
        picture = Image.fromarray(array).convert("RGB")
        if max(picture.size) > LARGEST_SIDE:
            scale = LARGEST_SIDE / max(picture.size)
            size = tuple(max(1, round(side * scale)) for side in picture.size)
            picture = picture.resize((size[0], size[1]), Image.Resampling.BOX)
        width, height = picture.size
        # The network's own padding is grey; a sudden grey right behind the picture's end would be an edge.
        padding = ((0, -height % _WINDOW), (0, -width % _WINDOW), (0, 0))
        pixels = np.pad(np.asarray(picture), padding, mode="edge")
        maps = np.asarray(_class_maps(model.params, jnp.asarray(pixels[None]), config=model.config))[0]
        return maps[: -(-height // STRIDE), : -(-width // STRIDE)]


def centre_prior(rows: int, columns: int) -> np.ndarray:
    """Return a Gaussian around the middle, float32 `[rows, columns]` in (0, 1]."""
    y = ((np.arange(rows) + 0.5) / rows - 0.5) / _CENTRE_SPREAD
    x = ((np.arange(columns) + 0.5) / columns - 0.5) / _CENTRE_SPREAD
    return np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)).astype(np.float32)


def load_msroi(weights: Given = None) -> MsRoiCodec:
    """The codec `msroi`, from the zoo or from a weight file of one's own."""
    return MsRoiCodec(single_weight_file(NAME, weights))
