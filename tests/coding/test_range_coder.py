import importlib.util

import numpy as np
import pytest

from jaxcodec.coding.range_coder import CODER_IDS, get_coder
from jaxcodec.errors import BadOption, CorruptFile, MissingDependency, UnknownCodec
from tests.coding.examples import random_counts
from tests.coding.python_range_coder import PythonRangeDecoder, PythonRangeEncoder


def draw(rng, counts, n):
    return rng.choice(len(counts), n, p=counts / 65536).astype(np.int32)


def both_encodings(calls):
    encoder, reference = get_coder().encoder(), PythonRangeEncoder()
    for indices, counts in calls:
        encoder.encode(indices, counts)
        for index in indices:
            reference.encode(int(index), counts.tolist())
    return encoder.finish(), reference.finish()


@pytest.mark.parametrize("trial", range(150))
def test_default_coder_writes_the_bytes_of_the_integer_coder(trial):
    rng = np.random.default_rng([1, trial])
    calls = []
    for _ in range(rng.integers(1, 6)):
        counts = random_counts(rng, int(2 ** rng.uniform(1, 10)), rng.uniform(0, 6))
        uniform = rng.random() < 0.3  # symbols that the table thinks improbable, too
        n = int(rng.integers(0, 200))
        calls.append(
            (rng.integers(0, len(counts), n).astype(np.int32) if uniform else draw(rng, counts, n), counts)
        )
    data, reference = both_encodings(calls)
    assert data == reference
    decoder, python_decoder = get_coder().decoder(data), PythonRangeDecoder(data)
    for indices, counts in calls:
        np.testing.assert_array_equal(decoder.decode(counts, len(indices)), indices)
        assert [python_decoder.decode(counts.tolist()) for _ in indices] == indices.tolist()
    decoder.finish()


def test_carries_through_several_words_are_those_of_the_integer_coder():
    # Symbols that keep the interval around the number 0x80000000 00000000 ..., until the last ones decide for
    # 0x7fffffff ffffffff ... or for 0x80000000 00000000 ...; only then can these words be written.
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng([2, seed])
        counts = random_counts(rng, 20, 1.0)
        around = PythonRangeDecoder(b"\0\0\0\x80")
        indices = [around.decode(counts.tolist()) for _ in range(40)] + rng.integers(0, 20, seed % 4).tolist()
        data, reference = both_encodings([(np.array(indices, np.int32), counts)])
        assert data == reference
        seen.add(data[:12].hex())
    assert {"ffffff7f" + "ff" * 8, "00000080" + "00" * 8} <= seen


def test_largest_table_is_exact():
    rng = np.random.default_rng(3)
    counts = np.ones(65535, np.uint32)
    counts[77] = 2
    indices = rng.integers(0, 65535, 50).astype(np.int32)
    data, reference = both_encodings([(indices, counts)])
    assert data == reference
    np.testing.assert_array_equal(get_coder().decoder(data).decode(counts, 50), indices)


@pytest.mark.parametrize("skew", [0.0, 2.0, 6.0])
def test_size_is_the_ideal_code_length(skew):
    rng = np.random.default_rng(4)
    counts = random_counts(rng, 40, skew)
    indices = draw(rng, counts, 200_000)
    encoder = get_coder().encoder()
    encoder.encode(indices, counts)
    ideal = float(np.sum(16 - np.log2(counts[indices]))) / 8
    size = len(encoder.finish())
    assert ideal - 1 <= size <= 1.001 * ideal + 8


def test_one_call_equals_many():
    rng = np.random.default_rng(5)
    counts = random_counts(rng, 9, 1.0)
    indices = draw(rng, counts, 30)
    whole, pieces = get_coder().encoder(), get_coder().encoder()
    whole.encode(indices, counts)
    for part in np.split(indices, [0, 1, 1, 17]):
        pieces.encode(part, counts)
    assert whole.finish() == pieces.finish()


def test_nothing_encoded_is_no_bytes():
    assert get_coder().encoder().finish() == b""
    decoder = get_coder().decoder(b"")
    assert decoder.decode(np.array([1, 65535], np.uint32), 0).shape == (0,)
    decoder.finish()


@pytest.mark.parametrize("index", [-1, 3, 2**31 - 1])
def test_index_outside_the_table_is_refused(index):
    with pytest.raises(BadOption, match="3 entries"):
        get_coder().encoder().encode(np.array([0, index], np.int32), np.array([1, 65534, 1], np.uint32))


@pytest.mark.parametrize("counts", [[65536], [1, 2, 3], [0, 65536], [65535, 2], []])
def test_table_that_is_none_is_refused(counts):
    with pytest.raises(CorruptFile, match="coding table"):
        get_coder().encoder().encode(np.array([0], np.int32), np.array(counts, np.uint32))
    with pytest.raises(CorruptFile, match="coding table"):
        get_coder().decoder(b"").decode(np.array(counts, np.uint32), 1)


def test_bytes_that_are_no_whole_words_are_refused():
    with pytest.raises(CorruptFile, match="words of 4 bytes"):
        get_coder().decoder(b"12345")


def test_bytes_left_over_are_refused():
    rng = np.random.default_rng(6)
    counts = random_counts(rng, 9, 1.0)
    encoder = get_coder().encoder()
    encoder.encode(draw(rng, counts, 100), counts)
    decoder = get_coder().decoder(encoder.finish())
    decoder.decode(counts, 50)
    with pytest.raises(CorruptFile, match="left"):
        decoder.finish()


def test_random_bytes_decode_to_indices_of_the_table_or_raise_corrupt_file():
    rng = np.random.default_rng(7)
    counts = random_counts(rng, 50, 2.0)
    damaged = 0
    for _ in range(2000):
        decoder = get_coder().decoder(b"\xff" * 4 + rng.bytes(8) if rng.random() < 0.5 else rng.bytes(32))
        try:
            indices = decoder.decode(counts, 30)
            assert 0 <= indices.min() <= indices.max() < 50
            decoder.finish()
        except CorruptFile:
            damaged += 1
    assert damaged > 1000


def test_names_and_numbers_of_coders_never_change():
    assert dict(CODER_IDS) == {"constriction": 1, "tfc": 2}
    assert get_coder("constriction").coder_id == get_coder(1).coder_id == 1
    assert get_coder(1).name == "constriction"


@pytest.mark.parametrize("unknown", [0, 3, 255, "ans", ""])
def test_unknown_coder_is_named_with_the_remedy(unknown):
    with pytest.raises(UnknownCodec, match="upgrade"):
        get_coder(unknown)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_compression") is not None, reason="the extra [tfc] is installed"
)
@pytest.mark.parametrize("known_as", ["tfc", 2])
def test_missing_tfc_names_the_extra(known_as):
    with pytest.raises(MissingDependency, match=r"jaxcodec\[tfc\]"):
        get_coder(known_as)
