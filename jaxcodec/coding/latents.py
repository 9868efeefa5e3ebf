"""An array of integers (the quantised latents of a picture) to bytes and back.

Channel by channel in raster order, one table and one call of the coder for each, then the overflows of all
escaped symbols in the same order. The symbols may be any int32.
"""

from __future__ import annotations

import numpy as np

from jaxcodec.coding.escape import UNIFORM_BIT, decode_overflows, encode_overflows
from jaxcodec.coding.range_coder import RangeCoder
from jaxcodec.coding.tables import CodingTables


def encode_latents(symbols: np.ndarray, tables: CodingTables, coder: RangeCoder) -> bytes:
    """Code int32 `[h, w, C]` symbols.

    Returns
    -------
    bytes
        `tables.ideal_bits(symbols) / 8` of them, within 0.1 % and 8 bytes.
    """
    indices, overflows = tables.to_indices(symbols)
    encoder = coder.encoder()
    for counts, channel in zip(tables.counts, indices, strict=True):
        encoder.encode(channel, counts)
    encode_overflows(overflows, encoder)
    return encoder.finish()


def decode_latents(
    data: bytes, shape: tuple[int, int, int], tables: CodingTables, coder: RangeCoder
) -> np.ndarray:
    """Decode what `encode_latents` made of symbols of this `shape`, `(h, w, C)`.

    The caller has checked the shape against its limits; this allocates 12 bytes a symbol.

    Returns
    -------
    np.ndarray
        int32 `[h, w, C]`.

    Raises
    ------
    CorruptFile
        If the bytes cannot come from `encode_latents`. Not every wrong byte can be seen here; the container's
        checksums see those.
    """
    height, width, channels = shape
    if channels != tables.channels or height < 0 or width < 0:
        raise ValueError(f"shape must be (h, w, {tables.channels}), got {shape}")
    decoder = coder.decoder(data, (*tables.counts, UNIFORM_BIT))
    indices = np.empty((channels, height * width), np.int32)
    for channel, counts in enumerate(tables.counts):
        indices[channel] = decoder.decode(counts, height * width)
    escapes = int(np.count_nonzero(indices == tables.sizes[:, None]))
    # More than there can be: an even bit costs one, but for the coder's rounding and its last bytes.
    available_bits = 8 * len(data) + len(data) // 100 + 64
    overflows = decode_overflows(escapes, decoder, available_bits)
    decoder.finish()
    return tables.from_indices(indices, overflows, height, width)
