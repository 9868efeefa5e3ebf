"""Records of pictures: what goes in comes out, tiles cover everything, and damage is named."""

import dataclasses
import io
import json

import numpy as np
import pytest

pytest.importorskip("array_record", reason="records need jaxcodec[train]")

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxcodec.data.records import (
    RecordIndex,
    RecordSource,
    Shard,
    cut_tiles,
    decode_record,
    encode_record,
    is_records,
    list_records,
    read_index,
    write_index,
    write_shard,
)
from jaxcodec.errors import BadImage, BadOption


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_folder(folder, shards, encoding="raw"):
    """A folder of shards, each a list of pictures, with its index."""
    folder.mkdir(exist_ok=True)
    listed = []
    for number, pictures in enumerate(shards):
        path = folder / f"{number}.array_record"
        write_shard(path, [encode_record(pixels, encoding) for pixels in pictures])
        pixels = sum(p.shape[0] * p.shape[1] for p in pictures)
        side = min(min(p.shape[:2]) for p in pictures)
        listed.append(Shard(path.name, path.stat().st_size, len(pictures), pixels, side))
    write_index(folder, RecordIndex(encoding, None, 3, sum(map(len, shards)), tuple(listed)))
    return folder


# --- one record ---


@pytest.mark.parametrize("encoding", ["raw", "webp"])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (40, 3)])
def test_a_record_keeps_every_pixel(encoding, size):
    pixels = noise(*size)
    np.testing.assert_array_equal(decode_record(encode_record(pixels, encoding)), pixels)


@pytest.mark.parametrize("encoding", ["raw", "webp"])
def test_grey_pictures_become_three_equal_channels(encoding):
    grey = noise(4, 6)[..., 0]
    np.testing.assert_array_equal(decode_record(encode_record(grey, encoding)), np.stack([grey] * 3, axis=-1))


def test_a_raw_record_is_a_npy_file_and_is_read_without_a_copy():
    pixels = noise(7, 5)
    data = encode_record(pixels, "raw")
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), pixels)
    assert np.shares_memory(decode_record(data), np.frombuffer(data, np.uint8))


def test_a_webp_record_is_a_lossless_picture_that_pillow_opens():
    pixels = noise(7, 5)
    data = encode_record(pixels, "webp")
    assert data[12:16] == b"VP8L"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy(noise(4, 4))[:-1], "47 samples instead of"),
        (npy(noise(4, 4)) + b"\0", "49 samples instead of"),
        (npy(noise(4, 4).astype(np.float32)), "float32"),
        (npy(noise(4, 4)[..., :2]), r"\[4, 4, 2\]"),
        (npy(np.asfortranarray(noise(4, 4))), "C order"),
        (npy(noise(4, 4)).replace(b"descr", b"d'{cr"), "header is damaged"),
        (b"nothing of the kind", "not a picture"),
    ],
)
def test_a_record_of_anything_else_is_refused(data, said):
    with pytest.raises(BadImage, match=said):
        decode_record(data)


def test_an_unknown_encoding_is_refused_with_the_known_ones():
    with pytest.raises(BadOption, match="'png'; choose one of raw, webp"):
        encode_record(noise(2, 2), "png")


# --- tiles ---


@given(height=st.integers(1, 70), width=st.integers(1, 70), tile=st.integers(1, 40))
def test_tiles_cover_the_picture_and_are_as_few_as_possible(height, width, tile):
    where = np.arange(height * width).reshape(height, width, 1)
    tiles = list(cut_tiles(where, tile))
    assert {t.shape[:2] for t in tiles} == {(min(tile, height), min(tile, width))}
    assert set(np.concatenate([t.ravel() for t in tiles])) == set(range(height * width))
    assert len(tiles) == -(-height // tile) * -(-width // tile)


def test_tiles_overlap_evenly():
    starts = [t[0, 0, 0] for t in cut_tiles(np.arange(1000).reshape(1000, 1, 1), 300)]
    assert starts == [0, 233, 466, 700]


def test_without_a_tile_size_a_picture_stays_whole():
    pixels = noise(9, 5)
    (only,) = cut_tiles(pixels, None)
    np.testing.assert_array_equal(only, pixels)


# --- folders ---


def test_a_folder_gives_its_records_in_order(tmp_path):
    pictures = [noise(8 + k, 20 - k, seed=k) for k in range(5)]
    source = RecordSource(write_folder(tmp_path, [pictures[:3], pictures[3:]]))
    assert len(source) == 5
    for number, pixels in enumerate(pictures):
        np.testing.assert_array_equal(source[number], pixels)


def test_a_pattern_of_shards_is_described_by_just_those(tmp_path):
    shards = [[noise(8, 9)], [noise(5, 30), noise(7, 7)], [noise(4, 4)]]
    write_folder(tmp_path, shards)
    paths, index = list_records(tmp_path / "[01].array_record")
    assert [path.name for path in paths] == ["0.array_record", "1.array_record"]
    assert (index.records, index.pixels, index.smallest_side) == (3, 72 + 150 + 49, 5)
    assert list_records(tmp_path)[1].smallest_side == 4
    assert len(RecordSource(tmp_path / "1.array_record")) == 2


def test_the_same_records_make_the_same_bytes(tmp_path):
    first, second = (write_folder(tmp_path / name, [[noise(30, 40)] * 3]) for name in "ab")
    assert (first / "0.array_record").read_bytes() == (second / "0.array_record").read_bytes()


def test_an_index_is_read_as_it_was_written(tmp_path):
    shard = Shard("a.array_record", 10, 2, 300, 7)
    index = RecordIndex("webp", 512, 3, 2, (shard,), (("a.png", "is empty"),), (("b.png", "3x4"),))
    write_index(tmp_path, index)
    assert read_index(tmp_path) == index
    written = json.loads((tmp_path / "index.json").read_text())
    assert (written["records"], written["pixels"], written["smallest_side"]) == (2, 300, 7)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "shards": [{}]}'])
def test_a_damaged_index_is_named_with_the_remedy(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(BadImage, match=r"index\.json is not an index.*prepare_dataset"):
        read_index(tmp_path)


def test_an_index_of_another_version_or_without_records_is_refused(tmp_path):
    write_index(tmp_path, RecordIndex("raw", None, 3, 1, (Shard("a", 1, 1, 1, 1),)))
    fields = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**fields, "version": 2}))
    with pytest.raises(BadImage, match="version 2"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({**fields, "shards": []}))
    with pytest.raises(BadImage, match="lists no records"):
        read_index(tmp_path)


def test_shards_without_an_index_are_an_unfinished_set(tmp_path):
    write_folder(tmp_path, [[noise(4, 4)]])
    (tmp_path / "index.json").unlink()
    assert is_records(tmp_path)
    with pytest.raises(BadImage, match="prepare_dataset"):
        list_records(tmp_path)


def test_a_missing_cut_or_foreign_shard_is_named(tmp_path):
    write_folder(tmp_path, [[noise(4, 4)], [noise(5, 5)]])
    second = tmp_path / "1.array_record"
    data = second.read_bytes()
    second.write_bytes(data[:-1])
    with pytest.raises(BadImage, match=r"1\.array_record is missing or cut"):
        list_records(tmp_path)
    second.unlink()
    with pytest.raises(BadImage, match=r"1\.array_record is missing or cut"):
        list_records(tmp_path)
    (tmp_path / "2.array_record").write_bytes(data)
    with pytest.raises(BadImage, match=r"2\.array_record is not listed"):
        list_records(tmp_path / "2*.array_record")
    with pytest.raises(BadImage, match="no record files"):
        list_records(tmp_path / "7*.array_record")


def test_a_damaged_shard_is_named(tmp_path):
    write_folder(tmp_path, [[noise(300, 300)]])
    path = tmp_path / "0.array_record"
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(BadImage, match=str(tmp_path)):
        RecordSource(tmp_path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(BadImage, match=f"{tmp_path}: record 0 is damaged"):
        RecordSource(tmp_path)[0]


def test_a_record_that_is_no_picture_is_named_with_its_number(tmp_path):
    path = tmp_path / "0.array_record"
    write_shard(path, [encode_record(noise(4, 4), "raw"), b"text"])
    shard = Shard(path.name, path.stat().st_size, 2, 32, 4)
    write_index(tmp_path, RecordIndex("raw", None, 3, 2, (shard,)))
    with pytest.raises(BadImage, match=r"record 1: .*not a picture"):
        RecordSource(tmp_path)[1]


def test_a_shard_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(BadOption, match="nowhere"):
        write_shard(tmp_path / "nowhere" / "0.array_record", [b""])


def test_an_index_cannot_be_changed_by_accident():
    index = RecordIndex("raw", None, 3, 1, (Shard("a", 1, 1, 1, 1),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        index.encoding = "webp"
