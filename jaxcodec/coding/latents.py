"""An array of integers (the quantised latents of a picture) to bytes and back.

Channel by channel in raster order, one table and one call of the coder for each, then the overflows of all
escaped symbols in the same order. The symbols may be any int32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcodec.coding.escape import UNIFORM_BIT, decode_overflows, encode_overflows, overflow_bits
from jaxcodec.coding.range_coder import RangeCoder, RangeDecoder, RangeEncoder
from jaxcodec.coding.tables import TOTAL, CodingTables

# An overflow's bits depend only on the number of digits of its distance + 1, 1 to 33.
_BITS_BY_DIGITS = np.array([0, *(overflow_bits(np.array([2**n - 1])) for n in range(33))], np.float32)


def encode_latents(symbols: np.ndarray, tables: CodingTables, coder: RangeCoder) -> bytes:
    """Code int32 `[h, w, C]` symbols.

    Returns
    -------
    bytes
        `tables.ideal_bits(symbols) / 8` of them, within 0.1 % and 8 bytes.
    """
    encoder = coder.encoder()
    append_parts([(tables, symbols)], encoder)
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
    [symbols] = read_parts([(tables, height * width)], decoder, len(data))
    decoder.finish()
    return symbols.reshape(shape)


def append_parts(parts: Sequence[tuple[CodingTables, np.ndarray]], encoder: RangeEncoder) -> None:
    """Append several arrays to a stream, int32 `[h, w, C]` each with its own tables, then all overflows."""
    overflows = []
    for tables, symbols in parts:
        indices, outside = tables.to_indices(symbols)
        for counts, channel in zip(tables.counts, indices, strict=True):
            encoder.encode(channel, counts)
        overflows.append(outside)
    if overflows:
        encode_overflows(np.concatenate(overflows), encoder)


def read_parts(
    parts: Sequence[tuple[CodingTables, int]], decoder: RangeDecoder, stream_bytes: int
) -> list[np.ndarray]:
    """Read what `append_parts` appended.

    Parameters
    ----------
    parts
        The tables of each array and how many positions, `h * w`, it has.
    decoder
        Stands where `append_parts` began.
    stream_bytes
        The length of the whole stream: a bound of what may be left.

    Returns
    -------
    list
        Of int32 `[h * w, C]`.

    Raises
    ------
    CorruptFile
        If the stream cannot come from `append_parts`.
    """
    decoded, escapes = [], []
    for tables, positions in parts:
        indices = np.empty((tables.channels, positions), np.int32)
        for channel, counts in enumerate(tables.counts):
            indices[channel] = decoder.decode(counts, positions)
        decoded.append(indices)
        escapes.append(int(np.count_nonzero(indices == tables.sizes[:, None])))
    # More than there can be: an even bit costs one, but for the coder's rounding and its last bytes.
    available_bits = 8 * stream_bytes + stream_bytes // 100 + 64
    overflows = decode_overflows(sum(escapes), decoder, available_bits)
    split = np.split(overflows, np.cumsum(escapes, dtype=np.int64))[:-1]
    return [
        tables.from_indices(indices, outside, positions, 1).reshape(positions, tables.channels)
        for (tables, positions), indices, outside in zip(parts, decoded, split, strict=True)
    ]


class CodeLengths:
    """The bits of symbols under each of several sets of tables, float32, quickly.

    Parameters
    ----------
    offsets
        int64 `[K, C]`: the first symbol of each table.
    tables
        The bits of the entries of each table, the escape last: `K * C` arrays, set after set.
    firsts, sizes
        int64 `[C]`: of each channel the first symbol and the number of symbols of a range, whose bits are
        computed once. By default what is in any of its tables, up to 65536 symbols.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        tables: Sequence[np.ndarray],
        *,
        firsts: np.ndarray | None = None,
        sizes: np.ndarray | None = None,
    ) -> None:
        lengths = np.array([len(table) for table in tables], np.int64).reshape(offsets.shape)
        self._offsets, self._table_sizes = offsets, lengths - 1
        self._table_starts = (np.cumsum(lengths) - lengths.ravel()).reshape(offsets.shape)
        self._bits = np.concatenate(tables).astype(np.float32)
        # Tables far apart are legal, if useless, and must not take gigabytes.
        self._firsts = offsets.min(axis=0) if firsts is None else firsts
        ends = (offsets + self._table_sizes).max(axis=0)
        self._sizes = np.minimum(ends - self._firsts, TOTAL) if sizes is None else sizes
        self._starts = np.cumsum(self._sizes) - self._sizes
        channel = np.repeat(np.arange(len(self._sizes)), self._sizes)
        symbols = np.arange(len(channel)) + np.repeat(self._firsts - self._starts, self._sizes)
        self._dense = self.of(symbols, channel)

    def of(self, symbols: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Return float32 `[n, K]` bits of `[n]` integer symbols of these channels, overflows included."""
        bits = np.empty((len(symbols), len(self._offsets)), np.float32)
        for number, (offset, size, start) in enumerate(
            zip(self._offsets, self._table_sizes, self._table_starts, strict=True)
        ):
            distance, limit = symbols - offset[channels], size[channels]
            inside = (distance >= 0) & (distance < limit)
            bits[:, number] = self._bits[start[channels] + np.where(inside, distance, limit)]
            outside = np.flatnonzero(~inside)
            distance = distance[outside]
            values = np.where(distance < 0, -distance, distance - limit[outside] + 1)
            digits = np.frexp(values.astype(np.float64))[1]  # exact below 2^53
            bits[outside, number] += _BITS_BY_DIGITS[digits]
        return bits

    def of_symbols(self, symbols: np.ndarray, channels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return float32 `[n]` bits of `[n]` symbols of these channels, each under one set of tables."""
        rows = symbols - self._firsts[channels]
        inside = np.clip(rows, 0, self._sizes[channels] - 1)
        bits = self._dense[self._starts[channels] + inside, numbers]
        far = np.flatnonzero(rows != inside)
        if len(far):
            bits[far] = self.of(symbols[far], channels[far])[np.arange(len(far)), numbers[far]]
        return bits

    def of_positions(self, planes: np.ndarray) -> np.ndarray:
        """Return float32 `[n, K]` bits of all channels of each position, of int32 `[C, n]` symbols."""
        rows = planes - self._firsts[:, None]
        far = np.flatnonzero((rows < 0) | (rows >= self._sizes[:, None]))
        bits = self.of_rows(rows)
        if len(far):
            channel, position = np.divmod(far, planes.shape[1])
            nearest = self._starts[channel] + np.clip(rows.ravel()[far], 0, self._sizes[channel] - 1)
            exact = self.of(planes.ravel()[far], channel)
            np.add.at(bits, position, exact - self._dense[nearest])
        return bits

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the same of `[C, n]` integers `symbol - first`; what is outside counts as the nearest inside."""
        total = np.zeros((rows.shape[1], self._dense.shape[1]), np.float32)
        looked_up = np.empty_like(total)
        for channel, start, size in zip(rows, self._starts, self._sizes, strict=True):
            np.take(self._dense[start : start + size], channel, axis=0, out=looked_up, mode="clip")
            total += looked_up
        return total
