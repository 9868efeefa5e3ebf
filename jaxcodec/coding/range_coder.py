"""Range coders on integer tables: what goes in first comes out first.

A coder turns indices `i` into tables of counts (integers of at least 1 that sum to 65536) into about
`-log2(count_i / 65536)` bits each. Encoder and decoder make the same calls in the same order.

The default is the range coder of the library `constriction` (R. Bamler, 2022, arXiv:2201.01741), with 64 bits
of state and 32-bit words. Coder numbers stand in files, so `CODER_IDS` only ever grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from jaxcodec.coding.tables import TOTAL
from jaxcodec.errors import BadOption, CorruptFile, MissingDependency, UnknownCodec
from jaxcodec.version import __version__


@cache
def constriction_stream() -> Any:
    """Import the coder when something is first coded: training needs networks, not a coder."""
    try:
        import constriction
    except ImportError as error:
        raise MissingDependency("the range coder needs constriction: pip install constriction") from error
    # The extension makes its submodules when it is imported; a type checker cannot see them.
    return constriction.stream  # pyrefly: ignore[missing-attribute]


class RangeEncoder(Protocol):
    """Collects indices; ask for the bytes once, at the end."""

    def encode(self, indices: np.ndarray, counts: np.ndarray) -> None:
        """Append int32 `[n]` indices into one table of uint32 `[L]` counts; `BadOption` if one is outside."""
        ...

    def finish(self) -> bytes:
        """Return the bytes of everything appended."""
        ...


class RangeDecoder(Protocol):
    """Gives indices back in the order in which they were encoded."""

    def decode(self, counts: np.ndarray, n: int) -> np.ndarray:
        """Read `n` indices, int32 `[n]`, of one table; `CorruptFile` if the bytes cannot be such."""
        ...

    def finish(self) -> None:
        """Raise `CorruptFile` if bytes are left or the end is not one that the encoder writes."""
        ...


class RangeCoder(Protocol):
    """A pair of encoder and decoder, with the name and number it is known by."""

    @property
    def name(self) -> str:
        """What `get_coder` knows it by."""
        ...

    @property
    def coder_id(self) -> int:
        """Its byte in a file."""
        ...

    def encoder(self) -> RangeEncoder:
        """Return a new, empty encoder."""
        ...

    def decoder(self, data: bytes, tables: Sequence[np.ndarray] | None = None) -> RangeDecoder:
        """Return a decoder of `data`.

        `tables` are all the tables that `decode` will be called with. The `tfc` coder has to know them at the
        start; the default coder does not look at them.
        """
        ...


class ConstrictionCoder:
    """The default coder: `constriction`'s range coder with one concrete model per call."""

    name = "constriction"
    coder_id = 1

    def encoder(self) -> RangeEncoder:
        """Return a new, empty encoder."""
        return _ConstrictionEncoder()

    def decoder(self, data: bytes, tables: Sequence[np.ndarray] | None = None) -> RangeDecoder:
        """Return a decoder of `data`, whole 32-bit words; `CorruptFile` for any other length."""
        del tables
        return _ConstrictionDecoder(data)


class _ConstrictionEncoder:
    def __init__(self) -> None:
        self._encoder = constriction_stream().queue.RangeEncoder()

    def encode(self, indices: np.ndarray, counts: np.ndarray) -> None:
        model = _model(counts)
        try:
            self._encoder.encode(np.ascontiguousarray(indices, np.int32), model)
        except (AssertionError, KeyError, ValueError) as error:
            raise BadOption(f"an index is outside its coding table of {len(counts)} entries") from error

    def finish(self) -> bytes:
        return self._encoder.get_compressed().astype("<u4").tobytes()


class _ConstrictionDecoder:
    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise CorruptFile(
                f"coded symbols come in words of 4 bytes, got {len(data)}; get another copy of the file"
            )
        self._decoder = constriction_stream().queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def decode(self, counts: np.ndarray, n: int) -> np.ndarray:
        model = _model(counts)
        try:
            return self._decoder.decode(model, n)
        except (AssertionError, KeyError, ValueError) as error:
            raise CorruptFile("the coded symbols are damaged; get another copy of the file") from error

    def finish(self) -> None:
        if not self._decoder.maybe_exhausted():
            raise CorruptFile("bytes are left after the last coded symbol; get another copy of the file")


def _model(counts: np.ndarray) -> Any:
    """Return the model that gives each entry exactly `count / 65536`.

    `Categorical(perfect=False)` gives each of L entries one of 2^24 units and spreads the other 2^24 - L in
    proportion to the weights. With weights of 256 count - 1, whose sum is just that, the factor is exactly 1
    and nothing is rounded: the stream is that of an integer coder on the counts
    (tests/coding/python_range_coder.py).
    """
    if len(counts) < 2 or not counts.all() or int(counts.sum()) != TOTAL:
        raise CorruptFile(
            f"a coding table needs at least 2 counts, none of them zero, that sum to {TOTAL}; "
            "export the weights again"
        )
    return constriction_stream().model.Categorical(np.multiply(counts, 256.0) - 1.0, perfect=False)


CODER_IDS = MappingProxyType({"constriction": 1, "tfc": 2})


def get_coder(name_or_id: str | int = "constriction") -> RangeCoder:
    """Return a coder by its name or by its number in a file.

    Raises
    ------
    UnknownCodec
        If there is none.
    MissingDependency
        If it needs a package that is not installed.
    """
    if name_or_id in (ConstrictionCoder.name, ConstrictionCoder.coder_id):
        return ConstrictionCoder()
    if name_or_id in ("tfc", CODER_IDS["tfc"]):
        from jaxcodec.coding.tfc_coder import TfcCoder  # TensorFlow takes seconds to import

        return TfcCoder()
    raise UnknownCodec(
        f"jaxcodec {__version__} knows no range coder {name_or_id!r}, only "
        f"{', '.join(f'{name} ({number})' for name, number in CODER_IDS.items())}; "
        "upgrade jaxcodec to read newer files"
    )
