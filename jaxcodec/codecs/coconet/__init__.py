"""CocoNet (Bricman and Ionescu 2018): one network per picture, from a pixel's coordinates to its colour.

`grid.py` has the coordinates, `model.py` the network, `fit.py` the fitting of many pictures at once, `tasks.py`
denoising, enlarging and filling holes; `quantise.py`, `weights_file.py` and `codec.py` make it a codec.
"""

from jaxcodec.codecs.coconet.codec import LADDER, CocoNetCodec, CocoNetOptions, load_coconet
from jaxcodec.codecs.coconet.fit import FitSettings, fit
from jaxcodec.codecs.coconet.model import NetworkConfig, render
from jaxcodec.codecs.coconet.tasks import complete, denoise, estimate_noise, upsample

__all__ = [
    "LADDER",
    "CocoNetCodec",
    "CocoNetOptions",
    "FitSettings",
    "NetworkConfig",
    "complete",
    "denoise",
    "estimate_noise",
    "fit",
    "load_coconet",
    "render",
    "upsample",
]
