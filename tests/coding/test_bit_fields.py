import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcodec.coding.bit_fields import pack_fields, packed_size, unpack_fields
from jaxcodec.errors import CorruptFile


def packed_by_text(values, width):
    """The same as a text of zeros and ones."""
    bits = "".join(f"{value:0{width}b}" for value in values) if width else ""
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def test_fields_lie_in_order_with_the_most_significant_bit_first():
    # 101 010 111 | 000 001 -> 10101011 10000010
    assert pack_fields(np.array([5, 2, 7, 0, 1], np.uint8), 3) == bytes([0b10101011, 0b10000010])


@given(st.data(), st.integers(0, 8))
@settings(deadline=None)
def test_any_numbers_round_trip_and_equal_the_text_of_their_bits(data, width):
    values = np.array(data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=70)), np.uint8)
    packed = pack_fields(values, width)
    assert packed == packed_by_text(values, width)
    assert len(packed) == packed_size(len(values), width)
    np.testing.assert_array_equal(unpack_fields(packed, len(values), width), values)


@pytest.mark.parametrize("change", [-1, 1])
def test_another_number_of_bytes_raises_corrupt_file(change):
    with pytest.raises(CorruptFile, match="10 numbers of 6 bits"):
        unpack_fields(bytes(8 + change), 10, 6)


def test_a_bit_after_the_last_field_raises_corrupt_file():
    for bit in range(4):  # 10 fields of 6 bits leave 4
        with pytest.raises(CorruptFile, match="after the last"):
            unpack_fields(bytes(7) + bytes([1 << bit]), 10, 6)
