import itertools

import numpy as np
import pytest

from jaxcodec.coding.class_fitting import fit_classes
from jaxcodec.coding.classes import ClassTables, decode_by_class, encode_by_class
from jaxcodec.coding.ladder import Ladder, fit_ladder, to_symbols
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.rate_distortion import quantise_for_rate
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import CorruptFile

CHANNELS = 4


def draw_latents(rng, height=24, width=20):
    """Laplacian channels whose scale changes from block to block."""
    activity = np.exp(rng.normal(0, 1, (-(-height // 2), -(-width // 2))))
    activity = np.kron(activity, np.ones((2, 2)))[:height, :width, None]
    return (rng.laplace(0, 1, (height, width, CHANNELS)) * activity * [4, 2, 1, 0.3]).astype(np.float32)


def photos(seed=0, number=4):
    rng = np.random.default_rng(seed)
    return [draw_latents(rng) for _ in range(number)]


STEPS = np.geomspace(4, 0.5, 5)[:, None] * np.array([1, 1, 0.8, 0.5])
QUALITIES = np.array([100, 125, 150, 175, 325], np.int32)


@pytest.fixture(scope="module")
def fitted():
    return fit_ladder(
        photos(),
        STEPS.astype(np.float32),
        QUALITIES,
        pixels_per_position=64,
        classes=3,
        block=2,
        first_rounds=4,
    )


def small_tables(channels=2):
    counts = tuple(np.array([60000, 5536 - c, c], np.uint32) for c in range(1, channels + 1))
    return ClassTables((CodingTables(counts, np.zeros(channels, np.int32)),), 1, np.zeros((0, 1), np.uint32))


def small_ladder(**change):
    fields = {
        "steps": np.ones((3, 2), np.float32),
        "qualities": np.array([100, 125, 150], np.int32),
        "bpp": np.array([0.1, 0.2, 0.4], np.float32),
        "weights": np.array([0.0, 6.0, 8.0], np.float32),
        "tables": (small_tables(),) * 3,
    }
    return Ladder(**(fields | change))


def test_symbols_are_rounded_quotients():
    latents = np.array([0.0, 0.5, 1.4, 1.5, -2.6, 2.5], np.float32).reshape(1, 3, 2)
    symbols = to_symbols(latents, np.array([1.0, 0.5], np.float32))
    assert symbols.dtype == np.int32
    assert symbols.ravel().tolist() == [0, 1, 1, 3, -3, 5]
    far = to_symbols(np.array([1e30, -1e30], np.float32).reshape(1, 1, 2), np.full(2, 1e-3, np.float32))
    assert far.ravel().tolist() == [2**20, -(2**20)]


def test_rungs_of_finer_steps_have_higher_rates(fitted):
    assert (np.diff(fitted.bpp) > 0).all()
    np.testing.assert_array_equal(fitted.qualities, QUALITIES)
    assert fitted.steps.dtype == fitted.bpp.dtype == np.float32
    assert len(fitted.tables) == 5


def test_nominal_rate_is_the_mean_of_the_coded_photos(fitted):
    for rung in (0, 4):
        symbols = [to_symbols(y, fitted.steps[rung]) for y in photos()]
        sizes = [len(encode_by_class(each, fitted.tables[rung], get_coder())) for each in symbols]
        pixels = 64 * sum(each.shape[0] * each.shape[1] for each in symbols)
        assert 8 * sum(sizes) / pixels == pytest.approx(fitted.bpp[rung], rel=0.01)


def test_close_rungs_that_begin_with_their_neighbours_classes_are_as_good_as_their_own():
    steps = np.repeat(np.geomspace(2, 1, 8, dtype=np.float32)[:, None], CHANNELS, axis=1)
    ladder = fit_ladder(photos(), steps, np.arange(1, 9), pixels_per_position=64, classes=3, block=2)
    symbols = [to_symbols(y, steps[-1]) for y in photos()]
    alone = fit_classes(symbols, classes=3, block=2)
    bits = [sum(tables.ideal_bits(each) for each in symbols) for tables in (ladder.tables[-1], alone)]
    assert bits[0] < 1.01 * bits[1]


def test_a_ladder_from_its_arrays_writes_the_same_bytes(fitted):
    arrays = fitted.to_arrays()
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "ladder_steps": "float32",
        "ladder_qualities": "int32",
        "ladder_bpp": "float32",
        "ladder_weights": "float32",
        "ladder_counts": "uint16",
        "ladder_lengths": "uint16",
        "ladder_offsets": "int32",
        "ladder_map_counts": "uint16",
        "ladder_maps": "uint16",
        "ladder_block": "uint16",
    }
    again = Ladder.from_arrays(arrays | {"something_else": np.zeros(1)})
    for name in ("steps", "qualities", "bpp", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))
    for rung in range(5):
        symbols = to_symbols(photos(seed=1, number=1)[0], again.steps[rung])
        data = encode_by_class(symbols, again.tables[rung], get_coder())
        assert data == encode_by_class(symbols, fitted.tables[rung], get_coder())
        decoded = decode_by_class(data, symbols.shape, fitted.tables[rung], get_coder())
        np.testing.assert_array_equal(decoded, symbols)
    for name, array in again.to_arrays().items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_ladder_of_one_class_round_trips():
    ladder = small_ladder()
    again = Ladder.from_arrays(ladder.to_arrays())
    assert ladder.to_arrays()["ladder_map_counts"].shape == (1, 0)
    assert again.tables[2].classes[0].counts[1].tolist() == [60000, 5534, 2]


def test_neighbouring_rungs_share_a_map_and_older_ladders_with_one_each_are_read(fitted):
    arrays = fitted.to_arrays()
    assert len(arrays["ladder_map_counts"]) == 1
    assert not arrays.pop("ladder_maps").any()
    arrays["ladder_map_counts"] = np.repeat(arrays["ladder_map_counts"], 5, axis=0)
    again = Ladder.from_arrays(arrays)
    for mine, theirs in zip(again.tables, fitted.tables, strict=True):
        np.testing.assert_array_equal(mine.map_counts, theirs.map_counts)


def test_tables_of_a_rung_are_built_once_and_indexed_as_a_sequence(fitted):
    tables = Ladder.from_arrays(fitted.to_arrays()).tables
    assert tables[3] is tables[3] is tables[-2]
    assert tables[1:3] == (tables[1], tables[2])
    assert len(list(tables)) == 5
    with pytest.raises(IndexError):
        tables[5]


def test_a_broken_rung_is_named_when_it_is_used_and_spoils_no_other(fitted):
    arrays = fitted.to_arrays()
    ends = np.cumsum(arrays["ladder_lengths"].sum(axis=(1, 2), dtype=np.int64))
    arrays["ladder_counts"][ends[1]] += 1  # the first count of rung 2
    ladder = Ladder.from_arrays(arrays)
    assert ladder.tables[1].block == ladder.tables[3].block == 2
    for _ in range(2):
        with pytest.raises(CorruptFile, match="rung 2"):
            ladder.tables[2]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": np.ones((3, 2))}, "steps"),
        ({"steps": np.ones((2, 2), np.float32)}, "steps"),
        ({"steps": np.ones(3, np.float32)}, "steps"),
        ({"steps": np.array(1, np.float32)}, "steps"),
        ({"steps": np.zeros((3, 2), np.float32)}, "steps"),
        ({"steps": np.full((3, 2), np.inf, np.float32)}, "steps"),
        ({"steps": np.full((3, 2), np.nan, np.float32)}, "steps"),
        ({"steps": np.ones((3, 4), np.float32)}, "channels"),
        ({"qualities": np.array([100, 125, 150])}, "qualities"),
        ({"qualities": np.array([100, 125], np.int32)}, "qualities"),
        ({"qualities": np.array([100, 100, 150], np.int32)}, "qualities"),
        ({"qualities": np.array([0, 125, 150], np.int32)}, "qualities"),
        ({"bpp": np.array([0.1, 0.2], np.float32)}, "bpp"),
        ({"bpp": np.array([0.1, np.nan, 0.3], np.float32)}, "bpp"),
        ({"bpp": np.array([-0.1, 0.2, 0.3], np.float32)}, "bpp"),
        ({"weights": np.array([0.0, 6.0], np.float32)}, "weights"),
        ({"weights": np.array([0.0, 6.0, np.inf], np.float32)}, "weights"),
        ({"weights": np.array([0.0, 6.0, -8.0], np.float32)}, "weights"),
        ({"weights": np.array([0.0, 6.0, 8.0])}, "weights"),
        ({"tables": ()}, "steps"),
        ({"tables": (small_tables(2), small_tables(2), small_tables(3))}, "channels"),
    ],
)
def test_wrong_fields_raise_corrupt_file_naming_the_field(change, field):
    with pytest.raises(CorruptFile, match=rf"ladder.*{field}.*export"):
        small_ladder(**change)


def test_rungs_of_different_numbers_of_classes_are_refused():
    one = small_tables()
    two = ClassTables(one.classes * 2, 1, np.full((3, 2), 32768, np.uint32))
    with pytest.raises(CorruptFile, match="classes"):
        small_ladder(tables=(one, one, two))


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in small_ladder().to_arrays() if name != "ladder_maps"),
        {"ladder_counts": np.ones(17, np.uint16)},
        {"ladder_counts": np.ones(18, np.int32)},
        {"ladder_lengths": np.zeros((0, 1, 2), np.uint16)},
        {"ladder_lengths": np.full((3, 2), 3, np.uint16)},
        {"ladder_lengths": np.full((3, 1, 3), 2, np.uint16)},
        {"ladder_offsets": np.zeros((3, 2, 1), np.int32)},
        {"ladder_map_counts": np.zeros((0, 0), np.uint16)},
        {"ladder_maps": np.zeros(2, np.uint16)},
        {"ladder_maps": np.zeros(3, np.int32)},
        {"ladder_maps": np.full(3, 3, np.uint16)},
        {"ladder_block": np.ones(2, np.uint16)},
        {"ladder_block": np.ones(3, np.int32)},
        {"ladder_steps": np.ones((3, 3), np.float32)},
        {"ladder_steps": np.ones((2, 2), np.float32), "ladder_qualities": np.array([1, 2], np.int32)},
    ],
)
def test_wrong_arrays_raise_corrupt_file(change):
    arrays = small_ladder().to_arrays() | change
    with pytest.raises(CorruptFile, match=r"ladder.*export"):
        Ladder.from_arrays({name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    "change",
    [{"ladder_map_counts": np.ones((3, 2), np.uint16)}, {"ladder_block": np.zeros(3, np.uint16)}],
)
def test_wrong_content_of_a_rung_raises_corrupt_file_when_used(change):
    ladder = Ladder.from_arrays(small_ladder().to_arrays() | change)
    with pytest.raises(CorruptFile, match=r"rung 0.*export"):
        ladder.tables[0]


def test_fitting_is_deterministic(fitted):
    again = fit_ladder(
        photos(), fitted.steps, QUALITIES, pixels_per_position=64, classes=3, block=2, first_rounds=4
    )
    for (name, one), other in zip(fitted.to_arrays().items(), again.to_arrays().values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_a_ladder_quantises_with_the_weight_and_the_tables_of_its_rung(fitted):
    latents = photos(seed=1, number=1)[0]
    weighted = Ladder(
        fitted.steps, fitted.qualities, fitted.bpp, np.array([0, 1, 4, 9, 1e6], np.float32), fitted.tables
    )
    for rung in (0, 4):  # without a weight, and with one beyond all bits
        np.testing.assert_array_equal(
            weighted.quantise(latents, rung), to_symbols(latents, fitted.steps[rung])
        )
    for rung in (1, 2, 3):
        scaled = latents / fitted.steps[rung]
        expected = quantise_for_rate(scaled, fitted.tables[rung], float(weighted.weights[rung]))
        np.testing.assert_array_equal(weighted.quantise(latents, rung), expected)
        assert (expected != to_symbols(latents, fitted.steps[rung])).any()


def test_fitting_with_a_weight_lowers_the_rate_and_the_cost(fitted):
    weight, steps = 6.0, fitted.steps[2:4]
    ladders = [
        fit_ladder(photos(), steps, QUALITIES[:2], pixels_per_position=64, classes=3, block=2, weight=w)
        for w in (0.0, weight)
    ]
    plain, weighted = ladders
    np.testing.assert_array_equal(weighted.weights, np.full(2, weight, np.float32))
    assert (weighted.bpp < plain.bpp).all()
    for rung in range(2):
        costs = []
        for ladder in ladders:
            symbols = [ladder.quantise(y, rung) for y in photos()]
            bits = sum(ladder.tables[rung].ideal_bits(each) for each in symbols)
            pixels = 64 * sum(each.shape[0] * each.shape[1] for each in symbols)
            assert bits / pixels == pytest.approx(ladder.bpp[rung], rel=1e-5)
            error = sum(np.square(y / steps[rung] - q).sum() for y, q in zip(photos(), symbols, strict=True))
            costs.append(bits + weight * error)
        assert costs[1] < costs[0]


def test_more_classes_cost_fewer_bits():
    steps = STEPS[2:4].astype(np.float32)
    rates = [
        fit_ladder(photos(), steps, QUALITIES[:2], pixels_per_position=64, classes=classes, block=2).bpp
        for classes in (1, 2, 4)
    ]
    assert all((after < before).all() for before, after in itertools.pairwise(rates))


@pytest.mark.parametrize(
    "change",
    [
        {"latents": []},
        {"latents": [np.zeros((2, 2, CHANNELS))]},
        {"latents": [np.zeros((2, 2, 3), np.float32)]},
        {"latents": [np.full((2, 2, CHANNELS), np.nan, np.float32)]},
        {"steps": np.zeros((5, CHANNELS), np.float32)},
        {"steps": np.ones((4, CHANNELS), np.float32)},
        {"pixels_per_position": 0},
    ],
)
def test_what_cannot_be_fitted_is_refused(change):
    right = {"latents": photos(number=1), "steps": STEPS.astype(np.float32), "pixels_per_position": 64}
    with pytest.raises(ValueError, match="must"):
        fit_ladder(**(right | change), qualities=QUALITIES, classes=2, block=2)
