"""ResNet-18 and ResNet-50 in torchvision's layout: classifiers to quantise, and to convert a user's weights for.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1. As torchvision has them: the
stride of a bottleneck is in its 3x3 convolution, padding is K // 2 on all sides (so strided layers are anchored at the
first pixel), batch norm has epsilon 1e-5, convolutions have no bias.

Inputs are `[B, H, W, 3]`, normalised by the caller: torchvision's weights want `(x - mean) / deviation` of pixels in
[0, 1] with mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

Depth = Literal[18, 50]

BLOCKS: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
"""Blocks of each of the four stages."""

WIDTHS = (64, 128, 256, 512)
CLASSES = 1000


def _convolution(features: int, kernel: int, stride: int, name: str) -> nn.Conv:
    side = kernel // 2
    return nn.Conv(
        features, (kernel, kernel), (stride, stride), [(side, side)] * 2, use_bias=False, name=name
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 (a bottleneck), and the input added.

    Attributes
    ----------
    width, stride
        Channels of the 3x3 convolutions, and the stride of the first of these.
    bottleneck
        Whether it is one; four times as many channels come out then.
    train
        Whether batch norm uses, and its running statistics follow, the batch.
    """

    width: int
    stride: int
    bottleneck: bool
    train: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x `[B, H, W, C]` to `[B, ceil(H/s), ceil(W/s), width or 4 width]`."""
        layers = [(3, self.stride, self.width), (3, 1, self.width)]
        if self.bottleneck:
            layers = [(1, 1, self.width), (3, self.stride, self.width), (1, 1, 4 * self.width)]
        h = x
        for i, (kernel, stride, features) in enumerate(layers, start=1):
            h = _convolution(features, kernel, stride, f"conv{i}")(h)
            h = _norm(self.train, f"bn{i}")(h)
            if i < len(layers):
                h = nn.relu(h)
        if h.shape != x.shape:
            x = _convolution(h.shape[-1], 1, self.stride, "downsample_0")(x)
            x = _norm(self.train, "downsample_1")(x)
        return nn.relu(h + x)


def _norm(train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)


class ResNet(nn.Module):
    """The classifier: `[B, H, W, 3]` to logits `[B, 1000]`; variables `params` and `batch_stats`.

    Attributes
    ----------
    depth
        18 or 50.
    train
        As in `ResidualBlock`.
    """

    depth: Depth = 18
    train: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Classify x, normalised."""
        h = nn.relu(_norm(self.train, "bn1")(_convolution(64, 7, 2, "conv1")(x)))
        h = nn.max_pool(h, (3, 3), (2, 2), [(1, 1), (1, 1)])
        for stage, (blocks, width) in enumerate(zip(BLOCKS[self.depth], WIDTHS, strict=True), start=1):
            for i in range(blocks):
                stride = 2 if stage > 1 and i == 0 else 1
                block = ResidualBlock(width, stride, self.depth == 50, self.train, name=f"layer{stage}_{i}")
                h = block(h)
        return nn.Dense(CLASSES, name="fc")(jnp.mean(h, axis=(1, 2)))


def from_torchvision(arrays: Mapping[str, np.ndarray], *, depth: Depth) -> dict[str, Any]:
    """Variables of `ResNet(depth)` from arrays with torchvision's names (`layer1.0.conv1.weight`, ...).

    Raises
    ------
    ValueError
        If a name or a shape is not as the network has it.
    """
    leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    flat: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        *parents, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        module = ".".join(parents).replace("downsample.", "downsample_")
        if parents[0].startswith("layer") and len(parents) > 1:
            module = f"{parents[0]}_{module.removeprefix(parents[0] + '.')}"
        path = module.replace(".", "/")
        collection = "batch_stats" if leaf.startswith("running") else "params"
        array = np.asarray(value, np.float32)
        if leaf == "weight":
            leaf = {4: "kernel", 2: "kernel", 1: "scale"}.get(array.ndim, "weight")
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T  # O I K K -> K K I O
        else:
            leaf = leaves.get(leaf, leaf)
        flat[f"{collection}/{path}/{leaf}"] = np.ascontiguousarray(array)
    expected = {
        "/".join(str(key.key) for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variable_shapes(depth))
    }
    for name in sorted(expected.keys() | flat.keys()):
        found = flat[name].shape if name in flat else None
        if found != expected.get(name):
            raise ValueError(f"{name} has shape {found}; ResNet-{depth} wants {expected.get(name)}")
    return unflatten_dict(flat, sep="/")


def variable_shapes(depth: Depth) -> dict[str, Any]:
    """Shapes and types of all variables; nothing is computed."""
    shapes: Any = jax.eval_shape(ResNet(depth).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    return shapes
