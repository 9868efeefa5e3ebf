from fractions import Fraction

import numpy as np
import pytest

from jaxcodec.coding.binary_planes import (
    AdaptivePlanes,
    BitDecoder,
    BitEncoder,
    StaticPlanes,
    decode_codes,
    encode_codes,
    ideal_bits,
    probabilities,
)
from jaxcodec.errors import BadOption, CorruptFile, JaxcodecError, TooLarge
from tests.coding.python_range_coder import PythonRangeDecoder, PythonRangeEncoder

SHAPE = (3, 7, 9, 4)


def smooth_codes(rng, shape=SHAPE):
    """Bits `[t, h, w, D]` that mostly repeat their neighbours, unevenly."""
    field = rng.standard_normal(shape)
    for axis in (1, 2):
        for _ in range(3):
            field = field + np.roll(field, 1, axis)
    return (field > 0.5 * field.std()).astype(np.uint8)


def models(codes):
    return [StaticPlanes.fit(codes[None]), AdaptivePlanes(len(codes), codes.shape[-1])]


# --- The range coder.


@pytest.mark.parametrize("kind", ["any", "skewed", "extreme"])
@pytest.mark.parametrize("n", [1, 31, 4000])
def test_bits_are_coded_as_an_integer_range_coder_codes_them(rng, kind, n):
    ones = {
        "any": rng.integers(1, 65536, n),
        "skewed": np.clip((65536 * rng.random(n) ** 8).astype(np.int64), 1, 65535),
        "extreme": rng.choice([1, 2, 32768, 65534, 65535], n),
    }[kind]
    bits = (rng.integers(0, 65536, n) < ones).astype(np.uint8)
    reference = PythonRangeEncoder()
    for bit, count in zip(bits.tolist(), ones.tolist(), strict=True):
        reference.encode(bit, [65536 - count, count])
    encoder = BitEncoder()
    # However the bits are divided among calls.
    for part in np.array_split(np.arange(n), min(n, 7)):
        encoder.encode(bits[part], ones[part])
    data = encoder.finish()
    assert data == reference.finish()
    decoder, plain = BitDecoder(data), PythonRangeDecoder(data)
    for part in np.array_split(np.arange(n), min(n, 5)):
        np.testing.assert_array_equal(decoder.decode(ones[part]), bits[part])
    decoder.finish()
    assert [plain.decode([65536 - count, count]) for count in ones.tolist()] == bits.tolist()


@pytest.mark.parametrize(("bit", "count"), [(2, 5), (0, 0), (1, 65536)])
def test_what_is_no_bit_or_no_probability_is_refused(bit, count):
    with pytest.raises(BadOption):
        BitEncoder().encode(np.array([bit]), np.array([count]))


# --- Codes.


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1, 1), (2, 1, 40, 8), (2, 24, 32, 32)])
def test_codes_round_trip_at_their_cross_entropy(rng, which, shape):
    codes = smooth_codes(rng, shape)
    model = models(codes)[which]
    ones = probabilities(codes, model)
    chunks = encode_codes(codes, model)
    decoded = decode_codes(chunks, shape[1:3], model)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, codes)
    for chunk, ideal in zip(chunks, ideal_bits(codes, ones) / 8, strict=True):
        assert ideal - 1 <= len(chunk) <= 1.001 * ideal + 8


@pytest.mark.parametrize("which", [0, 1])
def test_every_prefix_of_the_chunks_decodes_to_the_first_iterations(rng, which):
    codes = smooth_codes(rng)
    model = models(codes)[which]
    chunks = encode_codes(codes, model)
    for k in range(len(chunks) + 1):
        np.testing.assert_array_equal(decode_codes(chunks[:k], SHAPE[1:3], model), codes[:k])
        assert encode_codes(codes[:k], model) == chunks[:k] if k else True


@pytest.mark.parametrize("which", [0, 1])
def test_a_bit_says_nothing_about_itself_or_those_before(rng, which):
    codes = smooth_codes(rng)
    model = models(codes)[which]
    ones = probabilities(codes, model).ravel()
    for position in rng.integers(0, codes.size, 20):
        flipped = codes.copy().ravel()
        flipped[position] ^= 1
        changed = probabilities(flipped.reshape(SHAPE), model).ravel() != ones
        assert not changed[: position + 1].any()


def test_the_static_model_has_the_frequencies_of_its_bits(rng):
    codes = smooth_codes(rng, (2, 16, 16, 3))
    expected = codes.mean((1, 2))
    np.testing.assert_allclose(StaticPlanes.fit(codes[None]).ones / 65536, expected, atol=0.01)
    never = StaticPlanes.fit(np.zeros((1, 1, 200, 200, 1), np.uint8))
    assert 1 <= never.ones.item() <= 2


def test_the_adaptive_model_counts_by_bit_and_three_neighbours(rng):
    codes = smooth_codes(rng)
    ones = probabilities(codes, AdaptivePlanes(3, 4))
    for k, d in np.ndindex(3, 4):
        seen = {}
        padded = np.pad(codes[k, :, :, d], ((1, 0), (1, 0)))
        for row, column in np.ndindex(7, 9):
            context = (padded[row + 1, column], padded[row, column], padded[row, column + 1])
            bits = seen.setdefault(context, [])
            expected = Fraction(2 * sum(bits) + 1, 2 * len(bits) + 2)
            assert ones[k, row, column, d] == int(expected * 65536)
            bits.append(int(codes[k, row, column, d]))


def test_the_adaptive_model_beats_the_static_one_on_smooth_codes(rng):
    codes = smooth_codes(rng, (2, 32, 32, 8))
    static, adaptive = (sum(map(len, encode_codes(codes, model))) for model in models(codes))
    assert adaptive < 0.9 * static


# --- Wrong data.


def test_a_chunk_too_short_for_its_map_is_refused_before_the_walk(rng):
    codes = smooth_codes(rng)
    model = StaticPlanes(np.full((3, 4), 32768))
    chunks = encode_codes(codes, model)
    with pytest.raises(CorruptFile, match="iteration 2 is too short"):
        decode_codes([chunks[0], b""], (7, 9), model)


@pytest.mark.parametrize("tail", [b"\0", b"\1\2\3\4" * 3, b"\0\0\0\0" * 3])
def test_bytes_too_many_are_refused(rng, tail):
    codes = smooth_codes(rng)
    for model in models(codes):
        chunks = encode_codes(codes, model)
        with pytest.raises(CorruptFile):
            decode_codes([chunks[0] + tail], (7, 9), model)


def test_any_wrong_bytes_give_a_typed_error_or_some_codes(rng):
    codes = smooth_codes(rng)
    refused = 0
    for model in models(codes):
        chunk = encode_codes(codes, model)[0]
        for _ in range(40):
            wrong = bytearray(chunk)
            wrong[rng.integers(len(wrong))] ^= int(rng.integers(1, 256))
            try:
                assert decode_codes([bytes(wrong)], (7, 9), model).max() <= 1
            except JaxcodecError:
                refused += 1
    assert refused


def test_more_iterations_than_the_model_has_are_refused(rng):
    codes = smooth_codes(rng)
    for model in models(codes):
        chunks = encode_codes(codes, model)
        with pytest.raises(CorruptFile, match="4 iterations, but at most 3"):
            decode_codes([*chunks, chunks[0]], (7, 9), model)


def test_a_map_beyond_the_memory_limit_is_refused(rng):
    for model in models(smooth_codes(rng)):
        with pytest.raises(TooLarge, match="the limit is 2147483648"):
            decode_codes([b"\0\0\0\0"], (1 << 20, 1 << 20), model)


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((3, 7, 9, 5), np.uint8),
        np.zeros((4, 7, 9, 4), np.uint8),
        np.zeros((7, 9, 4), np.uint8),
        np.zeros((3, 0, 9, 4), np.uint8),
        np.zeros((3, 7, 9, 4), np.float32),
        np.full((3, 7, 9, 4), 2, np.uint8),
    ],
    ids=["bits", "iterations", "rank", "empty", "type", "values"],
)
def test_codes_that_do_not_fit_are_refused(codes):
    with pytest.raises(ValueError, match="codes"):
        encode_codes(codes, AdaptivePlanes(3, 4))
