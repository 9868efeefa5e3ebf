"""The layers of a network in the order in which they run, and the Gram matrices of what enters them.

A network is any function `apply(params, batch)` that runs Flax modules; what enters its layers is seen by
`flax.linen.intercept_methods`, so nothing has to be changed in it. Known are `nn.Conv` (strides, dilation, groups that
are 1 or all channels), `nn.Dense`, and our own `Convolution`, `TransposedConvolution` and `DepthwiseConvolution`.
A layer that runs several times is seen each time; one inside a scan cannot be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcodec.layers.convolution import Convolution, TransposedConvolution
from jaxcodec.layers.efficientnet_lite import DepthwiseConvolution, same_padding

Apply = Callable[[Any, Any], Any]
"""`apply(params, batch)`, params a nested dictionary."""

_LARGEST_PATCHES = 2**22
"""Elements of X that one call of a layer contributes at most, about; channels are drawn at random beyond."""

_KINDS = (nn.Conv, nn.Dense, Convolution, TransposedConvolution, DepthwiseConvolution)


@dataclass(frozen=True)
class Layer:
    """A layer that can be quantised.

    Attributes
    ----------
    name
        Of its kernel among the parameters, `a/b/kernel`.
    kind
        Its module's class: `Conv`, `Dense`, `Convolution`, `TransposedConvolution`, `DepthwiseConvolution`.
    shape
        Of the kernel, `[*K, I, O]`.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


def find_layers(apply: Apply, params: Mapping[str, Any], batch: Any) -> list[Layer]:
    """The layers that `apply(params, batch)` runs, in order of their first run; nothing is computed."""
    found: dict[str, Layer] = {}

    def see(module: nn.Module, _: jax.Array) -> None:
        name = _name(module)
        if name not in found:
            shape = _leaf(params, name).shape
            found[name] = Layer(name, type(module).__name__, tuple(shape))

    jax.eval_shape(lambda p, x: _watched(apply, p, x, see), params, batch)
    return list(found.values())


def gram_matrices(
    apply: Apply,
    params: Mapping[str, Any],
    batch: Any,
    blocks: Mapping[str, int],
    *,
    key: jax.Array,
    factors: Mapping[str, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """`X^T X / rows` of layers, float32 `[d, d]` by kernel name; traceable.

    The rows of X are what the blocks of a kernel are multiplied by: of all positions of all pictures, and of all
    blocks of an output (or of a random part of them, where that would take too much memory).

    Parameters
    ----------
    apply, params, batch
        The network and what it sees.
    blocks
        d of each kernel that is wanted.
    key
        Of the random parts.
    factors
        What the inputs of some layers are multiplied by first, `[I]`.
    """
    sums: dict[str, tuple[jax.Array, int]] = {}

    def see(module: nn.Module, x: jax.Array) -> None:
        name = _name(module)
        if name in blocks:
            draw = jax.random.fold_in(key, list(blocks).index(name))
            if factors and name in factors:
                x = x * factors[name].reshape((1,) * (x.ndim - 1) + (-1,))
            rows = block_inputs(module, x, blocks[name], key=draw)
            total, count = sums.get(name, (jnp.zeros((), jnp.float32), 0))
            product = jnp.matmul(rows.T, rows, precision=jax.lax.Precision.HIGHEST)
            sums[name] = (total + product, count + rows.shape[0])

    _watched(apply, params, batch, see)
    missing = set(blocks) - set(sums)
    if missing:
        raise ValueError(f"the network does not run {', '.join(sorted(missing))}")
    return {name: total / count for name, (total, count) in sums.items()}


def input_strengths(
    apply: Apply, params: Mapping[str, Any], batch: Any, names: Sequence[str]
) -> dict[str, jax.Array]:
    """Root mean square of each input channel of layers, `[I]` by kernel name; traceable."""
    squares: dict[str, list[jax.Array]] = {}

    def see(module: nn.Module, x: jax.Array) -> None:
        if _name(module) in names:
            mean = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=tuple(range(x.ndim - 1)))
            squares.setdefault(_name(module), []).append(mean)

    _watched(apply, params, batch, see)
    return {name: jnp.sqrt(sum(values[1:], values[0]) / len(values)) for name, values in squares.items()}


def output_importance(
    loss: Callable[[Any, Any], jax.Array], params: Mapping[str, Any], batch: Any, names: Sequence[str]
) -> dict[str, jax.Array]:
    """Root mean square of a loss's gradient along each output channel of layers, `[O]` by kernel name.

    `loss(params, batch)` is a scalar. To know what small errors e of a layer do to the network's output z, let it be a
    random projection: the mean squared gradient of `u . z`, u white noise, is `|dz/de|^2` (Hutchinson's estimate of the
    diagonal of Gauss and Newton's matrix). A trained loss will not do: its gradient is small wherever it is at rest.
    """
    shapes: list[tuple[str, Any]] = []

    def run(deltas: list[jax.Array] | None, params: Any, batch: Any) -> jax.Array:
        seen = 0

        def interceptor(next_function: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            nonlocal seen
            y = next_function(*args, **kwargs)
            wanted = context.method_name == "__call__" and isinstance(context.module, _KINDS)
            if wanted and _name(context.module) in names:
                if deltas is None:
                    shapes.append((_name(context.module), y))
                else:
                    y = y + deltas[seen]
                    seen += 1
            return y

        with nn.intercept_methods(interceptor):
            return loss(params, batch)

    jax.eval_shape(lambda params, batch: run(None, params, batch), params, batch)
    zeros = [jnp.zeros(y.shape, y.dtype) for _, y in shapes]
    gradients = jax.jit(jax.grad(run))(zeros, params, batch)
    squares: dict[str, jax.Array] = {}
    for (name, _), gradient in zip(shapes, gradients, strict=True):
        squares[name] = squares.get(name, 0.0) + jnp.sum(
            jnp.square(gradient), axis=tuple(range(gradient.ndim - 1))
        )
    return {name: jnp.sqrt(value) for name, value in squares.items()}


def block_inputs(module: nn.Module, x: jax.Array, block: int, *, key: jax.Array) -> jax.Array:
    """X: what the blocks of a layer's kernel meet when it sees x, float32 `[rows, block]`.

    In the order of `jaxcodec.pq.layouts`, so that `X @ to_blocks(kernel).T` has the terms of the layer's sums.
    """
    x = x.astype(jnp.float32)
    if isinstance(module, nn.Dense):
        return _thinned(x.reshape(-1, block), key)
    kernel, strides, padding, dilation, upsampling = _geometry(module, x)
    area = math.prod(kernel)
    # Channels that blocks reach across; each such group is a map of its own.
    group = (
        1
        if isinstance(module, DepthwiseConvolution) or _groups(module) > 1
        else math.lcm(block, area) // area
    )
    B, H, W, C = x.shape
    maps = x.reshape(B, H, W, C // group, group).transpose(0, 3, 1, 2, 4).reshape(-1, H, W, group)
    outputs = H * W * upsampling**2 // math.prod(strides)
    wanted = max(1, _LARGEST_PATCHES // max(1, outputs * group * area))
    if wanted < maps.shape[0]:
        maps = jnp.take(maps, jax.random.permutation(key, maps.shape[0])[:wanted], axis=0)
    if area == 1:
        rows = maps[:, :: strides[0], :: strides[1]]
    else:
        rows = jax.lax.conv_general_dilated_patches(
            maps,
            kernel,
            strides,
            padding,
            lhs_dilation=(upsampling, upsampling),
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        if isinstance(module, TransposedConvolution):
            # The kernel is laid down from each input sample, so an output meets it mirrored.
            shape = rows.shape
            rows = rows.reshape(*shape[:3], group, *kernel)[..., ::-1, ::-1].reshape(shape)
    return rows.reshape(-1, block)


def _geometry(
    module: nn.Module, x: jax.Array
) -> tuple[tuple[int, int], tuple[int, int], Any, tuple[int, int], int]:
    """Kernel size, strides, padding, dilation, and zeros inserted (as a factor) of a convolution."""
    if isinstance(module, nn.Conv):
        kernel, strides, dilation = (
            _pair(value) for value in (module.kernel_size, module.strides, module.kernel_dilation)
        )
        padding = module.padding
        if isinstance(padding, int):
            padding = [(padding, padding)] * 2
        elif not isinstance(padding, str):
            padding = [(side, side) if isinstance(side, int) else tuple(side) for side in padding]
        return kernel, strides, padding, dilation, 1
    assert isinstance(module, Convolution | TransposedConvolution | DepthwiseConvolution)
    K, s = module.kernel_size, module.stride
    if isinstance(module, TransposedConvolution):
        return (K, K), (1, 1), [(K // 2, K // 2 + s - 1)] * 2, (1, 1), s
    if isinstance(module, DepthwiseConvolution):
        return (K, K), (s, s), [same_padding(side, K, s) for side in x.shape[1:3]], (1, 1), 1
    p = K // 2 if module.padding == "same" else 0
    return (K, K), (s, s), [(p, p)] * 2, (1, 1), 1


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    if value is None or isinstance(value, int):
        return (value or 1, value or 1)
    pair = tuple(value)
    if len(pair) != 2:
        raise ValueError(f"only convolutions over two axes can be quantised, not with {pair}")
    return pair[0], pair[1]


def _groups(module: nn.Module) -> int:
    return module.feature_group_count if isinstance(module, nn.Conv) else 1


def _thinned(rows: jax.Array, key: jax.Array) -> jax.Array:
    most = max(1, _LARGEST_PATCHES // rows.shape[1])
    return (
        rows
        if rows.shape[0] <= most
        else jnp.take(rows, jax.random.permutation(key, rows.shape[0])[:most], axis=0)
    )


def _watched(apply: Apply, params: Any, batch: Any, see: Callable[[nn.Module, jax.Array], None]) -> Any:
    def interceptor(next_function: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, _KINDS):
            see(context.module, args[0])
        return next_function(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        return apply(params, batch)


def _name(module: nn.Module) -> str:
    return "/".join([*module.path, "kernel"])


def _leaf(tree: Any, name: str) -> Any:
    for part in name.split("/"):
        tree = tree[part]
    return tree
