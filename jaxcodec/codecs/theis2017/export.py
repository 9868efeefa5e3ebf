"""From trained parameters to a weight file: float16 parameters, and a ladder of interpolated scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxcodec.codecs.ladders import LadderConfig, absolute_quality, make_ladder
from jaxcodec.codecs.theis2017.codec import AutoencoderCodec
from jaxcodec.codecs.theis2017.model import STRIDE, AutoencoderConfig
from jaxcodec.zoo.weights import Weights, round_params, save_weights


def interpolated_steps(log_scales: np.ndarray, position: float) -> np.ndarray:
    """Steps `[C]` at a position of 0..R-1 between the rates: `1 / scale`, the logarithms interpolated.

    Theis et al. (2017), section 2.3: rates between those trained for have scales in between.
    """
    below = min(int(position), max(0, len(log_scales) - 2))
    above = min(below + 1, len(log_scales) - 1)
    share = position - below
    return np.exp(-((1.0 - share) * log_scales[below] + share * log_scales[above]))


def export(
    folder: Path,
    *,
    config: AutoencoderConfig,
    params: Mapping[str, Any],
    crops: Sequence[np.ndarray],
    ladder: LadderConfig,
) -> tuple[Path, list[float]]:
    """Write the weight file of a trained network; return its path and the qualities that it serves.

    Parameters
    ----------
    folder
        Gets `theis2017-<hash8>.safetensors`.
    config, params
        The network and its float32 parameters. Coding needs neither scales nor mixtures, which are in the ladder
        and its histograms; they are kept for training that goes on from the file. Latents that incremental
        training did not enable are zero, as it left them.
    crops
        uint8 `[h, w, 3]` of training photos, some hundred, from which the tables are made.
    ladder
        Spacing and classes.
    """
    parts = {part: params[part] for part in ("analysis", "synthesis", "prior", "log_scales")}
    if "enabled" in params:
        parts["analysis"] = _masked(params["analysis"], float(params["enabled"]))
    rounded = round_params(parts)
    weights = Weights("theis2017", 0, config.to_dict(), rounded, {}, b"", Path())
    coder = AutoencoderCodec("theis2017", [])
    latents = coder.analyse(coder.build(weights), crops)
    log_scales = np.asarray(params["log_scales"], np.float64)
    rates = len(log_scales)
    made = make_ladder(
        latents,
        partial(interpolated_steps, log_scales),
        np.linspace(0.0, rates - 1.0, max(1, 2 * rates - 1)).tolist(),
        quality_of=absolute_quality,
        pixels_per_position=STRIDE**2,
        config=ladder,
    )
    path = save_weights(
        folder,
        codec="theis2017",
        quality=0,
        config=config.to_dict(),
        params=rounded,
        tables=made.to_arrays(),
    )
    return path, [int(quality) / 100 for quality in made.qualities]


def _masked(analysis: Mapping[str, Any], enabled: float) -> dict[str, Any]:
    last = analysis["convolution_2"]
    mask = np.arange(len(last["bias"])) < enabled
    return {**analysis, "convolution_2": {name: value * mask for name, value in last.items()}}
