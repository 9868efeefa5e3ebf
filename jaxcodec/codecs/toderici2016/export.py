"""From trained parameters to a weight file; there is no entropy coder, so there are no tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcodec.codecs.toderici2016.model import ThumbnailConfig
from jaxcodec.zoo.weights import round_params, save_weights


def export(folder: Path, *, config: ThumbnailConfig, params: Mapping[str, Any]) -> Path:
    """Write the weight file of a trained network, which serves all qualities, and return its path.

    Parameters
    ----------
    folder
        Gets `toderici2016-<hash8>.safetensors`.
    config, params
        The network and its float32 parameters.
    """
    return save_weights(
        folder,
        codec="toderici2016",
        quality=0,
        config=config.to_dict(),
        params=round_params(params),
        tables={},
    )
