"""The bits of an iteration to bytes and back: as they are, or by the entropy coder that the weights hold.

A chunk is one iteration of all tiles: their streams one after the other, each but the last preceded by its
length as a varint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcodec.coding.binary_planes import PlaneModel, decode_codes, encode_codes
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.varint import decode_varint, encode_varint
from jaxcodec.entropy.binary_rnn_integer import IntegerBinaryRNN
from jaxcodec.errors import CorruptFile, UnknownCodec, WrongWeights

RAW = 0
"""The coder's number in a file whose bits are packed eight to a byte, first bit highest."""

_ANOTHER_COPY = "get another copy of the file"


class BitCoder:
    """Codes `[T, h, w, D]` of tiles to a chunk per iteration.

    Parameters
    ----------
    tables
        Those of the weight file: a BinaryRNN in integers, or none for raw bits.
    depth
        D, bits per position, a multiple of 8.
    """

    def __init__(self, tables: Mapping[str, np.ndarray], *, depth: int) -> None:
        self._depth = depth
        self._model: PlaneModel | None = IntegerBinaryRNN.from_arrays(tables) if tables else None
        if self._model is not None and self._model.bits != depth:
            raise WrongWeights(f"an entropy coder of {self._model.bits} bits for a network of {depth}")
        self.coder_id = RAW if self._model is None else get_coder().coder_id

    def encode(self, codes: Sequence[np.ndarray]) -> list[bytes]:
        """Chunks of bool `[T, h, w, D]`, one per tile."""
        if self._model is None:
            streams = [[np.packbits(plane).tobytes() for plane in tile] for tile in codes]
        else:
            streams = [encode_codes(tile, self._model) for tile in codes]
        return [_join(parts) for parts in zip(*streams, strict=True)]

    def decode(
        self, chunks: Sequence[bytes], shapes: Sequence[tuple[int, int]], coder_id: int
    ) -> list[np.ndarray]:
        """Bool `[T, h, w, D]` for each tile of `shapes` (h, w).

        Raises
        ------
        CorruptFile
            If the chunks cannot be such bits; found out from their lengths before anything is allocated.
        UnknownCodec
            If the file's coder is not that of the weights.
        """
        if coder_id != self.coder_id and coder_id != RAW:
            raise UnknownCodec(
                f"the bits were coded by coder number {coder_id}, which the weights do not have"
            )
        if coder_id == RAW:
            return self._decode_raw(chunks, shapes)
        assert self._model is not None
        streams = [_split(chunk, len(shapes)) for chunk in chunks]
        return [
            decode_codes([parts[i] for parts in streams], shape, self._model).astype(bool)
            for i, shape in enumerate(shapes)
        ]

    def _decode_raw(self, chunks: Sequence[bytes], shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        lengths = [h * w * self._depth // 8 for h, w in shapes]
        codes: list[list[np.ndarray]] = [[] for _ in shapes]
        for chunk in chunks:
            parts = _split(chunk, len(shapes))
            for tile, (part, length, shape) in enumerate(zip(parts, lengths, shapes, strict=True)):
                if len(part) != length:
                    raise CorruptFile(f"{len(part)} bytes of bits where {length} belong; {_ANOTHER_COPY}")
                bits = np.unpackbits(np.frombuffer(part, np.uint8)).astype(bool)
                codes[tile].append(bits.reshape(*shape, self._depth))
        return [np.stack(planes) for planes in codes]


def _join(parts: Sequence[bytes]) -> bytes:
    return b"".join(encode_varint(len(part)) + part for part in parts[:-1]) + parts[-1]


def _split(chunk: bytes, count: int) -> list[bytes]:
    view, position = memoryview(chunk), 0
    parts: list[bytes] = []
    for _ in range(count - 1):
        length, position = decode_varint(view, position, "length of a tile")
        if position + length > len(view):
            raise CorruptFile(f"a tile's stream is longer than its chunk; {_ANOTHER_COPY}")
        parts.append(bytes(view[position : position + length]))
        position += length
    return [*parts, bytes(view[position:])]
