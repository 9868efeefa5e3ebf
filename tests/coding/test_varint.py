import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcodec.coding.varint import decode_varint, encode_varint
from jaxcodec.errors import BadOption, CorruptFile, TruncatedFile


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (16383, "ff7f"), (2**64 - 1, "ff" * 9 + "01")],
)
def test_bytes_are_those_of_leb128(value, encoded):
    # 300 -> AC 02 is the example of the Protocol Buffers documentation ("Base 128 Varints").
    assert encode_varint(value).hex() == encoded
    assert decode_varint(bytes.fromhex(encoded), 0, "n") == (value, len(encoded) // 2)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=4), st.binary(max_size=4))
@settings(deadline=None)
def test_values_round_trip_anywhere(value, before, after):
    encoded = encode_varint(value)
    assert decode_varint(before + encoded + after, len(before), "n") == (value, len(before) + len(encoded))


@given(st.binary(max_size=12))
@settings(deadline=None)
def test_any_bytes_are_canonical_or_refused(data):
    try:
        value, end = decode_varint(data, 0, "n")
    except (CorruptFile, TruncatedFile):
        return
    assert encode_varint(value) == data[:end]


@given(st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_every_cut_is_truncated(value):
    encoded = encode_varint(value)
    for end in range(len(encoded)):
        with pytest.raises(TruncatedFile, match="'n'"):
            decode_varint(encoded[:end], 0, "n")


@pytest.mark.parametrize(
    "encoded", ["8000", "ff00", "ff" * 9 + "02", "ff" * 10, "80" * 9 + "00", "ff" * 10 + "01"]
)
def test_overlong_and_oversized_forms_are_corrupt(encoded):
    with pytest.raises(CorruptFile, match="'n'"):
        decode_varint(bytes.fromhex(encoded), 0, "n")


@pytest.mark.parametrize("value", [-1, 2**64])
def test_values_outside_64_bits_cannot_be_written(value):
    with pytest.raises(BadOption):
        encode_varint(value)
