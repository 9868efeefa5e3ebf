"""From trained parameters to a weight file: float16 parameters, no tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcodec.codecs.comcnn.model import ComCnnConfig
from jaxcodec.zoo.weights import save_weights


def export(folder: Path, *, codec: str, config: ComCnnConfig, params: Mapping[str, Any]) -> Path:
    """Write the weight file of a pair of networks, or of RecCNN alone, and return its path.

    Parameters
    ----------
    folder
        Gets `<codec>-<hash8>.safetensors`.
    codec
        `comcnn`, `comcnn-jpeg2000`, `comcnn-hevc`, or `reccnn` for a restorer.
    config, params
        The networks and their float32 parameters, `reccnn` and, but for a restorer, `comcnn`.
    """
    return save_weights(folder, codec=codec, quality=0, config=config.to_dict(), params=params, tables={})
