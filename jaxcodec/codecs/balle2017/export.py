"""From trained parameters to a weight file: float16 parameters, and the integer tables that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.coding.tables import CodingTables, quantize_probabilities
from jaxcodec.entropy import deep_factorized, piecewise_linear
from jaxcodec.zoo.weights import round_params, save_weights


def coding_tables(params: Mapping[str, Any], config: TransformConfig) -> CodingTables:
    """Integer tables of the trained prior: one per latent channel, an escape for what lies outside.

    Tables are made once, here; a decoder reads them and never computes a probability.
    """
    prior = params["prior"]
    if config.prior == "deep_factorized":
        channels = deep_factorized.integer_probabilities(prior, filters=TransformCoder.PRIOR_FILTERS)
    else:
        channels = piecewise_linear.integer_probabilities(
            prior["logits"], reach=piecewise_linear.REACH, samples_per_unit=piecewise_linear.SAMPLES_PER_UNIT
        )
    counts = tuple(quantize_probabilities(probabilities, tail) for _, probabilities, tail in channels)
    return CodingTables(counts, np.array([first for first, _, _ in channels], np.int32))


def export(
    folder: Path, *, codec: str, quality: int, config: TransformConfig, params: Mapping[str, Any]
) -> Path:
    """Write the weight file of a trained network and return its path.

    Parameters
    ----------
    folder
        Gets `<codec>-<hash8>.safetensors`.
    codec, quality
        `balle2017` or `bmshj2018`, and the quality the file is to serve.
    config, params
        The network and its float32 parameters.
    """
    rounded = round_params(params)
    tables = coding_tables(rounded, config)
    return save_weights(
        folder,
        codec=codec,
        quality=quality,
        config=config.to_dict(),
        params=rounded,
        tables=tables.to_arrays(),
    )
