import itertools

import numpy as np
import pytest

from jaxcodec.coding.tables import CodingTables, quantize_probabilities
from jaxcodec.errors import CorruptFile
from tests.coding.examples import draw_symbols, random_tables


def two_tables(counts=((1, 65535), (100, 65000, 436)), offsets=(-3, 5), dtype=np.uint32):
    return CodingTables(tuple(np.array(table, dtype) for table in counts), np.array(offsets, np.int32))


def code_length(masses, counts):
    used = masses > 0
    return -float(masses[used] @ np.log(counts[used]))


@pytest.mark.parametrize(
    "change",
    [
        {"counts": ((65536,), (1, 65535))},
        {"counts": ((0, 65536), (1, 65535))},
        {"counts": ((1, 65534), (1, 65535))},
        {"counts": ((1, 65536), (1, 65535))},
        {"counts": ((), (1, 65535))},
        {"counts": (((1, 65535),), (1, 65535))},
        {"counts": ((2**31, 2**31, 65536), (1, 65535))},  # adds up modulo 2^32
        {"counts": (), "offsets": ()},
        {"dtype": np.int64},
        {"dtype": np.float64},
        {"offsets": (1,)},
        {"offsets": (1, 2, 3)},
        {"offsets": (0, 2**31 - 2), "counts": ((1, 65535), (1, 1, 1, 65533))},
    ],
)
def test_wrong_tables_raise_corrupt_file(change):
    with pytest.raises(CorruptFile, match=r"coding tables.*export"):
        two_tables(**change)


def test_offsets_of_another_type_raise_corrupt_file():
    with pytest.raises(CorruptFile, match="int32"):
        CodingTables((np.array([1, 65535], np.uint32),), np.array([0.5]))


def test_tables_cannot_be_changed_from_outside():
    counts = np.array([1, 65535], np.uint32)
    tables = CodingTables((counts,), np.zeros(1, np.int32))
    counts[:] = 0
    assert tables.counts[0].tolist() == [1, 65535]
    with pytest.raises(ValueError, match="read-only"):
        tables.counts[0][0] = 2


def test_arrays_round_trip():
    tables = random_tables(np.random.default_rng(0), 12)
    arrays = tables.to_arrays()
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "counts": "uint16",
        "lengths": "uint16",
        "offsets": "int32",
    }
    again = CodingTables.from_arrays(arrays)
    assert len(again.counts) == 12
    for one, other in zip(tables.counts, again.counts, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(tables.offsets, again.offsets)


@pytest.mark.parametrize(
    "change",
    [
        {"counts": None},
        {"lengths": None},
        {"offsets": None},
        {"counts": np.array([1, 65535], np.uint16)},
        {"counts": np.array([1.0, 65535.0, 100.0, 65000.0, 436.0])},
        {"lengths": np.array([3, 2], np.uint16)},
        {"lengths": np.array([0, 5], np.uint16)},
        {"lengths": np.array([], np.uint16)},
        {"lengths": np.array([2, 65535], np.uint16)},
        {"lengths": np.array([[2, 3]], np.uint16)},
        {"offsets": np.array([0], np.int32)},
    ],
)
def test_wrong_arrays_raise_corrupt_file(change):
    arrays = two_tables().to_arrays() | change
    with pytest.raises(CorruptFile, match="coding tables"):
        CodingTables.from_arrays({name: array for name, array in arrays.items() if array is not None})


def test_indices_count_from_the_offset_and_the_escape_is_last():
    tables = two_tables()  # channel 0 holds the symbol -3; channel 1 holds 5 and 6
    symbols = np.array([[[-3, 5], [-2, 6]], [[-5, 7], [100, -2]]], np.int32)
    indices, overflows = tables.to_indices(symbols)
    assert indices.tolist() == [[0, 1, 1, 1], [0, 1, 2, 2]]
    assert overflows.tolist() == [0, -2, 102, 0, -7]
    np.testing.assert_array_equal(tables.from_indices(indices, overflows, 2, 2), symbols)


def test_ideal_bits_count_table_entries_and_exponential_golomb_bits():
    tables = CodingTables((np.array([32768, 16384, 16384], np.uint32),), np.zeros(1, np.int32))
    # 0: 1 bit; 1: 2 bits; outside: 2 bits, a sign, and for distances 0, 1, 2, 3, 6 and 7 prefix and digits of
    # distance + 1 = 1, 2, 3, 4, 7, 8: 1, 3, 3, 5, 5, 7 bits.
    for symbol, bits in ((0, 1), (1, 2), (2, 4), (3, 6), (4, 6), (5, 8), (8, 8), (9, 10), (-1, 4), (-2, 6)):
        assert tables.ideal_bits(np.full((1, 1, 1), symbol, np.int32)) == bits


def test_ideal_bits_are_the_entropy_for_symbols_of_that_frequency():
    tables = CodingTables((np.array([4, 2, 1, 1], np.uint32) * 8192,), np.array([-1], np.int32))
    symbols = np.array([-1, -1, -1, -1, 0, 0, 1], np.int32).reshape(7, 1, 1)
    assert tables.ideal_bits(symbols) == 4 * 1 + 2 * 2 + 3


def test_symbols_of_another_shape_or_type_are_refused():
    tables = two_tables()
    for symbols in (np.zeros((2, 2, 3), np.int32), np.zeros((2, 2), np.int32), np.zeros((2, 2, 2), np.int64)):
        with pytest.raises(ValueError, match="int32"):
            tables.to_indices(symbols)


def test_draws_stay_inside_when_asked():
    rng = np.random.default_rng(1)
    tables = random_tables(rng, 5)
    assert not len(tables.to_indices(draw_symbols(rng, tables, 6, 7))[1])


@pytest.mark.parametrize("trial", range(60))
def test_quantised_probabilities_are_counts_that_no_exchange_improves(trial):
    rng = np.random.default_rng([2, trial])
    length = int(2 ** rng.uniform(0, 8))
    masses = np.exp(rng.uniform(0, 8) * rng.standard_normal(length + 1))
    if trial % 3 == 0:
        masses[rng.random(length + 1) < 0.3] = 0
        masses[0] = 1.0
    masses /= masses.sum()
    counts = quantize_probabilities(masses[:-1], masses[-1])
    assert counts.dtype == np.uint32
    assert counts.min() >= 1
    assert counts.sum() == 65536
    best = code_length(masses, counts)
    for giver, taker in rng.integers(0, length + 1, (200, 2)):
        if counts[giver] > 1 and giver != taker:
            other = counts.copy()
            other[giver] -= 1
            other[taker] += 1
            assert code_length(masses, other) >= best - 1e-13


def test_quantised_probabilities_are_the_best_of_all():
    # All ways to share 65536 counts among three, near the proportional one; the smallest is at its minimum.
    masses = np.array([0.7000033, 0.2999960, 0.0000007])
    counts = quantize_probabilities(masses[:2], masses[2])
    shares = [
        code_length(masses, np.array([a, 65536 - a - c, c]))
        for a, c in itertools.product(range(45860, 45890), range(1, 5))
    ]
    assert code_length(masses, counts) <= min(shares) + 1e-14


def test_quantising_exact_probabilities_is_the_identity():
    counts = np.array([1, 7, 60000, 5528])
    np.testing.assert_array_equal(quantize_probabilities(counts[:-1] / 65536, counts[-1] / 65536), counts)


def test_minimum_counts_are_not_taken_from_one_entry_alone():
    # 1,000 improbable entries need a count each; two equal large ones pay alike.
    masses = np.concatenate([[0.5, 0.5], np.full(999, 1e-12)])
    counts = quantize_probabilities(masses, 1e-12)
    assert counts[2:].tolist() == [1] * 1000
    assert counts[:2].tolist() == [32268, 32268]


def test_extreme_tables_can_be_quantised():
    assert quantize_probabilities(np.array([1.0]), 0.0).tolist() == [65535, 1]
    assert quantize_probabilities(np.array([0.0]), 1.0).tolist() == [1, 65535]
    longest = quantize_probabilities(np.ones(65534), 1.0)
    assert sorted(longest.tolist())[-2:] == [1, 2]


@pytest.mark.parametrize(
    ("masses", "tail"),
    [
        ([], 0.5),
        ([0.0], 0.0),
        ([-0.1, 1], 0.1),
        ([np.nan], 0.1),
        ([np.inf], 0.1),
        ([1.0], -1.0),
        ([1.0] * 65535, 0.0),
    ],
)
def test_masses_that_are_none_are_refused(masses, tail):
    with pytest.raises(ValueError, match=r"table holds|nonnegative"):
        quantize_probabilities(np.array(masses), tail)
