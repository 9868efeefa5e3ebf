"""A picture for the tests of the command."""

import numpy as np


def texture(height, width):
    """A smooth colourful picture, uint8 `[height, width, 3]`."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 7.0 + y / 11.0), np.cos(y / 5.0), np.sin((x - y) / 13.0)]
    return np.round(127.5 + 120.0 * np.stack(waves, axis=-1)).astype(np.uint8)
