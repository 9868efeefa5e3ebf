"""Small pairs of networks for the tests of ComCNN + RecCNN: random ones, drawn by numpy, so nothing is compiled."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs.comcnn.codec import NAMES, ComCnnCodec
from jaxcodec.codecs.comcnn.export import export
from jaxcodec.codecs.comcnn.model import ComCNN, ComCnnConfig, RecCNN


def small_config(inner: str = "jpeg", **changes) -> ComCnnConfig:
    return ComCnnConfig(**{"inner": inner, "compact_channels": 4, "layers": 4, "channels": 4, **changes})


def random_params(config: ComCnnConfig, *, last: float = 0.05, seed: int = 0) -> dict:
    """Parameters whose last kernels have a deviation of `last`: 0 for networks that have learnt nothing."""
    x, c = jnp.zeros((1, 16, 16, 1)), jnp.zeros(1)
    modules = {"comcnn": ComCNN(config.compact_channels), "reccnn": RecCNN(config.reccnn)}
    rng = np.random.default_rng(seed)
    params = {}
    for name, module in modules.items():
        shapes = jax.eval_shape(partial(module.init, jax.random.key(0)), x, c)["params"]
        layers = {}
        for layer in sorted(shapes, key=lambda name: int(name.split("_")[1])):
            kernel = shapes[layer]["kernel"].shape
            deviation = last if layer == f"convolution_{len(shapes) - 1}" else np.prod(kernel[:3]) ** -0.5
            layers[layer] = {
                "kernel": rng.normal(0, deviation, kernel).astype(np.float32),
                "bias": np.zeros(kernel[3], np.float32),
            }
        params[name] = layers
    return params


def small_codec(folder: Path, inner: str = "jpeg", *, last: float = 0.05, **changes) -> ComCnnCodec:
    config = small_config(inner, **changes)
    path = export(folder, codec=NAMES[inner], config=config, params=random_params(config, last=last))
    return ComCnnCodec(path)


def restorer_weights(folder: Path, *, last: float = 0.02) -> Path:
    config = small_config(scaled=True)
    params = {"reccnn": random_params(config, last=last)["reccnn"]}
    return export(folder, codec="reccnn", config=config, params=params)
