"""A near-lossless coder in the style of JPEG-LS with NEAR > 0, the fair rival of the modulus transform. Not JPEG-LS.

As there, the MED prediction comes from decoded samples, and its error is quantised in steps of 2 NEAR + 1 (ISO/IEC
14495-1, A.4.4), so that no sample errs by more than NEAR; R, G and B are independent. In place of contexts,
run mode and Golomb codes there is what `fmm` has: one table of counts per plane and a range coder.
"""

from __future__ import annotations

import numpy as np

from jaxcodec.codecs.fmm.prediction import predict, walk
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.symbol_counts import SymbolCounts


def encode(planes: np.ndarray, bound: int) -> tuple[bytes, np.ndarray]:
    """Code uint8 `[C, H, W]` with errors of at most `bound` (NEAR): bytes without a header, and the decoded planes."""
    step = 2 * bound + 1

    def quantised(prediction: np.ndarray, sample: np.ndarray) -> np.ndarray:
        return np.clip(prediction + step * _index(sample - prediction, bound), 0, 255)

    decoded = walk(planes, quantised)
    indices = _index(planes - predict(decoded), bound)
    size = _alphabet(bound)
    tables, encoder = [], get_coder().encoder()
    for plane in (indices % size).astype(np.uint8).reshape(len(planes), -1):
        counts = SymbolCounts.measure(plane, size)
        tables.append(counts.to_bytes())
        counts.encode(plane, encoder)
    return b"".join(tables) + encoder.finish(), decoded


def decode(data: bytes, shape: tuple[int, int, int], bound: int) -> np.ndarray:
    """Decode what `encode` wrote of planes of this shape."""
    step, size = 2 * bound + 1, _alphabet(bound)
    tables, position = [], 0
    for _ in range(shape[0]):
        counts, position = SymbolCounts.read(data, position, size)
        tables.append(counts)
    decoder = get_coder().decoder(data[position:])
    indices = np.stack([counts.decode(shape[1] * shape[2], decoder) for counts in tables]).reshape(shape)
    decoder.finish()

    def added(prediction: np.ndarray, index: np.ndarray) -> np.ndarray:
        sample = prediction + step * index
        return np.clip(np.where(sample > 255 + bound, sample - step * size, sample), 0, 255)

    return walk(indices, added)


def _alphabet(bound: int) -> int:
    """RANGE of JPEG-LS: so many indices, modulo which the decoder still tells them apart."""
    return (255 + 2 * bound) // (2 * bound + 1) + 1


def _index(error: np.ndarray, bound: int) -> np.ndarray:
    return np.sign(error) * ((np.abs(error) + np.int16(bound)) // np.int16(2 * bound + 1))
