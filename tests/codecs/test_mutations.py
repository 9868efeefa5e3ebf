"""Damaged and hostile files: a typed error or the picture; none hangs or takes the memory it claims."""

import signal
import threading
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

import jaxcodec
from jaxcodec.coding.classes import encode_by_class
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import Header, Limits, pack, read_header, unpack
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.varint import encode_varint
from jaxcodec.errors import (
    BadOption,
    CorruptFile,
    JaxcodecError,
    NotAJxcFile,
    TooLarge,
    TruncatedFile,
    UnknownCodec,
    WrongWeights,
)
from tests.codecs.golden_codecs import (
    INDEX,
    fixture_codec,
    fixture_rung,
    fixture_weights,
    golden_file,
    least_stride,
    levels_apart,
    weights_path,
)

# One network with a single quality, one with a ladder and classes of tables.
NETWORKS = ("bls2017", "theis2017")
HANG = 30  # seconds: no measurement, only an end for what would never end
CASES = 2000


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return request.param


@pytest.fixture(scope="module")
def codec(network):
    # Small windows: these pictures are small, and there are many of them.
    return fixture_codec(network, window_shapes=((128, 128),))


def names(network):
    return [f"{network}_{kind}" for kind in ("photo", "7x5", "escapes", "two_windows")]


@pytest.fixture(autouse=True)
def no_hang():
    """Raise in a test that makes no end."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise TimeoutError("a file hangs the decoder")

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def guard():
    if hasattr(signal, "SIGALRM"):
        signal.alarm(HANG)


def decode_or_error(codec, data):
    """The picture or the typed error; any other exception fails the test."""
    guard()
    try:
        return codec.decode(data)
    except JaxcodecError as error:
        result = error
    # The command line prints it on one line.
    assert len(str(result).splitlines()) == 1
    return result


def with_checksum(head, chunk):
    """A file of one chunk with a right checksum, whatever is in it."""
    body = head + encode_varint(len(chunk)) + chunk
    return body + zlib.crc32(body).to_bytes(4, "little")


def hostile(
    network, width, height, chunk, *, weights_hash=None, flags=0x11, codec=None, coder=1, quality=None
):
    weights = fixture_weights(network)
    codec = codec_id(weights.codec) if codec is None else codec
    quality = fixture_rung(network).number if quality is None else quality
    head = b"\x8aJX\n" + bytes([flags, codec, coder]) + (weights_hash or weights.hash)
    return with_checksum(head + b"".join(map(encode_varint, (width, height, quality))), chunk)


def _cut(rng, data):
    return data[: rng.integers(0, len(data))]


def _flip(rng, data):
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        damaged[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
    return bytes(damaged)


def _overwrite(rng, data):
    start, length = rng.integers(0, len(data)), rng.integers(1, 9)
    return data[:start] + rng.bytes(length) + data[start + length :]


def _swap(rng, data):
    a, b = sorted(rng.integers(0, len(data), 2))
    damaged = bytearray(data)
    damaged[a], damaged[b] = damaged[b], damaged[a]
    return bytes(damaged)


def _insert(rng, data):
    start = rng.integers(0, len(data) + 1)
    return data[:start] + rng.bytes(rng.integers(1, 6)) + data[start:]


def _remove(rng, data):
    start, length = rng.integers(0, len(data)), rng.integers(1, 6)
    return data[:start] + data[start + length :]


def _append(rng, data):
    return data + rng.bytes(rng.integers(1, 40))


def _double(rng, data):
    return data + data


def _noise(rng, data):
    return data[: rng.integers(0, 12)] + rng.bytes(len(data))


DAMAGE = (_cut, _flip, _overwrite, _swap, _insert, _remove, _append, _double, _noise)


def test_damaged_files_raise_typed_errors_or_give_the_picture(network, codec):
    rng = np.random.default_rng(2017)
    originals = [golden_file(name) for name in names(network)]
    pictures = [codec.decode(data) for data in originals]
    raised = set()
    untouched = 0
    for case in range(CASES):
        k = rng.integers(0, len(originals))
        data = originals[k]
        for _ in range(rng.integers(1, 3)):
            data = DAMAGE[case % len(DAMAGE)](rng, data) if data else data
        result = decode_or_error(codec, data)
        if data == originals[k]:
            untouched += 1
            assert levels_apart(result, pictures[k]) == 0
        else:
            # The checksum sees everything: no damaged file gives a picture.
            assert isinstance(result, JaxcodecError), data
            raised.add(type(result))
    # A swap of equal bytes and the like: few, but the promise is about them too.
    assert untouched > 0
    assert {TruncatedFile, CorruptFile, NotAJxcFile, UnknownCodec} <= raised


def test_the_public_decode_raises_typed_errors_for_damaged_files(network):
    rng = np.random.default_rng(2019)
    original = golden_file(f"{network}_photo")
    picture = jaxcodec.decode(original, weights=weights_path(network))
    assert picture.shape == (48, 64, 3)
    for case in range(200):
        data = DAMAGE[case % len(DAMAGE)](rng, original)
        guard()
        if data == original:
            continue
        with pytest.raises(JaxcodecError):
            jaxcodec.decode(data, weights=weights_path(network))


def test_damage_under_a_right_checksum_raises_typed_errors_or_gives_a_picture_of_the_size(network, codec):
    rng = np.random.default_rng(2018)
    weights = fixture_weights(network)
    parsed = [unpack(golden_file(name)) for name in names(network)]
    results = []
    for _ in range(CASES // 4):
        header, chunks = parsed[rng.integers(0, len(parsed))]
        chunk = chunks[0]
        for damage in rng.choice(np.array(DAMAGE), rng.integers(0, 3)):
            chunk = damage(rng, chunk) if chunk else chunk
        chunk = chunk[: len(chunk) // 4 * 4] if rng.random() < 0.7 else chunk
        width, height = header.width, header.height
        if rng.random() < 0.5:
            width, height = (int(2 ** rng.uniform(0, 14)) for _ in range(2))
        data = hostile(
            network,
            width,
            height,
            chunk,
            weights_hash=weights.hash if rng.random() < 0.8 else rng.bytes(4),
            flags=0x10 | int(rng.choice([0, 1, 1, 1, 4, 8])),
            codec=int(rng.choice([codec_id("bmshj2018"), 201, 255])) if rng.random() < 0.1 else None,
            coder=int(rng.choice([1, 1, 1, 1, 0, 3, 255])),
            quality=header.quality if rng.random() < 0.6 else int(2 ** rng.uniform(0, 64)),
        )
        result = decode_or_error(codec, data)
        results.append(type(result))
        if not isinstance(result, JaxcodecError):
            assert result.shape[:2] == (height, width)
    assert {np.ndarray, CorruptFile, UnknownCodec, WrongWeights, BadOption} <= set(results)


@pytest.mark.parametrize("seed", range(4))
def test_random_symbols_decode_to_some_picture_or_raise_corrupt_file(network, codec, seed):
    # All four bytes of a word at random: most give symbols that no picture has, far outside their tables.
    rng = np.random.default_rng(seed)
    for _ in range(25):
        data = hostile(network, 30, 20, rng.bytes(4 * rng.integers(2, 40)))
        result = decode_or_error(codec, data)
        assert isinstance(result, CorruptFile) or result.shape == (20, 30, 3)


def _peak_of(codec, data, error, match):
    guard()
    tracemalloc.start()
    try:
        with pytest.raises(error, match=match):
            codec.decode(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("width", "height", "payload", "error", "match"),
    [
        (60_000, 60_000, 4, TooLarge, "60000 x 60000"),
        (2**40, 1, 4, TooLarge, "pixels"),
        (2**64 - 1, 2**64 - 1, 4, TooLarge, "pixels"),
        (1, 2**27 + 1, 4, TooLarge, "pixels"),
        (11_000, 11_000, 4, CorruptFile, "cannot hold"),
        (11_000, 11_000, 4000, CorruptFile, "cannot hold"),
        (2**27, 1, 40_000, CorruptFile, "cannot hold"),
        (0, 10, 4, CorruptFile, "width"),
    ],
)
def test_a_header_that_claims_a_huge_picture_costs_nothing(
    network, codec, width, height, payload, error, match
):
    codec.decode(golden_file(f"{network}_photo"))  # weights and tables are read
    data = hostile(network, width, height, bytes(payload))
    assert _peak_of(codec, data, error, match) < 1_000_000


def test_a_length_that_claims_more_than_the_file_costs_nothing(network, codec):
    quality = read_header(golden_file(f"{network}_photo")).quality
    head = golden_file(f"{network}_photo")[: 13 + len(encode_varint(quality))]
    for length in (2**20, 2**31, 2**40, 2**63):
        body = head + encode_varint(length) + bytes(50)
        data = body + zlib.crc32(body).to_bytes(4, "little")
        assert _peak_of(codec, data, TruncatedFile, "ends after") < 1_000_000


def test_several_chunks_where_the_codec_writes_one_raise_corrupt_file(network, codec):
    header, chunks = unpack(golden_file(f"{network}_photo"))
    with pytest.raises(CorruptFile, match="one chunk"):
        codec.decode(pack(header, [chunks[0], b""]))


def test_a_payload_too_short_for_its_picture_raises_corrupt_file(network, codec):
    header, chunks = unpack(golden_file(f"{network}_two_windows"))
    outcomes = [decode_or_error(codec, pack(header, [chunks[0][:n]])) for n in range(0, len(chunks[0]), 4)]
    assert isinstance(outcomes[0], CorruptFile)
    # Where a prefix is long enough to be possible it is decoded as far as its bytes say; the container's
    # checksum is what tells a cut file.
    assert all(isinstance(outcome, (CorruptFile, np.ndarray)) for outcome in outcomes)


def test_the_likeliest_picture_is_not_taken_for_a_cut_file(network, codec):
    # The lower bound on a file's size has to let through the smallest file that an encoder can write.
    weights, rung, stride = fixture_weights(network), fixture_rung(network), least_stride(network)
    for tables in rung.tables.classes:
        likeliest = tables.offsets + np.array([counts.argmax() for counts in tables.counts], np.int32)
        for rows, columns in [(1, 1), (1, 2), (3, 1), (4, 5), (20, 7)]:
            symbols = np.broadcast_to(likeliest, (rows, columns, 8)).astype(np.int32)
            size = (stride * columns, stride * rows)
            header = Header(codec_id(weights.codec), 1, weights.hash, *size, 3, 8, rung.number)
            data = pack(header, [encode_by_class(symbols, rung.tables, get_coder())])
            np.testing.assert_array_equal(codec.decode_latents(data), symbols)


def test_a_quality_that_the_ladder_has_not_raises_corrupt_file():
    header, chunks = unpack(golden_file("theis2017_photo"))
    codec = fixture_codec("theis2017")
    for quality in (0, 1, 59, 61, 199, 251, 2**31, 2**63, 2**64 - 1):
        with pytest.raises(CorruptFile, match="has no quality"):
            codec.decode(pack(replace(header, quality=quality), chunks))


def test_a_limit_on_the_file_is_kept(network):
    data = golden_file(f"{network}_photo")
    with pytest.raises(TooLarge, match="max_file_bytes"):
        fixture_codec(network, limits=Limits(max_file_bytes=len(data) - 1)).decode(data)
    assert set(names(network)) <= set(INDEX["files"])
