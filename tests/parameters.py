"""Parameters for networks under test."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def random_like(init: Callable[..., Any], *inputs: Any, seed: int = 0, bias: float = 0.1) -> Any:
    """Parameters of the shapes that `init(key, *inputs)` gives, which keep the variance of what goes through about.

    All but the kernels `[K, K, I, O]` have a deviation of `bias`. Drawn by numpy: compiling the initialisers of
    a large network takes half a minute.
    """
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        deviation = np.prod(leaf.shape[:-1]) ** -0.5 if len(leaf.shape) == 4 else bias
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)
