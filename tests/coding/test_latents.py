import hashlib

import numpy as np
import pytest

from jaxcodec.coding.latents import decode_latents, encode_latents
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import CorruptFile
from tests.coding.examples import draw_symbols, random_tables
from tests.coding.python_range_coder import PythonRangeEncoder

INT32 = np.iinfo(np.int32)


def round_trip(symbols, tables):
    data = encode_latents(symbols, tables, get_coder())
    decoded = decode_latents(data, symbols.shape, tables, get_coder())
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)
    return data


def one_table(counts, offset):
    return CodingTables((np.array(counts, np.uint32),), np.array([offset], np.int32))


@pytest.mark.parametrize("outside", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (32, 48)])
def test_latents_round_trip_within_a_thousandth_of_the_ideal_size(shape, outside):
    rng = np.random.default_rng(0)
    tables = random_tables(rng, 24)
    symbols = draw_symbols(rng, tables, *shape, outside=outside)
    ideal = tables.ideal_bits(symbols) / 8
    assert ideal - 1 <= len(round_trip(symbols, tables)) <= 1.001 * ideal + 8


@pytest.mark.parametrize("offset", [0, -1, 7, INT32.min, INT32.max])
def test_the_whole_of_int32_can_be_coded(offset):
    extremes = [INT32.min, INT32.min + 1, -(2**30), -65536, -1, 0, 1, 65536, 2**30, INT32.max - 1, INT32.max]
    around = [offset + k for k in (-2, -1, 0, 1, 2) if INT32.min <= offset + k <= INT32.max]
    symbols = np.array(extremes + around, np.int32).reshape(-1, 1, 1)
    round_trip(symbols, one_table([65535, 1], offset))


def test_no_symbols_are_no_bytes():
    tables = random_tables(np.random.default_rng(1), 3)
    assert round_trip(np.zeros((0, 5, 3), np.int32), tables) == b""


def test_symbols_need_not_be_contiguous():
    rng = np.random.default_rng(2)
    tables = random_tables(rng, 4)
    symbols = draw_symbols(rng, tables, 6, 8)
    strided = np.asfortranarray(symbols)[::2, 1::3]
    assert round_trip(strided, tables) == round_trip(np.ascontiguousarray(strided), tables)


def test_stream_is_channels_in_raster_order_then_signs_prefixes_and_digits():
    # Written out symbol by symbol with the integer coder.
    tables = CodingTables(
        (np.array([60000, 5536], np.uint32), np.array([1, 65000, 535], np.uint32)),
        np.array([0, -1], np.int32),
    )
    symbols = np.array([[[0, 0], [3, -1]], [[-2, 0], [0, 6]]], np.int32)
    reference = PythonRangeEncoder()
    for index in (0, 1, 1, 0):
        reference.encode(index, [60000, 5536])
    for index in (1, 0, 1, 2):
        reference.encode(index, [1, 65000, 535])
    # Outside: 3 is 2 above, -2 is 1 below, 6 is 5 above; so distance + 1 is 11, 10 and 110 in binary.
    signs, prefixes, digits = "010", ["111", "001", "0"], ["1", "0", "10"]
    for bit in signs + "".join(prefixes) + "".join(digits):
        reference.encode(int(bit), [32768, 32768])
    assert round_trip(symbols, tables) == reference.finish()


def test_bytes_of_a_fixed_array_never_change():
    # Made by this test when format 1 was defined. Another value means that old files no longer decode.
    tables = CodingTables(
        tuple(np.array([1000 * k, 60000 - 1000 * k, 5000, 536], np.uint32) for k in (1, 20, 40)),
        np.array([-1, 0, -2], np.int32),
    )
    n = np.arange(5 * 4 * 3)
    symbols = ((n * n * 7 + n) % 5 - 2 + 1000 * (n == 31)).astype(np.int32).reshape(5, 4, 3)
    data = round_trip(symbols, tables)
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == (48, "54183255656d8a67")


def test_other_bytes_raise_corrupt_file_or_give_the_right_shape():
    rng = np.random.default_rng(3)
    tables = random_tables(rng, 8, tail=0.01)
    symbols = draw_symbols(rng, tables, 6, 6, outside=0.02)
    data = encode_latents(symbols, tables, get_coder())
    corrupt = 0
    for _ in range(500):
        changed = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            changed[position] ^= 1 << rng.integers(0, 8)
        cut = changed[: 4 * rng.integers(0, len(data) // 4 + 1)] if rng.random() < 0.5 else changed
        try:
            assert decode_latents(bytes(cut), symbols.shape, tables, get_coder()).shape == symbols.shape
        except CorruptFile:
            corrupt += 1
    assert corrupt > 100


def test_more_escapes_than_bits_are_corrupt():
    # With this table four bytes hold ten thousand escapes, but not their overflows.
    tables = one_table([1, 65535], 0)
    with pytest.raises(CorruptFile, match="more bits than there are"):
        decode_latents(b"\0\0\0\x80", (100, 100, 1), tables, get_coder())


def test_escape_that_leaves_int32_is_corrupt():
    # The code of the largest int32 above a table at -2^31, read with a table at 0.
    data = encode_latents(
        np.full((1, 1, 1), INT32.max, np.int32), one_table([65535, 1], INT32.min), get_coder()
    )
    with pytest.raises(CorruptFile, match="outside int32"):
        decode_latents(data, (1, 1, 1), one_table([65535, 1], 0), get_coder())


def test_bytes_after_the_symbols_are_corrupt():
    rng = np.random.default_rng(4)
    tables = random_tables(rng, 8)
    data = encode_latents(draw_symbols(rng, tables, 6, 6), tables, get_coder())
    with pytest.raises(CorruptFile):
        decode_latents(data + b"\0\0\0\0" * 4, (6, 6, 8), tables, get_coder())


def test_shape_with_other_channels_is_refused():
    tables = random_tables(np.random.default_rng(5), 3)
    with pytest.raises(ValueError, match="shape"):
        decode_latents(b"", (1, 1, 4), tables, get_coder())
