"""The tensorflow-compression backend, in the environment of the extra `[tfc]`, which has no hypothesis."""

import numpy as np
import pytest

from jaxcodec.coding.latents import decode_latents, encode_latents
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import PRECISION
from jaxcodec.errors import BadOption, CorruptFile
from tests.coding.examples import draw_symbols, random_counts, random_tables

pytestmark = [
    pytest.mark.tfc,
    # TensorFlow 2.14 and what it imports use names that Python, numpy and setuptools have deprecated since.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def coder():
    pytest.importorskip("tensorflow_compression", reason="the extra [tfc] is not installed")
    return get_coder("tfc")


def test_coder_is_known_by_name_and_number(coder):
    assert (coder.name, coder.coder_id) == ("tfc", 2)
    assert type(get_coder(2)) is type(coder)


@pytest.mark.parametrize("outside", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (32, 48)])
def test_latents_round_trip_within_a_thousandth_of_the_ideal_size(coder, shape, outside):
    rng = np.random.default_rng(0)
    tables = random_tables(rng, 24)
    symbols = draw_symbols(rng, tables, *shape, outside=outside)
    data = encode_latents(symbols, tables, coder)
    np.testing.assert_array_equal(decode_latents(data, symbols.shape, tables, coder), symbols)
    ideal = tables.ideal_bits(symbols) / 8
    # This coder gives what its rounding leaves to the last entry, here the escape, so it can end below, too.
    assert 0.999 * ideal - 1 <= len(data) <= 1.001 * ideal + 8


@pytest.mark.parametrize("skew", [0.0, 2.0, 6.0])
def test_size_is_that_of_the_default_coder(coder, skew):
    rng = np.random.default_rng(1)
    counts = random_counts(rng, 60, skew)
    indices = rng.choice(60, 100_000, p=counts / 2**PRECISION).astype(np.int32)
    sizes = []
    for each in (coder, get_coder()):
        encoder = each.encoder()
        encoder.encode(indices, counts)
        sizes.append(len(encoder.finish()))
    assert abs(sizes[0] - sizes[1]) <= 0.001 * sizes[1] + 8


def test_bytes_are_those_of_the_op_called_directly(coder):
    # One table and one call of `entropy_encode_channel`, as the library's own entropy models make it.
    gen_ops = pytest.importorskip("tensorflow_compression.python.ops.gen_ops")

    rng = np.random.default_rng(2)
    counts = random_counts(rng, 30, 1.0)
    indices = rng.choice(30, 500, p=counts / 2**PRECISION).astype(np.int32)
    lookup = np.concatenate([[PRECISION, 0], np.cumsum(counts)]).astype(np.int32)
    handle = gen_ops.create_range_encoder([], lookup[None])
    handle = gen_ops.entropy_encode_channel(handle, indices[:, None])
    encoder = coder.encoder()
    encoder.encode(indices, counts)
    assert encoder.finish() == gen_ops.entropy_encode_finalize(handle).numpy()


def test_nothing_encoded_is_no_bytes(coder):
    counts = np.array([1, 65535], np.uint32)
    assert coder.encoder().finish() == b""
    decoder = coder.decoder(b"", [counts])
    assert decoder.decode(counts, 0).shape == (0,)
    decoder.finish()


@pytest.mark.parametrize("index", [-1, 3])
def test_index_outside_the_table_is_refused(coder, index):
    with pytest.raises(BadOption, match="3 entries"):
        coder.encoder().encode(np.array([0, index], np.int32), np.array([1, 65534, 1], np.uint32))


@pytest.mark.parametrize("counts", [[65536], [1, 2, 3], [0, 65536], [65535, 2]])
def test_table_that_is_none_is_refused(coder, counts):
    with pytest.raises(CorruptFile, match="coding table"):
        coder.encoder().encode(np.array([0], np.int32), np.array(counts, np.uint32))


def test_decoder_has_to_know_its_tables(coder):
    with pytest.raises(BadOption, match="all coding tables"):
        coder.decoder(b"")
    decoder = coder.decoder(b"1234", [np.array([1, 65535], np.uint32)])
    with pytest.raises(BadOption, match="not among"):
        decoder.decode(np.array([2, 65534], np.uint32), 1)


def test_other_bytes_raise_corrupt_file_or_give_the_right_shape(coder):
    rng = np.random.default_rng(3)
    tables = random_tables(rng, 8, tail=0.01)
    symbols = draw_symbols(rng, tables, 6, 6, outside=0.02)
    data = encode_latents(symbols, tables, coder)
    corrupt = 0
    for _ in range(100):
        changed = bytearray(data)
        changed[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        cut = changed[: rng.integers(0, len(data) + 1)] if rng.random() < 0.5 else changed
        try:
            assert decode_latents(bytes(cut), symbols.shape, tables, coder).shape == symbols.shape
        except CorruptFile:
            corrupt += 1
    assert corrupt > 10
