import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.symbol_counts import SymbolCounts
from jaxcodec.coding.varint import encode_varint
from jaxcodec.errors import CorruptFile, JaxcodecError


def numbers(*values):
    return b"".join(map(encode_varint, values))


def round_trip(symbols, size):
    counts = SymbolCounts.measure(symbols, size)
    stored = counts.to_bytes()
    read, end = SymbolCounts.read(b"ab" + stored + b"cd", 2, size)
    assert end == 2 + len(stored)
    np.testing.assert_array_equal(read.counts, counts.counts)
    encoder = get_coder().encoder()
    counts.encode(symbols, encoder)
    data = encoder.finish()
    decoder = get_coder().decoder(data)
    decoded = read.decode(len(symbols), decoder)
    decoder.finish()
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, symbols)
    return stored, data


@given(st.lists(st.integers(0, 255), min_size=1, max_size=300), st.integers(0, 3))
@settings(deadline=None)
def test_any_symbols_round_trip(symbols, shift):
    round_trip(np.array(symbols, np.uint8) >> shift, 256 >> shift)


def test_the_size_is_the_entropy():
    rng = np.random.default_rng(0)
    symbols = np.minimum(rng.geometric(0.2, 20000) - 1, 51).astype(np.uint8)
    frequencies = np.bincount(symbols) / len(symbols)
    frequencies = frequencies[frequencies > 0]
    entropy = -(frequencies * np.log2(frequencies)).sum() * len(symbols) / 8
    stored, data = round_trip(symbols, 52)
    assert entropy <= len(data) <= 1.002 * entropy + 8
    assert len(stored) < 110


def test_one_symbol_costs_its_table_only():
    stored, data = round_trip(np.full(1000, 7, np.uint8), 52)
    assert stored == numbers(0, 6, 65536, 0, 43)
    assert data == b""


def test_a_table_is_counts_and_runs_of_unused_symbols():
    symbols = np.array([0, 0, 0, 3], np.uint8)
    assert SymbolCounts.measure(symbols, 6).to_bytes() == numbers(49152, 0, 1, 16384, 0, 1)


@pytest.mark.parametrize(
    "stored",
    [
        numbers(65535, 0, 4),  # a sum below
        numbers(65536, 1, 0, 3),  # and above
        numbers(0, 5),  # no symbol at all
        numbers(65536, 0, 5),  # a run beyond the table
        numbers(0, 0, 0, 0, 65536, 0, 2),  # a run in two
        numbers(2**64 - 1, 0, 4),
        numbers(0, 2**64 - 1),
    ],
    ids=range(7),
)
def test_what_is_no_table_raises_corrupt_file(stored):
    with pytest.raises(CorruptFile):
        SymbolCounts.read(stored, 0, 6)


@given(st.binary(max_size=12), st.integers(1, 9))
@settings(deadline=None)
def test_any_bytes_are_the_one_form_of_a_table_or_refused(data, size):
    try:
        counts, end = SymbolCounts.read(data, 0, size)
    except JaxcodecError:
        return
    assert counts.to_bytes() == data[:end]
