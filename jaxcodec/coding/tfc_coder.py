"""The range coder of tensorflow-compression behind the same interface: for reference, interchange and tests.

Its own escape mechanism ("overflow") stays off: to it our escape is an entry like any other. It needs all
tables when a stream begins, so the encoder keeps its calls until the end and the decoder is told the tables.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from jaxcodec.coding.range_coder import RangeDecoder, RangeEncoder
from jaxcodec.coding.tables import PRECISION, TOTAL
from jaxcodec.errors import BadOption, CorruptFile, MissingDependency


class TfcCoder:
    """The ops `create_range_encoder`, `entropy_encode_index` and their kin.

    Raises
    ------
    MissingDependency
        Without the extra `[tfc]`.
    """

    name = "tfc"
    coder_id = 2

    def __init__(self) -> None:
        try:
            tf = importlib.import_module("tensorflow")
            ops = importlib.import_module("tensorflow_compression.python.ops.gen_ops")
        except ImportError as error:
            raise MissingDependency(
                "the range coder 'tfc' needs tensorflow-compression; on Python 3.11: "
                "pip install 'jaxcodec[tfc]'"
            ) from error
        self._tf, self._ops = tf, ops

    def encoder(self) -> RangeEncoder:
        """Return a new, empty encoder."""
        return _TfcEncoder(self._tf, self._ops)

    def decoder(self, data: bytes, tables: Sequence[np.ndarray] | None = None) -> RangeDecoder:
        """Return a decoder of `data`; `BadOption` unless it is told all `tables` that will be used."""
        if tables is None:
            raise BadOption("the range coder 'tfc' has to know all coding tables before it decodes")
        return _TfcDecoder(self._tf, self._ops, data, tables)


class _Lookup:
    """Distinct tables and their rows in the op's lookup: precision, 0, count_0, count_0 + count_1, ..."""

    def __init__(self) -> None:
        self._row_of: dict[bytes, int] = {}
        self._rows: list[np.ndarray] = []

    def add(self, counts: np.ndarray) -> int:
        key = self._key(counts)
        if key not in self._row_of:
            if len(counts) < 2 or int(counts.min()) < 1 or int(counts.sum()) != TOTAL:
                raise CorruptFile(
                    f"a coding table needs at least 2 counts of 1 or more that sum to {TOTAL}; "
                    "export the weights again"
                )
            self._row_of[key] = len(self._rows)
            self._rows.append(np.concatenate([[PRECISION, 0], np.cumsum(counts)]).astype(np.int32))
        return self._row_of[key]

    def find(self, counts: np.ndarray) -> int:
        row = self._row_of.get(self._key(counts))
        if row is None:
            raise BadOption("a coding table was not among those the decoder was told at its start")
        return row

    def array(self) -> np.ndarray:
        return np.concatenate(self._rows)

    @staticmethod
    def _key(counts: np.ndarray) -> bytes:
        return np.ascontiguousarray(counts, np.uint32).tobytes()


class _TfcEncoder:
    def __init__(self, tf: ModuleType, ops: ModuleType) -> None:
        self._tf, self._ops = tf, ops
        self._lookup = _Lookup()
        self._rows: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def encode(self, indices: np.ndarray, counts: np.ndarray) -> None:
        if not len(indices):
            return
        if not 0 <= int(indices.min()) <= int(indices.max()) < len(counts):
            raise BadOption(f"an index is outside its coding table of {len(counts)} entries")
        self._rows.append(np.full(len(indices), self._lookup.add(counts), np.int32))
        self._values.append(np.asarray(indices, np.int32))

    def finish(self) -> bytes:
        if not self._values:
            return b""
        with self._tf.device("/CPU:0"):
            handle = self._ops.create_range_encoder([], self._lookup.array())
            handle = self._ops.entropy_encode_index(
                handle, np.concatenate(self._rows), np.concatenate(self._values)
            )
            return bytes(self._ops.entropy_encode_finalize(handle).numpy())


class _TfcDecoder:
    def __init__(self, tf: ModuleType, ops: ModuleType, data: bytes, tables: Sequence[np.ndarray]) -> None:
        self._tf, self._ops = tf, ops
        self._lookup = _Lookup()
        for counts in tables:
            self._lookup.add(counts)
        # The op refers to the string and does not own it.
        self._empty = not data
        with tf.device("/CPU:0"):
            self._data = tf.constant(data)
            self._handle = ops.create_range_decoder(self._data, self._lookup.array())

    def decode(self, counts: np.ndarray, n: int) -> np.ndarray:
        row = self._lookup.find(counts)
        if not n:
            return np.zeros(0, np.int32)
        try:
            with self._tf.device("/CPU:0"):
                self._handle, values = self._ops.entropy_decode_index(
                    self._handle, np.full(n, row, np.int32), [n], self._tf.int32
                )
        except self._tf.errors.OpError as error:
            raise CorruptFile("the coded symbols are damaged; get another copy of the file") from error
        return values.numpy()

    def finish(self) -> None:
        if self._empty:
            return
        if not bool(self._ops.entropy_decode_finalize(self._handle).numpy()):
            raise CorruptFile("bytes are left after the last coded symbol; get another copy of the file")
