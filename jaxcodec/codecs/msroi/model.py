"""The multi-structure region-of-interest network of Prakash et al., DCC 2017, on a small pretrained trunk.

Trunk (EfficientNet-Lite0 to stride 16 in place of VGG-16) -> 3x3 to 32 channels -> depthwise 3x3 with several
filters per channel -> 1x1 -> global average pooling -> linear without bias. Without a bias the pooling and the last
layer commute, so the network returns one map per class, and the logits are their means. The authors' head is linear
throughout; here rectifiers may follow the first two layers.

Unlike class activation maps (Zhou et al., CVPR 2016), which show the likeliest class only, a region of any of the
likely classes counts: `combine` has the rules.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcodec.layers.efficientnet_lite import DepthwiseConvolution, EfficientNetLite0

STRIDE = 16
"""Pixels per sample of the class maps, in both directions."""

Rule = Literal["mixture", "threshold", "softmax", "argmax"]
RULES: tuple[Rule, ...] = ("mixture", "threshold", "softmax", "argmax")
TOP = 5
"""Classes in the mixture."""

THRESHOLD = 0.5
"""For the rule `threshold`: classes count whose logit is at least this share of the largest."""


@dataclass(frozen=True)
class RegionConfig:
    """What determines the network; stored with the weights.

    Attributes
    ----------
    classes
        Of the training labels.
    clutter
        The class of pictures without an object, which no map shows; None if there is none.
    bottleneck, multiplier, features
        Channels after the first convolution, filters per channel of the second, channels after the third.
    rectified
        Whether the first two are followed by ReLU.
    """

    classes: int = 102
    clutter: int | None = None
    bottleneck: int = 32
    multiplier: int = 16
    features: int = 512
    rectified: bool = True

    def __post_init__(self) -> None:
        if min(self.classes, self.bottleneck, self.multiplier, self.features) < 1:
            raise ValueError("classes, bottleneck, multiplier and features must be at least 1")
        if self.clutter is not None and not 0 <= self.clutter < self.classes:
            raise ValueError(f"clutter {self.clutter} is none of the {self.classes} classes")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)


class RegionHead(nn.Module):
    """Features `[B, h, w, C]` of the trunk to class maps `[B, h, w, classes]`, whose means are the logits."""

    config: RegionConfig

    @nn.compact
    def __call__(
        self, features: jax.Array, *, pool_early: bool = False, keep: jax.Array | None = None
    ) -> jax.Array:
        """Run the head.

        Parameters
        ----------
        features
            `[B, h, w, C]`.
        pool_early
            Pool before the last two layers, which are linear and see one place each: `[B, 1, 1, classes]` comes
            out, with the same mean, at a fraction of the cost.
        keep
            In training: `[B, features]`, dropout's factors on the channels before the last layer, mean 1.
        """
        h = nn.Conv(self.config.bottleneck, (3, 3), name="bottleneck")(features)
        h = nn.relu(h) if self.config.rectified else h
        h = DepthwiseConvolution(3, multiplier=self.config.multiplier, name="depthwise")(h)
        h = nn.relu(h) if self.config.rectified else h
        h = jnp.mean(h, axis=(1, 2), keepdims=True) if pool_early else h
        h = nn.Conv(self.config.features, (1, 1), name="convolution")(h)
        if keep is not None:
            h = h * keep[:, None, None, :]
        return nn.Dense(self.config.classes, use_bias=False, name="classifier")(h)


class RegionNetwork(nn.Module):
    """Pixels `[B, H, W, 3]` in [0, 255] to class maps `[B, ceil(H/16), ceil(W/16), classes]`."""

    config: RegionConfig

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Run the trunk and the head on pixels of any size."""
        features = EfficientNetLite0("stride16", name="trunk")(pixels)
        return RegionHead(self.config, name="head")(features)


def combine(
    maps: np.ndarray,
    *,
    rule: Rule = "mixture",
    clutter: int | None = None,
    top: int = TOP,
    threshold: float = THRESHOLD,
    logits: np.ndarray | None = None,
) -> np.ndarray:
    """Return one saliency map of the class maps of a picture.

    Parameters
    ----------
    maps
        `[h, w, classes]`.
    rule
        `mixture`: the best `top` classes, each map scaled to [0, 1]; the map begins as 1.2 times the last of
        them, and each better one is averaged in, so that the best weighs 1/2, the next 1/4, ... (the authors'
        code). `threshold`: the sum of the maps of all classes whose logit is high enough (the paper's text).
        `softmax`: scaled maps, weighted by the classes' probabilities. `argmax`: the best class alone, which
        is the class activation map.
    clutter
        A class to leave out.
    top, threshold
        As above; `threshold` is a share of the largest logit.
    logits
        `[classes]`, where they are not the means of the maps.

    Returns
    -------
    np.ndarray
        `[h, w]` float32 in [0, 1], its least value 0 and its largest 1; all 0 where it would be constant.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(RULES)}")
    maps = np.asarray(maps, np.float32)
    scores = maps.mean((0, 1)) if logits is None else np.array(logits, np.float32)
    if clutter is not None:
        scores = scores.copy()
        scores[clutter] = -np.inf
    order = np.argsort(-scores)
    best = order[: min(top, int(np.isfinite(scores).sum()))]
    if rule == "argmax":
        return normalise(maps[..., best[0]])
    if rule == "mixture":
        mixed = 1.2 * normalise(maps[..., best[-1]])
        for c in best[-2::-1]:
            mixed = (mixed + normalise(maps[..., c])) / 2.0
        return normalise(mixed)
    if rule == "threshold":
        chosen = scores >= threshold * scores[best[0]]
        chosen[best[0]] = True
        return normalise(maps[..., chosen].sum(-1))
    probabilities = np.exp(scores - scores[best[0]])
    probabilities /= probabilities.sum()
    # Beyond the best few the weights are nothing but cost.
    return normalise(np.sum([probabilities[c] * normalise(maps[..., c]) for c in best], axis=0))


def normalise(values: np.ndarray) -> np.ndarray:
    """Return values shifted and scaled to the whole of [0, 1], float32; all 0 if they are constant."""
    values = np.asarray(values, np.float32)
    low, high = float(values.min()), float(values.max())
    return np.zeros_like(values) if high - low < 1e-12 else np.clip((values - low) / (high - low), 0.0, 1.0)


def logits_of(maps: jax.Array) -> jax.Array:
    """Return the logits `[B, classes]` of class maps `[B, h, w, classes]`: their means."""
    return jnp.mean(maps, axis=(1, 2))
