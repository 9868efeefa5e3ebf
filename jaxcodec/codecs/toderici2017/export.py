"""From trained parameters to a weight file: float16 parameters and, once trained, the entropy coder's integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcodec.codecs.toderici2017.model import RecurrentConfig
from jaxcodec.zoo.weights import round_params, save_weights


def export(
    folder: Path,
    *,
    config: RecurrentConfig,
    params: Mapping[str, Any],
    coder: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write the weight file of a trained network, which serves all qualities, and return its path.

    Parameters
    ----------
    folder
        Gets `toderici2017-<hash8>.safetensors`.
    config, params
        The network and its float32 parameters.
    coder
        Integer arrays of a BinaryRNN that was trained on the codes of these very parameters, rounded; without
        them the files hold raw bits.
    """
    return save_weights(
        folder,
        codec="toderici2017",
        quality=0,
        config=config.to_dict(),
        params=round_params(params),
        tables=dict(coder or {}),
    )
