import itertools

import numpy as np
import pytest

from jaxcodec.coding.class_fitting import fit_classes
from jaxcodec.coding.classes import ClassTables
from jaxcodec.coding.tables import CodingTables
from tests.coding.examples import round_trip, two_classes

INT32 = np.iinfo(np.int32)


def probabilities(scale):
    masses = np.exp(-np.abs(np.arange(-40, 41)) / scale)
    return masses / masses.sum()


def entropy(masses):
    return float(-(masses * np.log2(masses)).sum())


SCALES = np.array([[0.2, 0.3, 0.4], [2.0, 3.0, 4.0]])  # of a quiet and a busy block's three channels
STAY = 0.9  # the probability that a block is as the one above


def draw_photo(rng, height, width, block):
    """Blocks that are quiet or busy, each column a Markov chain."""
    rows, columns = -(-height // block), -(-width // block)
    changes = rng.random((rows, columns)) > STAY
    changes[0] = rng.random(columns) < 0.5
    busy = np.kron(np.cumsum(changes, axis=0) % 2, np.ones((block, block), int))[:height, :width]
    photo = np.empty((height, width, 3), np.int32)
    for channel in range(3):
        drawn = [rng.choice(81, (height, width), p=probabilities(scale)) - 40 for scale in SCALES[:, channel]]
        photo[..., channel] = np.where(busy, drawn[1], drawn[0])
    return photo


def test_fitted_classes_come_near_the_entropy_of_a_source_with_two_activities():
    rng = np.random.default_rng(10)
    seen = [draw_photo(rng, 60, 40, 2) for _ in range(8)]
    unseen = [draw_photo(rng, 61, 41, 2) for _ in range(4)]
    tables = fit_classes(seen, classes=2, block=2)
    one = fit_classes(seen, classes=1, block=2)
    positions, blocks = 4 * 61 * 41, 4 * 31 * 21
    conditional = np.mean([[entropy(probabilities(scale)) for scale in row] for row in SCALES], axis=0).sum()
    source = positions * conditional + blocks * entropy(np.array([STAY, 1 - STAY]))
    bits = sum(8 * len(round_trip(photo, tables)) for photo in unseen)
    assert bits < 1.02 * source + 4 * 64
    assert bits < 0.90 * sum(one.ideal_bits(photo) for photo in unseen)
    # Class 0 is the quiet one, and a block is mostly as the one above.
    assert tables.classes[0].ideal_bits(np.zeros((1, 1, 3), np.int32)) < 3
    assert tables.map_counts[0, 0, 0] > 0.85 * 65536
    assert tables.map_counts[1, 1, 1] > 0.85 * 65536


def test_rounds_never_cost_bits_of_the_training_photos():
    rng = np.random.default_rng(11)
    photos = [draw_photo(rng, 24, 24, 1) for _ in range(3)]
    bits = []
    for rounds in range(5):
        tables = fit_classes(photos, classes=4, block=2, rounds=rounds)
        bits.append(sum(tables.ideal_bits(photo) for photo in photos))
    assert all(after <= 1.002 * before for before, after in itertools.pairwise(bits))
    assert bits[-1] < bits[0]


def test_fitting_is_deterministic_and_goes_on_from_a_start():
    rng = np.random.default_rng(12)
    photos = [draw_photo(rng, 20, 20, 2) for _ in range(3)]
    three = fit_classes(photos, classes=3, block=2, rounds=3)
    again = fit_classes(photos, classes=3, block=2, rounds=3)
    for name, array in three.to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[name])
    swapped = ClassTables(three.classes[::-1], 2, np.full((4, 3), [21845, 21845, 21846], np.uint32))
    on = fit_classes(photos, classes=3, block=2, rounds=2, start=swapped)
    zero = np.zeros((1, 1, 3), np.int32)
    costs = [each.ideal_bits(zero) for each in on.classes]
    assert costs[0] > costs[2]  # the order of the start, the busiest first
    total = [sum(tables.ideal_bits(photo) for photo in photos) for tables in (on, three)]
    assert total[0] == pytest.approx(total[1], rel=0.02)


def test_a_class_that_loses_all_blocks_keeps_its_tables():
    rng = np.random.default_rng(13)
    photos = [draw_photo(rng, 16, 16, 2)]
    useless = CodingTables(
        tuple(np.array([65000, 536], np.uint32) for _ in range(3)), np.full(3, 5000, np.int32)
    )
    start = ClassTables(
        (*fit_classes(photos, classes=1, block=2).classes, useless), 2, np.full((3, 2), 32768, np.uint32)
    )
    fitted = fit_classes(photos, classes=2, block=2, start=start).classes[1]
    for one, other in zip(fitted.counts, useless.counts, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(fitted.offsets, useless.offsets)


def test_more_classes_than_blocks_can_be_fitted():
    photo = draw_photo(np.random.default_rng(14), 3, 2, 1)
    round_trip(photo, fit_classes([photo], classes=4, block=2))


def test_counts_are_smoothed_histograms():
    # 6 zeros, 3 ones and 1 two, and half an occurrence for each and for the escape: 6.5, 3.5, 1.5, 0.5 of 12.
    symbols = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], np.int32).reshape(1, 10, 1)
    tables = fit_classes([symbols], classes=1, block=1, smoothing=0.5, least_occurrences=0.0)
    [counts] = tables.classes[0].counts
    np.testing.assert_allclose(counts / 65536, np.array([6.5, 3.5, 1.5, 0.5]) / 12, atol=2e-5)
    assert tables.classes[0].offsets.tolist() == [0]


def test_rare_symbols_far_from_the_others_go_to_the_escape():
    rng = np.random.default_rng(15)
    symbols = rng.integers(-2, 3, (40, 40, 2)).astype(np.int32)
    symbols[0, :3, 0] = 90, -70, INT32.max
    symbols[0, 0, 1] = INT32.min
    tables = fit_classes([symbols], classes=1, block=1).classes[0]
    assert tables.sizes.tolist() == [5, 5]
    assert tables.offsets.tolist() == [-2, -2]
    assert tables.counts[0][-1] > tables.counts[1][-1] > 16
    round_trip(symbols, fit_classes([symbols], classes=3, block=2))


@pytest.mark.parametrize(
    "change",
    [
        {"symbols": []},
        {"symbols": [np.zeros((2, 2, 3), np.int64)]},
        {"symbols": [np.zeros((2, 2, 3), np.int32), np.zeros((2, 2, 2), np.int32)]},
        {"symbols": [np.zeros((0, 2, 3), np.int32)]},
        {"classes": 0},
        {"classes": 256},
        {"block": 0},
        {"rounds": -1},
        {"smoothing": 0.0},
        {"start": two_classes()},
    ],
)
def test_what_cannot_be_fitted_is_refused(change):
    right = {"symbols": [np.zeros((4, 4, 3), np.int32)], "classes": 2, "block": 1}
    with pytest.raises(ValueError, match="must"):
        fit_classes(**(right | change))
