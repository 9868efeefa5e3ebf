"""Parameters of small compressive autoencoders, and photos to begin them with."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from jaxcodec.codecs.theis2017.model import Autoencoder, AutoencoderConfig
from tests.codecs.golden_codecs import photo
from tests.parameters import random_like


def random_params(config: AutoencoderConfig, *, seed: int = 0, bias: float = 0.1) -> dict:
    """Parameters of `Autoencoder(config)` that keep the variance about; drawn by numpy, so nothing is compiled.

    All but the kernels have a deviation of `bias`: training begins with 0.
    """
    x, rate = jnp.zeros((1, 32, 32, 3)), jnp.zeros(1, jnp.int32)
    init = partial(Autoencoder(config).init, quantise=jnp.round, relax=jnp.round)
    return random_like(init, x, rate, seed=seed, bias=bias)


def kodak_crops(side: int, *, grey: bool = False) -> np.ndarray:
    """Uint8 `[6, side, side, 3]` from the middles of six pictures."""
    names = [f"kodim{i:02}.png" for i in (3, 5, 8, 13, 20, 23)]
    crops = np.stack([photo(side, side, name=name, top=120, left=150) for name in names])
    return np.repeat(crops[..., 1:2], 3, axis=3) if grey else crops
