import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcodec.coding.codec_ids import CODEC_IDS, codec_id, codec_name
from jaxcodec.coding.container import DEFAULT_LIMITS, MAGIC, Header, Limits, is_jxc, pack, read_header, unpack
from jaxcodec.coding.varint import encode_varint
from jaxcodec.errors import (
    BadOption,
    CorruptFile,
    JaxcodecError,
    NotAJxcFile,
    TooLarge,
    TruncatedFile,
    UnknownCodec,
)

PHOTO = Header(
    codec_id=3,
    coder_id=1,
    weights_hash=bytes.fromhex("c0ffee42"),
    width=768,
    height=512,
    channels=3,
    bit_depth=8,
    quality=4,
)

# Files of format 1, byte by byte. A change here means that old files can no longer be read.
GOLDEN_ONE = " ".join(
    [
        "8a4a580a",  # magic
        "11",  # format 1; colour, one chunk, 8 bits a sample
        "03 01 c0ffee42",  # codec, range coder, hash of the weights
        "8006 8004 04",  # width 768, height 512, quality 4
        "05",  # length of the chunk
        "68656c6c6f",  # "hello"
        "1baa70b3",  # CRC-32 of all that, little-endian
    ]
)
GOLDEN_THREE = " ".join(
    [
        "8a4a580a",
        "13",  # several chunks, else as above
        "03 01 c0ffee42",
        "8006 8004 04",
        "03 01 00 02",  # three chunks and their lengths
        "71e9548e",  # CRC-32 of all that
        "61 00ab3bcf",  # "a", CRC-32 of the 20 bytes in front of the first one and "a"
        "00ab3bcf",  # "", the same
        "6263 639ead83",  # "bc", of those 20 bytes and "abc"
    ]
)

headers = st.builds(
    Header,
    codec_id=st.integers(0, 255),
    coder_id=st.integers(0, 255),
    weights_hash=st.binary(min_size=4, max_size=4),
    width=st.integers(1, 2**13),
    height=st.integers(1, 2**13),
    channels=st.sampled_from([1, 3]),
    bit_depth=st.just(8),
    quality=st.integers(0, 2**64 - 1),
)
chunk_lists = st.lists(st.binary(max_size=200), min_size=1, max_size=5)


def sealed(head: bytes, chunks: list[bytes]) -> bytes:
    """A file of one chunk, or several, whose checksums are right whatever the header says."""
    crc = zlib.crc32(head)
    data = head if len(chunks) == 1 else head + crc.to_bytes(4, "little")
    for chunk in chunks:
        crc = zlib.crc32(chunk, crc)
        data += chunk + crc.to_bytes(4, "little")
    return data


def one_chunk_head(*, flags=0x11, width=768, height=512, quality=4, length=5):
    numbers = b"".join(encode_varint(number) for number in (width, height, quality, length))
    return MAGIC + bytes([flags, 3, 1]) + PHOTO.weights_hash + numbers


@pytest.mark.parametrize(("chunks", "golden"), [([b"hello"], GOLDEN_ONE), ([b"a", b"", b"bc"], GOLDEN_THREE)])
def test_bytes_of_the_format_never_change(chunks, golden):
    assert pack(PHOTO, chunks) == bytes.fromhex(golden)
    assert unpack(bytes.fromhex(golden)) == (PHOTO, chunks)


@given(headers, chunk_lists)
@settings(deadline=None)
def test_files_round_trip(header, chunks):
    data = pack(header, chunks)
    assert is_jxc(data)
    assert unpack(data) == (header, chunks)
    assert unpack(data, allow_truncated=True) == (header, chunks)
    assert read_header(data) == header


@pytest.mark.parametrize(
    ("width", "height", "size", "overhead"), [(768, 512, 9_000, 22), (6000, 4000, 2_000_000, 23)]
)
def test_a_photo_pays_at_most_23_bytes(width, height, size, overhead):
    data = pack(replace(PHOTO, width=width, height=height), [bytes(size)])
    assert len(data) - size == overhead


@given(headers, chunk_lists)
@settings(deadline=None, max_examples=20)
def test_a_file_cut_anywhere_is_truncated(header, chunks):
    data = pack(header, chunks)
    for end in range(len(data)):
        with pytest.raises(TruncatedFile):
            unpack(data[:end])


@given(headers, st.lists(st.binary(max_size=40), min_size=2, max_size=5))
@settings(deadline=None, max_examples=20)
def test_a_cut_file_gives_its_whole_chunks_when_asked(header, chunks):
    data = pack(header, chunks)
    start = len(data) - sum(len(chunk) + 4 for chunk in chunks)
    ends = [start + sum(len(chunk) + 4 for chunk in chunks[: n + 1]) for n in range(len(chunks))]
    for end in range(len(data)):
        if end < ends[0]:
            with pytest.raises(TruncatedFile):
                unpack(data[:end], allow_truncated=True)
        else:
            whole = sum(end >= chunk_end for chunk_end in ends)
            assert unpack(data[:end], allow_truncated=True) == (header, chunks[:whole])
        if end >= start:
            assert read_header(data[:end]) == header


def test_a_cut_file_of_one_chunk_has_nothing_to_give():
    with pytest.raises(TruncatedFile):
        unpack(pack(PHOTO, [b"hello"])[:-1], allow_truncated=True)


@given(headers, chunk_lists, st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_file_is_refused_with_a_typed_error(header, chunks, data):
    file = pack(header, chunks)
    changed = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    refuse_unless_equal(bytes(changed), file)


@given(headers, chunk_lists, st.data())
@settings(deadline=None, max_examples=200)
def test_a_file_with_bytes_moved_is_refused_with_a_typed_error(header, chunks, data):
    file = pack(header, chunks)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(file)), min_size=4, max_size=4)))
    a, b, c, d = cuts
    for changed in (
        file[:a] + file[c:d] + file[b:c] + file[a:b] + file[d:],  # swapped
        file[:a] + file[b:],  # left out
        file[:b] + file[a:b] + file[b:],  # doubled
        file[:a] + data.draw(st.binary(max_size=9)) + file[a:],  # put in
    ):
        refuse_unless_equal(changed, file)


def refuse_unless_equal(changed, file):
    if changed == file:
        return
    for allow_truncated in (False, True):
        try:
            header, chunks = unpack(changed, allow_truncated=allow_truncated)
        except JaxcodecError:
            continue
        # A cut in front of whole chunks is allowed when asked for; nothing else is.
        true_header, true_chunks = unpack(file)
        assert allow_truncated
        assert (header, chunks) == (true_header, true_chunks[: len(chunks)])
        assert len(changed) < len(file)


@given(st.binary(max_size=200), st.sampled_from([b"", MAGIC, MAGIC + b"\x11", MAGIC + b"\x13\x03\x01"]))
@settings(deadline=None, max_examples=500)
def test_any_bytes_give_a_typed_error(data, start):
    for read in (unpack, read_header):
        with pytest.raises(JaxcodecError):
            read(start + data)


def test_chunks_can_be_neither_swapped_nor_borrowed():
    one, two = pack(PHOTO, [b"aaaa", b"bbbb", b"cccc"]), pack(PHOTO, [b"xxxx", b"bbbb", b"cccc"])
    first = len(one) - 24
    swapped = one[:first] + one[first + 8 : first + 16] + one[first : first + 8] + one[first + 16 :]
    borrowed = one[: first + 8] + two[first + 8 :]
    for data in (swapped, borrowed):
        with pytest.raises(CorruptFile, match="checksum of the chunk"):
            unpack(data)


def test_header_of_several_chunks_can_be_read_alone_and_is_checked():
    data = pack(PHOTO, [b"aaaa", b"bbbb"])
    assert read_header(data[: len(data) - 16]) == PHOTO
    damaged = bytearray(data)
    damaged[13] ^= 1
    with pytest.raises(CorruptFile, match="checksum of the header"):
        read_header(bytes(damaged))
    damaged = bytearray(data)
    damaged[-6] ^= 1
    assert read_header(bytes(damaged)) == PHOTO
    with pytest.raises(CorruptFile, match="checksum of the chunk 2 of 2"):
        unpack(bytes(damaged))


def test_bytes_after_the_end_are_corrupt():
    for chunks in ([b"hello"], [b"a", b"b"]):
        with pytest.raises(CorruptFile, match="1 bytes follow"):
            unpack(pack(PHOTO, chunks) + b"\0")


@pytest.mark.parametrize("length", range(4))
def test_empty_data_and_the_begin_of_the_magic_are_truncated(length):
    with pytest.raises(TruncatedFile, match="is empty" if length == 0 else f"after {length} bytes"):
        unpack(MAGIC[:length])
    assert not is_jxc(MAGIC[:length])


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"hello", b"\0", MAGIC[1:] + MAGIC]
)
def test_other_files_are_no_jxc_file(data):
    assert not is_jxc(data)
    for read in (unpack, read_header):
        with pytest.raises(NotAJxcFile):
            read(data)


@pytest.mark.parametrize(
    "mangle",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: bytes(byte & 0x7F for byte in data),
        lambda data: data.decode("latin-1").encode("utf-8"),
        lambda data: data.decode("cp1252", "replace").encode("utf-8"),
        lambda data: data.decode("utf-8", "replace").encode("utf-8"),
        lambda data: data.decode("ascii", "replace").encode("ascii", "replace"),
    ],
)
def test_text_mode_transfers_are_recognised(mangle):
    with pytest.raises(NotAJxcFile, match="transfer it as binary"):
        unpack(mangle(pack(PHOTO, [b"hello"])))


@pytest.mark.parametrize("version", [0, 2, 15])
def test_another_format_version_asks_for_an_upgrade(version):
    with pytest.raises(UnknownCodec, match="upgrade"):
        unpack(sealed(one_chunk_head(flags=version << 4 | 1), [b"hello"]))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_another_bit_depth_asks_for_an_upgrade(depth):
    with pytest.raises(UnknownCodec, match="upgrade"):
        unpack(sealed(one_chunk_head(flags=0x11 | depth << 2), [b"hello"]))


@pytest.mark.parametrize("field", ["width", "height"])
def test_picture_without_pixels_is_corrupt(field):
    with pytest.raises(CorruptFile, match=field):
        unpack(sealed(one_chunk_head(**{field: 0}), [b"hello"]))


@pytest.mark.parametrize("count", [0, 1])
def test_several_chunks_are_at_least_two(count):
    head = one_chunk_head(flags=0x13, length=count) + b"\x00" * count
    with pytest.raises(CorruptFile, match="several chunks"):
        unpack(sealed(head, [b"", b""]))


def test_limits_are_inclusive_and_named():
    data = pack(PHOTO, [b"a", b"b"])
    pixels = 768 * 512
    assert unpack(data, limits=Limits(pixels, len(data), 2))[0] == PHOTO
    for limits, name in (
        (Limits(pixels - 1, len(data), 2), "max_pixels"),
        (Limits(pixels, len(data) - 1, 2), "max_file_bytes"),
        (Limits(pixels, len(data), 1), "max_chunks"),
    ):
        for read in (unpack, read_header):
            with pytest.raises(TooLarge, match=name):
                read(data, limits=limits)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (sealed(one_chunk_head(width=2**64 - 1, height=2**64 - 1), [b"hello"]), TooLarge),
        (sealed(one_chunk_head(width=DEFAULT_LIMITS.max_pixels + 1, height=1), [b"hello"]), TooLarge),
        (sealed(one_chunk_head(length=2**64 - 1), [b"hello"]), TruncatedFile),
        (one_chunk_head(flags=0x13, length=2**64 - 1), TooLarge),  # chunks
        (one_chunk_head(flags=0x13, length=1000) + b"\xff" * 9 + b"\x01", TruncatedFile),
        (one_chunk_head(flags=0x13, length=3) + (b"\xff" * 9 + b"\x01") * 3, TruncatedFile),
    ],
)
def test_hostile_sizes_are_refused_before_anything_is_allocated(data, error):
    tracemalloc.start()
    try:
        with pytest.raises(error):
            unpack(data, allow_truncated=True)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("codec_id", 256),
        ("codec_id", -1),
        ("coder_id", 256),
        ("weights_hash", b"123"),
        ("width", 0),
        ("height", 2**64),
        ("channels", 4),
        ("bit_depth", 16),
        ("quality", -1),
    ],
)
def test_header_fields_are_checked_and_named(field, value):
    with pytest.raises(CorruptFile, match=field):
        replace(PHOTO, **{field: value})


def test_a_file_has_at_least_one_chunk():
    with pytest.raises(BadOption, match="at least one chunk"):
        pack(PHOTO, [])


def test_codec_numbers_never_change():
    assert dict(CODEC_IDS) == {
        "fmm": 1,
        "toderici2016": 2,
        "balle2017": 3,
        "toderici2017": 4,
        "theis2017": 5,
        "msroi": 6,
        "comcnn": 7,
        "coconet": 8,
        "bmshj2018": 9,
    }
    assert all(codec_name(codec_id(name)) == name for name in CODEC_IDS)


def test_unknown_codecs_ask_for_an_upgrade():
    with pytest.raises(UnknownCodec, match=r"jaxcodec \d+\.\d+.*upgrade"):
        codec_name(200)
    with pytest.raises(UnknownCodec, match="balle2017"):
        codec_id("jpeg")
