"""Rate-distortion optimised quantisation against plain rounding and against every choice there is."""

import itertools

import numpy as np
import pytest

from jaxcodec.coding.classes import ClassTables, choose_classes, class_positions
from jaxcodec.coding.rate_distortion import quantise_for_rate
from jaxcodec.coding.tables import CodingTables
from tests.coding.examples import random_counts, random_tables, two_classes

CHANNELS = 5


def tables_of(seed, classes, block=2):
    rng = np.random.default_rng(seed)
    rows = [random_counts(rng, classes, 1.0) for _ in range(classes + 1)] if classes > 1 else []
    return ClassTables(
        tuple(random_tables(rng, CHANNELS, tail=1e-3) for _ in range(classes)),
        block,
        np.array(rows, np.uint32).reshape(-1, classes),
    )


def latents_of(seed, height=9, width=7, scale=2.0):
    return np.random.default_rng(seed).laplace(0, scale, (height, width, CHANNELS)).astype(np.float32)


def map_of_positions(scaled, tables):
    """The class of each position, `[h * w]`: the best one of the nearest integers."""
    classes = choose_classes(np.rint(scaled).astype(np.int32), tables)
    plane = np.zeros(scaled.shape[0] * scaled.shape[1], int)
    for number, where in class_positions(classes, tables.block, scaled.shape[:2]):
        plane[where] = number
    return plane


def symbol_cost(z, q, channel, table, weight):
    """weight (z - q)^2 + bits, with the bits of one symbol from `CodingTables.ideal_bits`."""
    alone = CodingTables((table.counts[channel],), table.offsets[channel : channel + 1])
    return weight * (float(z) - q) ** 2 + alone.ideal_bits(np.full((1, 1, 1), q, np.int32))


def costs(scaled, symbols, tables, weight):
    """The cost of each symbol under the map of the nearest integers."""
    flat, chosen = scaled.reshape(-1, CHANNELS), symbols.reshape(-1, CHANNELS)
    return np.array(
        [
            [
                symbol_cost(flat[i, c], int(chosen[i, c]), c, tables.classes[number], weight)
                for c in range(CHANNELS)
            ]
            for i, number in enumerate(map_of_positions(scaled, tables))
        ]
    )


@pytest.mark.parametrize(("classes", "weight"), [(1, 0.5), (1, 6.0), (3, 0.5), (3, 6.0)])
def test_no_symbol_costs_more_than_the_nearest_integer(classes, weight):
    scaled, tables = latents_of(1), tables_of(classes, classes)
    nearest = np.rint(scaled).astype(np.int32)
    chosen = quantise_for_rate(scaled, tables, weight)
    assert chosen.dtype == np.int32
    assert chosen.shape == scaled.shape
    before, after = (costs(scaled, symbols, tables, weight) for symbols in (nearest, chosen))
    assert (after <= before + 1e-4).all()
    assert after.sum() < before.sum()
    # Choosing the map anew for the new symbols only helps.
    squares = [weight * np.square(scaled - symbols).sum(dtype=float) for symbols in (nearest, chosen)]
    assert tables.ideal_bits(chosen) + squares[1] < tables.ideal_bits(nearest) + squares[0]


@pytest.mark.parametrize("weight", [0.1, 2.0, 9.0])
def test_symbols_lie_between_zero_and_the_nearest_integer(weight):
    scaled = latents_of(2, scale=3.0)
    nearest, chosen = np.rint(scaled).astype(np.int32), quantise_for_rate(scaled, tables_of(5, 2), weight)
    assert (np.abs(chosen) <= np.abs(nearest)).all()
    assert (chosen * nearest >= 0).all()
    assert (chosen != nearest).any()


def test_a_large_weight_is_plain_rounding_and_a_small_one_gives_up_what_costs_most():
    scaled, tables = latents_of(3), tables_of(6, 2)
    np.testing.assert_array_equal(quantise_for_rate(scaled, tables, 1e5), np.rint(scaled).astype(np.int32))
    counts = [np.count_nonzero(quantise_for_rate(scaled, tables, weight)) for weight in (8.0, 1.0, 0.05)]
    assert counts[0] > counts[1] > counts[2]


def test_a_latent_halfway_becomes_the_cheaper_neighbour_whatever_the_weight():
    # 1 and -1 are in the table, 2 and -2 are not; both are as far from a latent of 1.5.
    scaled = np.array([0.1, 1.5, 0.9, -1.5], np.float32).reshape(2, 2, 1)
    assert quantise_for_rate(scaled, two_classes(), 1e5).ravel().tolist() == [0, 1, 1, -1]


@pytest.mark.parametrize("weight", [0.3, 3.0])
def test_nothing_between_zero_and_the_nearest_integer_is_cheaper_where_there_are_three_choices(weight):
    # Latents within 2.5 steps: nearest, one less and zero are all the integers between, so it is the optimum.
    rng = np.random.default_rng(7)
    scaled, tables = rng.uniform(-2.5, 2.5, (2, 3, CHANNELS)).astype(np.float32), tables_of(8, 2, block=1)
    chosen = quantise_for_rate(scaled, tables, weight).reshape(-1, CHANNELS)
    flat = scaled.reshape(-1, CHANNELS)
    for (i, number), c in itertools.product(enumerate(map_of_positions(scaled, tables)), range(CHANNELS)):
        z, nearest = flat[i, c], int(np.rint(flat[i, c]))
        choices = range(min(0, nearest), max(0, nearest) + 1)
        by_cost = {q: symbol_cost(z, q, c, tables.classes[number], weight) for q in choices}
        assert by_cost[int(chosen[i, c])] == pytest.approx(min(by_cost.values()), abs=1e-3)


def test_the_bits_of_any_symbols_are_those_of_the_tables():
    tables, rng = tables_of(9, 3), np.random.default_rng(9)
    symbols = rng.integers(-(2**20), 2**20, (30, CHANNELS)) >> rng.integers(0, 20, (30, CHANNELS))
    symbols = symbols.astype(np.int32)
    for number, table in enumerate(tables.classes):
        expected = [
            [symbol_cost(0.0, int(row[c]), c, table, 0.0) for c in range(CHANNELS)] for row in symbols
        ]
        channels = np.broadcast_to(np.arange(CHANNELS), symbols.shape).ravel()
        bits = tables.symbol_bits(symbols.ravel(), channels, np.full(symbols.size, number))
        np.testing.assert_allclose(bits.reshape(symbols.shape), expected, rtol=1e-5)


def test_a_symbol_outside_of_the_tables_is_kept_only_where_it_is_worth_its_escape():
    # Class 1 codes -1, 0 and 1 in 2 bits each, anything else in 3.6 for the escape and 3 or more for the overflow.
    scaled = np.array([2.0, 1.6, -1000.6, 1000.4], np.float32).reshape(2, 2, 1)
    assert quantise_for_rate(scaled, two_classes(), 6.0).ravel().tolist() == [2, 1, -1001, 1000]
    assert quantise_for_rate(scaled, two_classes(), 3.0).ravel().tolist() == [1, 1, -1001, 1000]
    assert quantise_for_rate(np.zeros((0, 3, 1), np.float32), two_classes(), 6.0).shape == (0, 3, 1)
