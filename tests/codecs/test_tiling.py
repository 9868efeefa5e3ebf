import itertools

import numpy as np
import pytest

from jaxcodec.codecs import tiling

HALO, STRIDE = 32, 16
SHAPES = ((128, 128), (160, 256), (256, 160))
SIZES = [(1, 1), (7, 5), (16, 16), (128, 128), (129, 40), (127, 300), (333, 90), (200, 517)]


@pytest.mark.parametrize("window", [80, 128, 256, 768])
@pytest.mark.parametrize("halo", [0, 16, 32])
def test_spans_keep_every_position_once_and_a_halo_away_from_cut_edges(window, halo):
    for length in [*range(1, 70), 127, 128, 129, 255, 256, 257, 500, 768, 769, 1000, 3001]:
        padded = -(-length // STRIDE) * STRIDE
        spans = tiling.spans(length, window, halo=halo, stride=STRIDE)
        kept = np.zeros(padded, int)
        for origin, first, end in spans:
            assert origin % STRIDE == first % STRIDE == end % STRIDE == 0
            assert 0 <= origin <= first < end <= origin + window
            kept[first:end] += 1
            # What is kept sees its context: the picture's own edge, or a halo before the window's.
            assert first == 0 or first - origin >= halo
            assert end == padded or origin + window - end >= halo
        assert (kept == 1).all()
        assert len(spans) == 1 or spans[-1][0] + window == padded


def test_spans_take_the_fewest_windows():
    for length in range(16, 4000, 16):
        count = len(tiling.spans(length, 256, halo=HALO, stride=STRIDE))
        assert count == (1 if length <= 256 else 1 + -(-(length - 256) // (256 - 2 * HALO)))


@pytest.mark.parametrize(("window", "halo"), [(64, 32), (48, 32), (100, 16), (128, 20)])
def test_a_window_without_room_between_its_halos_or_off_the_grid_is_refused(window, halo):
    with pytest.raises(ValueError, match="does not suit"):
        tiling.spans(1000, window, halo=halo, stride=STRIDE)


def test_the_shape_is_the_one_that_computes_least():
    def choose(height, width):
        return tiling.choose_shape((height, width), tiling.WINDOW_SHAPES, halo=HALO, stride=STRIDE)

    assert choose(1, 1) == choose(256, 256) == (256, 256)
    assert choose(512, 768) == choose(500, 700) == (512, 768)
    assert choose(768, 512) == (768, 512)
    assert choose(4000, 6000) in ((512, 768), (768, 512))


def test_the_plan_holds_every_window_once_in_calls_of_one_shape():
    calls = list(tiling.plan(SIZES, SHAPES, halo=HALO, stride=STRIDE, batch_size=3))
    assert all(1 <= len(group) <= 3 for _, group in calls)
    planned = [window for _, group in calls for window in group]
    expected = []
    for index, size in enumerate(SIZES):
        shape = tiling.choose_shape(size, SHAPES, halo=HALO, stride=STRIDE)
        expected += tiling.windows(index, size, shape, halo=HALO, stride=STRIDE)
    order = ("picture", "row", "column")
    assert sorted(planned, key=lambda w: [getattr(w, n) for n in order]) == expected
    # Shapes do not alternate: each is begun once.
    shapes = [shape for shape, _ in calls]
    assert len({*shapes}) == 1 + sum(a != b for a, b in itertools.pairwise(shapes))


def _mask(batch, origin, size, *, stride):
    """Zero what lies outside the picture, as `Extent` asks a network to."""
    batch = batch.copy()
    for item, (row, column), (height, width) in zip(batch, origin, size, strict=True):
        item[max(0, -(-height // stride) - row // stride) :] = 0
        item[:, max(0, -(-width // stride) - column // stride) :] = 0
    return batch


def _neighbourhood_sums(x, reach):
    """Sums over (2 reach + 1)^2 neighbours with zeros beyond the array, `[B, H, W, C]`, in integers."""
    for axis in (1, 2):
        padding = [(reach + 1, reach) if i == axis else (0, 0) for i in range(4)]
        sums = np.cumsum(np.pad(x, padding), axis=axis)
        n = x.shape[axis]
        start = np.arange(n)
        x = np.take(sums, start + 2 * reach + 1, axis) - np.take(sums, start, axis)
    return x


def _reduce(batch, origin, size):
    """A "network" that reaches exactly the halo: sums of neighbours, every 16th of them."""
    assert origin.dtype == size.dtype == np.int32
    return _neighbourhood_sums(_mask(batch.astype(np.int64), origin, size, stride=1), HALO)[:, ::16, ::16]


def _expand(batch, origin, size):
    """The other way: sums over 2 positions around, each repeated 16 times."""
    sums = _neighbourhood_sums(_mask(batch.astype(np.int64), origin, size, stride=STRIDE), HALO // STRIDE)
    return sums.repeat(STRIDE, 1).repeat(STRIDE, 2)


def _whole(function, image, size):
    return function(image[None], np.zeros((1, 2), np.int32), np.array([size], np.int32))[0]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("shapes", [SHAPES, ((128, 128),), ((512, 528),)])
def test_windows_give_what_the_whole_pictures_would(rng, shapes, batch_size):
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    outputs = [np.full((-(-h // 16), -(-w // 16), 3), -1, np.int64) for h, w in SIZES]
    common = {"shapes": shapes, "halo": HALO, "stride": STRIDE, "batch_size": batch_size}
    tiling.run(_reduce, images, outputs, SIZES, input_stride=1, output_stride=STRIDE, **common)
    for image, output, size in zip(images, outputs, SIZES, strict=True):
        np.testing.assert_array_equal(output, _whole(_reduce, image, size))
    expanded = [np.full((h, w, 3), -1, np.int64) for h, w in SIZES]
    tiling.run(_expand, outputs, expanded, SIZES, input_stride=STRIDE, output_stride=1, **common)
    for latents, output, (h, w) in zip(outputs, expanded, SIZES, strict=True):
        np.testing.assert_array_equal(output, _whole(_expand, latents, (h, w))[:h, :w])


def test_a_call_always_has_the_shape_that_was_compiled(rng):
    seen = set()

    def observe(batch, origin, size):
        seen.add((batch.shape, batch.dtype, origin.shape, size.shape))
        return batch[:, ::16, ::16]

    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    outputs = [np.empty((-(-h // 16), -(-w // 16), 3), np.uint8) for h, w in SIZES]
    strides = {"stride": STRIDE, "input_stride": 1, "output_stride": STRIDE}
    tiling.run(observe, images, outputs, SIZES, shapes=SHAPES, halo=HALO, batch_size=4, **strides)
    assert {shape[1:3] for shape, *_ in seen} <= set(SHAPES)
    assert len(seen) <= len(SHAPES)
    assert {shape[0] for shape, *_ in seen} == {4}


def test_no_pictures_are_no_calls():
    def never(batch, origin, size):
        raise AssertionError("called for nothing")

    tiling.run(
        never, [], [], [], shapes=SHAPES, halo=HALO, stride=16, input_stride=1, output_stride=16, batch_size=2
    )


def test_a_cut_beyond_the_edge_repeats_the_last_pixels():
    array = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)
    np.testing.assert_array_equal(
        tiling.cut(array, 1, 2, 3, 3)[..., 0], [[7, 8, 8], [11, 12, 12], [11, 12, 12]]
    )
    np.testing.assert_array_equal(tiling.cut(array, 0, 0, 3, 4), array)
