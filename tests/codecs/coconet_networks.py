"""A small network of CocoNet and the picture that its tests fit it to."""

from jaxcodec.codecs.coconet import FitSettings, NetworkConfig
from tests.codecs.golden_codecs import photo

TINY = NetworkConfig(width=8, depth=2, activation="sine", inputs="xy")
QUICK = FitSettings(steps=60, learning_rate=1e-2, cosine=True, segment=30)
PICTURE = photo(13, 17, name="kodim23.png", top=150, left=250)
