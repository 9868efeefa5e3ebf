"""Ballé, Laparra and Simoncelli, "End-to-end optimized image compression", ICLR 2017, as a codec.

`model.py` has the networks, `codec.py` the codec, `export.py` the way from trained parameters to a weight file.
"""

from jaxcodec.codecs.balle2017.codec import (
    TransformCodec,
    TransformOptions,
    load_balle2017,
    load_balle2017_pq,
    load_bmshj2018,
)

__all__ = ["TransformCodec", "TransformOptions", "load_balle2017", "load_balle2017_pq", "load_bmshj2018"]
