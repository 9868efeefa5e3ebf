"""Streaming: the crops of a batch depend on data, seed and settings, and on nothing about who asks or when."""

import itertools

import numpy as np
import pytest
from PIL import Image

from jaxcodec.data.records import RecordIndex, Shard, encode_record, write_index, write_shard
from jaxcodec.data.stream import Augmentation, Stream, crop, open_pictures, read_all, total_bytes
from jaxcodec.errors import BadImage, BadOption

pytest.importorskip("grain", reason="streaming needs jaxcodec[train]")
pytest.importorskip("array_record", reason="records need jaxcodec[train]")

PLAIN = Augmentation(8, flip=False)
VARIED = Augmentation(8, min_scale=0.5)


def labelled(index, height, width):
    """A photo in which every pixel says where it is: (photo, row, column)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, index), rows, columns], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures():
    return [labelled(k, 8 + 3 * k, 30 - 2 * k) for k in range(10)]


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    for k, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(place / f"{k}.png")
    return str(place)


@pytest.fixture(scope="module")
def records(pictures, tmp_path_factory):
    place = tmp_path_factory.mktemp("records")
    path = place / "0.array_record"
    write_shard(path, [encode_record(pixels, "raw") for pixels in pictures])
    pixels = sum(p.shape[0] * p.shape[1] for p in pictures)
    shard = Shard(path.name, path.stat().st_size, len(pictures), pixels, 8)
    write_index(place, RecordIndex("raw", None, 3, len(pictures), (shard,)))
    return str(place)


def take(stream, count, start=0, **kwargs):
    batches = stream.batches(start, **kwargs)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return np.stack(taken)


# --- which crops ---


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_all_processes_are_the_batch_of_one(records, processes):
    stream = Stream(records, 8, VARIED, seed=3)
    shares = [take(stream, 5, process_index=p, process_count=processes) for p in range(processes)]
    assert shares[0].shape == (5, 8 // processes, 8, 8, 3)
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), take(stream, 5))


@pytest.mark.parametrize(("process_index", "process_count"), [(0, 1), (1, 2)])
def test_a_resumed_stream_goes_on_as_if_never_stopped(records, process_index, process_count):
    stream = Stream(records, 4, VARIED, seed=3)
    kind = {"process_index": process_index, "process_count": process_count}
    np.testing.assert_array_equal(take(stream, 3, start=7, **kind), take(stream, 10, **kind)[7:])


def test_records_and_picture_files_give_the_same_crops(folder, records):
    np.testing.assert_array_equal(
        take(Stream(folder, 4, VARIED, seed=1), 5), take(Stream(records, 4, VARIED, seed=1), 5)
    )


def test_workers_change_nothing(records):
    kind = {"process_index": 1, "process_count": 2}
    alone = take(Stream(records, 4, VARIED, threads=1), 7, start=2, **kind)
    helped = take(Stream(records, 4, VARIED, workers=2, threads=2), 7, start=2, **kind)
    np.testing.assert_array_equal(helped, alone)


def test_stacks_are_the_same_batches(records):
    stream = Stream(records, 4, VARIED)
    stacks = take(stream, 3, start=1, stack=4)
    assert stacks.shape == (3, 4, 4, 8, 8, 3)
    np.testing.assert_array_equal(stacks.reshape(12, 4, 8, 8, 3), take(stream, 12, start=1))


def test_each_picture_comes_once_per_epoch_in_another_order_each_time(records):
    order = take(Stream(records, 5, PLAIN), 40)[:, :, 0, 0, 0].reshape(20, 10)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(10), (20, 1)))
    assert len({tuple(epoch) for epoch in order}) > 18


def test_the_crops_of_a_picture_differ_from_epoch_to_epoch(records):
    crops = take(Stream(records, 10, VARIED), 2)
    by_picture = [epoch[np.argsort(epoch[:, 4, 4, 0], kind="stable")] for epoch in crops]
    assert (by_picture[0] != by_picture[1]).any(axis=(1, 2, 3)).sum() >= 8


def test_another_seed_gives_other_orders_and_crops(records):
    one, other = (take(Stream(records, 10, PLAIN, seed=seed), 3) for seed in (0, 1))
    assert (one[:, :, 0, 0, 0] != other[:, :, 0, 0, 0]).any(axis=1).all()
    # The order of seed 1 is not that of seed 0 an epoch later.
    assert (one[1:, :, 0, 0, 0] != other[:-1, :, 0, 0, 0]).any(axis=1).all()


def test_a_set_smaller_than_a_batch_repeats_within_it(pictures, tmp_path):
    for k in range(3):
        Image.fromarray(pictures[k]).save(tmp_path / f"{k}.png")
    batch = take(Stream(str(tmp_path), 12, PLAIN), 1)[0]
    np.testing.assert_array_equal(np.bincount(batch[:, 0, 0, 0]), [4, 4, 4])


def test_grey_pictures_have_three_equal_channels(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    batch = take(Stream(str(tmp_path), 2, PLAIN), 1)[0]
    np.testing.assert_array_equal(batch, np.broadcast_to(grey[None, ..., None], (2, 8, 8, 3)))


# --- one crop ---


def test_an_unreduced_crop_is_a_rectangle_or_its_mirror_image(rng):
    photo = labelled(0, 17, 30)
    mirrored, corners = 0, set()
    for _ in range(2000):
        part = crop(photo, Augmentation(8), rng)
        flipped = part[0, 0, 2] > part[0, -1, 2]
        row, column = part[0, 0, 1], part[0, :, 2].min()
        expected = photo[row : row + 8, column : column + 8]
        np.testing.assert_array_equal(part, expected[:, ::-1] if flipped else expected)
        mirrored += flipped
        corners.add((row, column))
    assert abs(mirrored - 1000) < 5 * 22.4  # standard deviation 22.4
    assert len(corners) == 10 * 23


def test_a_checkerboard_becomes_grey(rng):
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    board = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    # A crop of 16 at scale 1/4, inside a board of 64: the whole picture, four pixels to one.
    reduced = [crop(board, Augmentation(16, min_scale=0.25), rng) for _ in range(200)]
    strongest = min(int(part.max()) - int(part.min()) for part in reduced)
    assert strongest <= 12  # taking every fourth pixel would give 0 or 255 throughout


class Fixed:
    """A generator that draws the scale it is told, and the positions of another."""

    def __init__(self, scale, rng):
        self.scale, self.rng = scale, rng

    def uniform(self, low, high):
        assert low <= np.log(self.scale) <= high
        return np.log(self.scale)

    def integers(self, high):
        return self.rng.integers(high)

    def random(self):
        return 1.0


@pytest.mark.parametrize("scale", [0.31, 0.5, 0.77, 0.98])
def test_a_reduced_crop_is_cut_from_the_picture_as_pillow_reduces_it(rng, scale):
    photo = rng.integers(0, 256, (90, 131, 3), dtype=np.uint8)
    shape = round(90 * scale), round(131 * scale)
    whole = np.asarray(Image.fromarray(photo).resize(shape[::-1], Image.Resampling.BICUBIC)).astype(int)
    for seed in range(20):
        part = crop(photo, Augmentation(20, min_scale=0.3), Fixed(scale, np.random.default_rng(seed)))
        positions = np.random.default_rng(seed)
        top, left = positions.integers(shape[0] - 19), positions.integers(shape[1] - 19)
        assert np.abs(part - whole[top : top + 20, left : left + 20]).max() <= 1


def test_a_picture_is_never_reduced_below_the_crop(rng):
    photo = labelled(0, 20, 100)
    for _ in range(50):
        assert crop(photo, Augmentation(16, min_scale=0.01), rng).shape == (16, 16, 3)
    np.testing.assert_array_equal(
        crop(photo[:, :20], Augmentation(20, flip=False, min_scale=0.1), rng), photo[:, :20]
    )


def test_scales_are_log_uniform():
    # The width of a ramp's step tells the scale; log-uniform on [1/4, 1] has its median at 1/2.
    ramp = np.repeat((np.arange(200) % 256)[None, :, None], 200, axis=0).repeat(3, axis=-1).astype(np.uint8)
    rng = np.random.default_rng(0)
    slopes = [
        np.diff(
            crop(ramp, Augmentation(20, flip=False, min_scale=0.25), rng)[0, 4:16, 0].astype(float)
        ).mean()
        for _ in range(600)
    ]
    assert np.mean(np.array(slopes) > 2.0) == pytest.approx(0.5, abs=5 * 0.0204)
    assert 1.0 <= min(slopes) < 1.1
    assert 3.7 < max(slopes) <= 4.05


# --- what is refused ---


def test_pictures_smaller_than_the_crop_are_named_before_training(folder, records):
    with pytest.raises(
        BadImage, match=r"smaller than --crop_size=15: .*0\.png \(30x8\).*1\.png.* 2 more"
    ) as info:
        Stream(folder, 4, Augmentation(15)).batches(0)
    assert "lower --crop_size" in str(info.value)
    with pytest.raises(BadImage, match=r"side of 8 pixels, smaller than --crop_size=12.*--min_size=12"):
        Stream(records, 4, Augmentation(12)).batches(0)


def test_places_without_pictures_are_refused(tmp_path):
    with pytest.raises(BadImage, match="no such folder"):
        Stream(str(tmp_path / "nowhere"), 4, PLAIN).batches(0)
    with pytest.raises(BadImage, match="no pictures here"):
        Stream(str(tmp_path), 4, PLAIN).batches(0)
    with pytest.raises(BadImage, match="no pictures here"):
        Stream(str(tmp_path / "*.png"), 4, PLAIN).batches(0)
    with pytest.raises(BadImage, match="no record files here"):
        Stream(str(tmp_path / "*.array_record"), 4, PLAIN).batches(0)


def test_an_unreadable_picture_is_named_before_training(pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(BadImage, match=r"text\.png: is not a picture"):
        Stream(str(tmp_path), 4, PLAIN).batches(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_damaged_behind_its_header_is_named_when_its_turn_comes(rng, tmp_path, workers):
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / name)
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    batches = Stream(str(tmp_path), 2, PLAIN, workers=workers).batches(0)
    with pytest.raises(BadImage, match=r"b\.png: is damaged or cut"):
        next(batches)


def test_a_batch_that_does_not_divide_among_the_processes_is_refused(records):
    with pytest.raises(BadOption, match=r"--batch_size=6 does not divide among 4 processes.*multiple of 4"):
        Stream(records, 6, PLAIN).batches(0, process_count=4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Augmentation(0), "--crop_size=0"),
        (lambda: Augmentation(8, min_scale=0.0), "--min_scale=0.0"),
        (lambda: Augmentation(8, min_scale=1.5), "--min_scale=1.5"),
        (lambda: Stream("x", 0, PLAIN), "--batch_size=0"),
        (lambda: Stream("x", 1, PLAIN, seed=-1), "--seed=-1"),
        (lambda: Stream("x", 1, PLAIN, seed=2**32), "--seed=4294967296"),
        (lambda: Stream("x", 1, PLAIN, workers=-1), "--workers=-1"),
        (lambda: Stream("x", 1, PLAIN, threads=0), "--threads=0"),
    ],
)
def test_options_out_of_range_are_refused_by_their_flag(make, said):
    with pytest.raises(BadOption, match=said):
        make()


def test_workers_that_would_not_fit_into_shared_memory_are_refused(records):
    with pytest.raises(BadOption, match=r"MiB in /dev/shm.*--workers=0"):
        Stream(records, 2**20, PLAIN, workers=2**20).batches(0)


# --- reading everything ---


def test_reading_all_gives_the_pictures_of_any_place(pictures, folder, records):
    for place in (folder, f"{folder}/*.png", records, f"{records}/*.array_record"):
        assert total_bytes(place) == sum(p.size for p in pictures)
        for read, pixels in zip(read_all(place), pictures, strict=True):
            np.testing.assert_array_equal(read, pixels)
    assert len(open_pictures(f"{folder}/3.png")) == 1
