"""Flax Linen modules: thin faces that own parameters; the mathematics is in `jaxcodec.ops`."""

from jaxcodec.layers.convolution import Convolution, TransposedConvolution
from jaxcodec.layers.gdn import GDN

__all__ = ["GDN", "Convolution", "TransposedConvolution"]
