import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcodec.coding.classes import ClassTables, choose_classes, decode_by_class, encode_by_class
from jaxcodec.coding.latents import encode_latents
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import CorruptFile
from tests.coding.examples import draw_symbols, random_counts, random_tables, round_trip, two_classes
from tests.coding.python_range_coder import PythonRangeEncoder

INT32 = np.iinfo(np.int32)
NO_MAP = np.zeros((0, 1), np.uint32)


def random_classes(rng, number, channels, block, tail=1e-4):
    rows = [random_counts(rng, number, 1.0) for _ in range(number + 1)] if number > 1 else NO_MAP
    return ClassTables(
        tuple(random_tables(rng, channels, tail) for _ in range(number)),
        block,
        np.array(rows),
    )


def draw_from_classes(rng, tables, height, width, outside=0.0):
    """Symbols whose blocks have the frequencies of classes picked at random."""
    drawn = np.stack([draw_symbols(rng, each, height, width, outside) for each in tables.classes])
    blocks = rng.integers(0, len(tables.classes), (height, width))[:: tables.block, :: tables.block]
    plane = np.kron(blocks, np.ones((tables.block, tables.block), int))[:height, :width]
    return np.take_along_axis(drawn, plane[None, :, :, None], axis=0)[0]


def bits_of_blocks(symbols, tables):
    """Bits `[bh, bw, K]` of each block in each class, one by one, by `CodingTables.ideal_bits`."""
    side = tables.block
    tops, lefts = range(0, symbols.shape[0], side), range(0, symbols.shape[1], side)
    blocks = [[symbols[top : top + side, left : left + side] for left in lefts] for top in tops]
    return np.array([[[each.ideal_bits(b) for each in tables.classes] for b in row] for row in blocks])


def bits_with_map(block_bits, tables, classes):
    bits = 0.0
    for (row, column), number in np.ndenumerate(classes):
        context = classes[row - 1, column] if row else len(tables.classes)
        bits += block_bits[row, column, number] + 16 - np.log2(tables.map_counts[context, number])
    return bits


@pytest.mark.parametrize("outside", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(("number", "block"), [(1, 2), (2, 3), (8, 1), (8, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (32, 24)])
def test_symbols_round_trip_within_a_thousandth_of_the_ideal_size(shape, number, block, outside):
    rng = np.random.default_rng(0)
    tables = random_classes(rng, number, 12, block)
    symbols = draw_from_classes(rng, tables, *shape, outside=outside)
    ideal = tables.ideal_bits(symbols) / 8
    assert ideal - 1 <= len(round_trip(symbols, tables)) <= 1.001 * ideal + 8


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_int32_in_any_shape_round_trips(data):
    height, width, channels = (data.draw(st.integers(0, limit)) for limit in (5, 5, 2))
    channels += 1
    number, block = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    tables = random_classes(
        np.random.default_rng(data.draw(st.integers(0, 99))), number, channels, block, tail=0.1
    )
    values = st.one_of(st.integers(-3, 3), st.integers(INT32.min, INT32.max))
    size = height * width * channels
    symbols = np.array(data.draw(st.lists(values, min_size=size, max_size=size)), np.int32)
    round_trip(symbols.reshape(height, width, channels), tables)


def test_one_class_gives_the_bytes_of_plain_latents():
    rng = np.random.default_rng(1)
    for shape, outside in (((9, 7), 0.05), ((1, 1), 0.0), ((0, 4), 0.0)):
        tables = random_tables(rng, 6)
        symbols = draw_symbols(rng, tables, *shape, outside=outside)
        alone = ClassTables((tables,), 2, NO_MAP)
        assert round_trip(symbols, alone) == encode_latents(symbols, tables, get_coder())
        assert not choose_classes(symbols, alone).any()
        assert alone.ideal_bits(symbols) == pytest.approx(tables.ideal_bits(symbols), rel=1e-6)
        assert alone.least_bits(5, 7) == pytest.approx(35 * tables.least_bits())


def test_stream_is_map_then_classes_then_overflows():
    # Written out symbol by symbol with the integer coder.
    tables = two_classes(map_counts=((40000, 25536), (30000, 35536), (45000, 20536)))
    symbols = np.array([[0, 1, 0], [9, -1, 0], [1, 1, 0]], np.int32)[..., None]
    classes = np.array([[0, 1, 0], [1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(choose_classes(symbols, tables), classes)
    reference = PythonRangeEncoder()
    rows = tables.map_counts.tolist()
    for index in (0, 1, 0):  # the top row
        reference.encode(index, rows[2])
    for index in (1, 0):  # the second row: below class 0 are the first and the last block
        reference.encode(index, rows[0])
    reference.encode(1, rows[1])
    reference.encode(0, rows[0])
    for index in (1, 1):
        reference.encode(index, rows[1])
    for symbol in (0, 0, 0, 0):
        reference.encode(symbol, [65000, 536])
    for index in (2, 3, 0, 2, 2):  # 1, the escape of 9, -1, 1, 1
        reference.encode(index, [20000, 20000, 20000, 5536])
    # 9 is 7 above the table, so distance + 1 is 1000 in binary: sign, three times more, stop, three digits.
    for bit in "0" + "1110" + "000":
        reference.encode(int(bit), [32768, 32768])
    assert round_trip(symbols, tables) == reference.finish()


def test_bytes_of_a_fixed_array_never_change():
    # Made by this test when the stream was defined. Another value means that old files no longer decode.
    n = np.arange(16 * 15)
    symbols = ((n * n * 7 + n) % 3 - 1) * (n % 15 < 7) + 1000 * (n == 17)
    data = round_trip(symbols.astype(np.int32).reshape(16, 15, 1), two_classes(block=2))
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == (36, "762187487ca1bf89")


def test_no_other_map_needs_fewer_bits():
    rng = np.random.default_rng(2)
    for _ in range(5):
        tables = random_classes(rng, 2, 2, 2, tail=0.05)
        symbols = draw_from_classes(rng, tables, 5, 6, outside=0.1)  # 3 x 3 blocks
        every_map = (np.reshape(each, (3, 3)) for each in itertools.product(range(2), repeat=9))
        block_bits = bits_of_blocks(symbols, tables)
        best = min(bits_with_map(block_bits, tables, classes) for classes in every_map)
        chosen = choose_classes(symbols, tables)
        assert chosen.shape == (3, 3)
        assert bits_with_map(block_bits, tables, chosen) == pytest.approx(best, rel=1e-6)
        assert tables.ideal_bits(symbols) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("offset", [INT32.min, -5, INT32.max - 3])
def test_code_lengths_of_symbols_far_outside_are_exact(offset):
    counts = (np.array([20000, 20000, 25000, 536], np.uint32),)
    near = CodingTables(counts, np.zeros(1, np.int32))
    tables = ClassTables(
        (near, CodingTables(counts, np.array([offset], np.int32))), 1, np.full((3, 2), 32768, np.uint32)
    )
    extremes = [INT32.min, INT32.min + 1, -(2**20), -70000, -1, 0, 3, 65535, 65536, 2**30, INT32.max]
    for symbol in extremes:
        symbols = np.full((1, 1, 1), symbol, np.int32)
        expected = 1 + min(each.ideal_bits(symbols) for each in tables.classes)
        assert tables.ideal_bits(symbols) == pytest.approx(expected, rel=1e-6)


def test_equal_classes_give_the_lowest():
    tables = random_tables(np.random.default_rng(3), 4)
    equal = ClassTables((tables,) * 4, 2, np.full((5, 4), 16384, np.uint32))
    assert not choose_classes(draw_symbols(np.random.default_rng(4), tables, 8, 8), equal).any()


def test_no_symbols_need_fewer_than_the_least_bits():
    rng = np.random.default_rng(5)
    for number, block in ((1, 1), (3, 2), (4, 3)):
        tables = random_classes(rng, number, 3, block)
        likeliest = [
            [
                offset + int(counts[:-1].argmax())
                for counts, offset in zip(each.counts, each.offsets, strict=True)
            ]
            for each in tables.classes
        ]
        for height, width in ((1, 1), (5, 4), (6, 6)):
            least = tables.least_bits(height, width)
            assert least > 0
            for symbols in likeliest:
                plane = np.broadcast_to(np.array(symbols, np.int32), (height, width, 3))
                assert tables.ideal_bits(plane) >= least - 1e-3
    assert tables.least_bits(0, 5) == 0
    assert tables.least_bits(2**40, 2**40) > 2**70  # nothing of that size is made


def test_least_bits_are_reached():
    # Every position is 0 in class 0, and the map's rows are alike.
    tables = two_classes(block=2, map_counts=((60000, 5536),) * 3)
    symbols = np.zeros((5, 7, 1), np.int32)
    expected = 35 * (16 - np.log2(65000)) + 12 * (16 - np.log2(60000))
    assert tables.least_bits(5, 7) == pytest.approx(expected)
    assert tables.ideal_bits(symbols) == pytest.approx(expected)


def test_other_bytes_raise_corrupt_file_or_give_the_right_shape():
    rng = np.random.default_rng(6)
    tables = random_classes(rng, 4, 5, 2, tail=0.01)
    symbols = draw_from_classes(rng, tables, 7, 9, outside=0.02)
    data = encode_by_class(symbols, tables, get_coder())
    corrupt = 0
    for _ in range(400):
        changed = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            changed[position] ^= 1 << rng.integers(0, 8)
        cut = changed[: rng.integers(0, len(data) + 1)] if rng.random() < 0.5 else changed
        try:
            assert decode_by_class(bytes(cut), symbols.shape, tables, get_coder()).shape == symbols.shape
        except CorruptFile:
            corrupt += 1
    assert corrupt > 100


def test_bytes_after_the_symbols_are_corrupt():
    rng = np.random.default_rng(7)
    tables = random_classes(rng, 3, 4, 2)
    symbols = draw_from_classes(rng, tables, 6, 6)
    data = encode_by_class(symbols, tables, get_coder())
    with pytest.raises(CorruptFile):
        decode_by_class(data + b"\0\0\0\0" * 4, symbols.shape, tables, get_coder())


def test_symbols_and_shapes_of_other_channels_are_refused():
    tables = two_classes()
    for symbols in (np.zeros((2, 2, 2), np.int32), np.zeros((2, 2), np.int32), np.zeros((2, 2, 1), np.int64)):
        with pytest.raises(ValueError, match="int32"):
            encode_by_class(symbols, tables, get_coder())
    with pytest.raises(ValueError, match="shape"):
        decode_by_class(b"", (1, 1, 2), tables, get_coder())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": ()}, "classes"),
        (
            {
                "classes": (
                    random_tables(np.random.default_rng(8), 1),
                    random_tables(np.random.default_rng(8), 2),
                )
            },
            "classes",
        ),
        ({"classes": two_classes().classes * 128}, "classes"),
        ({"block": 0}, "block"),
        ({"block": 65536}, "block"),
        ({"map_counts": np.full((3, 2), 32768, np.int64)}, "map_counts"),
        ({"map_counts": np.full((2, 2), 32768, np.uint32)}, "map_counts"),
        ({"map_counts": np.full((3, 2), 32767, np.uint32)}, "map_counts"),
        ({"map_counts": np.array([[0, 65536]] * 3, np.uint32)}, "map_counts"),
        ({"map_counts": NO_MAP}, "map_counts"),
        ({"classes": two_classes().classes[:1]}, "map_counts"),
    ],
)
def test_wrong_tables_raise_corrupt_file_naming_the_field(change, field):
    right = {name: getattr(two_classes(), name) for name in ("classes", "block", "map_counts")}
    with pytest.raises(CorruptFile, match=rf"class tables.*{field}.*export"):
        ClassTables(**(right | change))


def test_the_map_cannot_be_changed_from_outside():
    counts = np.full((3, 2), 32768, np.uint32)
    tables = ClassTables(two_classes().classes, 1, counts)
    counts[:] = 0
    assert tables.map_counts.all()
    with pytest.raises(ValueError, match="read-only"):
        tables.map_counts[0] = 0


@pytest.mark.parametrize("number", [1, 3])
def test_arrays_round_trip(number):
    rng = np.random.default_rng(9)
    tables = random_classes(rng, number, 5, 3)
    arrays = tables.to_arrays()
    kinds = {name: str(array.dtype) for name, array in arrays.items()}
    assert kinds.pop("offsets") == "int32"
    assert kinds == dict.fromkeys(("counts", "lengths", "map_counts", "classes", "block"), "uint16")
    assert all(array.ndim == 1 for array in arrays.values())
    symbols = draw_from_classes(rng, tables, 8, 8, outside=0.01)
    again = ClassTables.from_arrays(arrays)
    assert again.block == 3
    assert encode_by_class(symbols, again, get_coder()) == encode_by_class(symbols, tables, get_coder())


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in two_classes().to_arrays()),
        {"classes": np.array([0], np.uint16)},
        {"classes": np.array([3], np.uint16)},
        {"classes": np.array([1], np.uint16)},
        {"classes": np.array([2, 2], np.uint16)},
        {"classes": np.array([2], np.int32)},
        {"block": np.array([0], np.uint16)},
        {"block": np.array([], np.uint16)},
        {"map_counts": np.full(4, 32768, np.uint16)},
        {"map_counts": np.full(6, 32768.0)},
        {"map_counts": np.full(6, 1, np.uint16)},
        {"counts": np.ones(6, np.uint16)},
        {"lengths": np.array([2, 3], np.uint16)},
        {"lengths": np.array([], np.uint16)},
        {"lengths": np.array([2, 2, 2], np.uint16)},
        {"offsets": np.array([0], np.int32)},
        {"offsets": np.array([0, 0, 0], np.int32)},
        {"offsets": np.array([0.0, 0.0])},
    ],
)
def test_wrong_arrays_raise_corrupt_file(change):
    arrays = two_classes().to_arrays() | change
    with pytest.raises(CorruptFile, match=r"(class|coding) tables.*export"):
        ClassTables.from_arrays({name: array for name, array in arrays.items() if array is not None})


def by_two_neighbours(rng, number, channels, block):
    """Random classes whose map is coded by the classes above and to the left."""
    rows = [random_counts(rng, number, 1.0) for _ in range((number + 1) ** 2)]
    tables = random_classes(rng, number, channels, block)
    return ClassTables(tables.classes, block, np.reshape(rows, (number + 1, number + 1, number)))


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (1, 9), (9, 1), (32, 24)])
@pytest.mark.parametrize(("number", "block"), [(2, 3), (8, 1)])
def test_symbols_whose_map_goes_by_two_neighbours_round_trip_within_a_thousandth_of_the_ideal_size(
    shape, number, block
):
    rng = np.random.default_rng(4)
    tables = by_two_neighbours(rng, number, 6, block)
    symbols = draw_from_classes(rng, tables, *shape, outside=0.01)
    ideal = tables.ideal_bits(symbols) / 8
    assert ideal - 1 <= len(round_trip(symbols, tables)) <= 1.001 * ideal + 8
    assert 8 * ideal >= tables.least_bits(*shape)
    again = ClassTables.from_arrays(tables.to_arrays())
    np.testing.assert_array_equal(again.map_counts, tables.map_counts)


def test_a_map_by_two_neighbours_is_coded_block_by_block():
    rng = np.random.default_rng(5)
    tables = by_two_neighbours(rng, 2, 1, 1)
    symbols = draw_from_classes(rng, tables, 3, 4)
    classes = choose_classes(symbols, tables)
    assert len(np.unique(classes)) == 2
    reference = PythonRangeEncoder()
    for (row, column), number in np.ndenumerate(classes):
        above = classes[row - 1, column] if row else 2
        left = classes[row, column - 1] if column else 2
        reference.encode(int(number), tables.map_counts[above, left].tolist())
    for number, each in enumerate(tables.classes):
        for symbol in symbols[classes == number, 0]:
            reference.encode(int(symbol - each.offsets[0]), each.counts[0].tolist())
    assert round_trip(symbols, tables) == reference.finish()


def test_no_single_column_of_a_map_by_two_neighbours_can_be_chosen_better():
    rng = np.random.default_rng(6)
    for _ in range(5):
        tables = by_two_neighbours(rng, 2, 2, 1)
        symbols = draw_from_classes(rng, tables, 4, 5)
        chosen = choose_classes(symbols, tables)
        block_bits = bits_of_blocks(symbols, tables)

        def bits(classes, tables=tables, block_bits=block_bits):
            total = 0.0
            for (row, column), number in np.ndenumerate(classes):
                above = classes[row - 1, column] if row else 2
                left = classes[row, column - 1] if column else 2
                total += block_bits[row, column, number] + 16
                total -= np.log2(tables.map_counts[above, left, number])
            return total

        best = bits(chosen)
        assert tables.ideal_bits(symbols) == pytest.approx(best, rel=1e-6)
        for column in (1, 3):  # those chosen last
            for other in itertools.product(range(2), repeat=4):
                changed = chosen.copy()
                changed[:, column] = other
                assert bits(changed) >= best - 1e-3
