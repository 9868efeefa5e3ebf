"""Rate and PSNR targets against trying every quality, and the protocol of progressive codecs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from jaxcodec.codecs.base import (
    ProgressiveCodec,
    count_iterations,
    first_iterations,
    unpack_iterations,
)
from jaxcodec.codecs.rate_control import (
    MAX_ENCODINGS,
    MAX_GUIDED_ENCODINGS,
    encode_to_bpp,
    encode_to_psnr,
)
from jaxcodec.codecs.registry import decode, load
from jaxcodec.coding.container import pack, unpack
from jaxcodec.errors import BadImage, BadOption, CorruptFile, JaxcodecError, TruncatedFile
from jaxcodec.metrics.psnr import psnr_uint8
from tests.codecs.bit_planes import BitPlanes
from tests.codecs.golden_codecs import fixture_codec, photo, weights_path

PICTURE = photo(176, 192, name="kodim21.png", top=150, left=200)
GREY = PICTURE[:64, :96, 1].copy()
SMALL = PICTURE[:64, 20:116]  # on which neither size nor PSNR always grow with quality


class Everything:
    """Every file of a codec, of one picture: what a search over all qualities would choose from."""

    def __init__(self, codec, picture):
        self.files = {quality: codec.encode(picture, quality=quality) for quality in codec.qualities}
        pixels = picture.shape[0] * picture.shape[1]
        self.bpp = {quality: 8 * len(data) / pixels for quality, data in self.files.items()}
        self.psnr = {quality: psnr_uint8(picture, codec.decode(data)) for quality, data in self.files.items()}


@pytest.fixture(scope="module", params=["jpeg", "webp"])
def measured(request):
    codec = load(request.param)
    return codec, Everything(codec, PICTURE)


def targets(values, count=7):
    """Numbers over the range that the values reach, some of them values."""
    values = list(values)
    return [*np.linspace(min(values), max(values), count), *values[::34]]


def test_a_rate_target_gives_the_largest_file_that_is_not_above_it(measured):
    codec, everything = measured
    for target in targets(everything.bpp.values()):
        found = encode_to_bpp(codec, PICTURE, target)
        assert found.bpp == max(bpp for bpp in everything.bpp.values() if bpp <= target)
        assert found.data == everything.files[found.quality]
        assert found.psnr == everything.psnr[found.quality]
        assert found.encodings <= MAX_ENCODINGS


def test_a_psnr_target_gives_the_smallest_file_that_reaches_it(measured):
    codec, everything = measured
    for target in targets(everything.psnr.values()):
        found = encode_to_psnr(codec, PICTURE, target)
        assert found.psnr >= target
        assert found.bpp == min(bpp for q, bpp in everything.bpp.items() if everything.psnr[q] >= target)
        assert found.data == everything.files[found.quality]
        assert found.psnr == everything.psnr[found.quality]
        assert found.encodings <= MAX_ENCODINGS


def test_the_closest_file_may_be_above_the_target(measured):
    codec, everything = measured
    above = 0
    for target in targets(everything.bpp.values()):
        found = encode_to_bpp(codec, PICTURE, target, closest=True)
        assert abs(found.bpp - target) == min(abs(bpp - target) for bpp in everything.bpp.values())
        above += found.bpp > target
    assert above > 0


def test_where_quality_and_size_do_not_grow_together_the_target_still_holds():
    codec = load("webp")
    everything = Everything(codec, SMALL)
    assert np.any(np.diff(list(everything.bpp.values())) < 0)
    assert np.any(np.diff(list(everything.psnr.values())) < 0)
    for target in targets(everything.bpp.values()):
        best = max(bpp for bpp in everything.bpp.values() if bpp <= target)
        assert 0.9 * best <= encode_to_bpp(codec, SMALL, target).bpp <= target
    for target in targets(everything.psnr.values()):
        best = min(bpp for q, bpp in everything.bpp.items() if everything.psnr[q] >= target)
        found = encode_to_psnr(codec, SMALL, target)
        assert found.psnr >= target
        assert found.bpp <= 1.1 * best


def test_a_target_gives_the_same_file_again():
    first, second = (encode_to_psnr(load("jpeg"), PICTURE, 33.0) for _ in range(2))
    assert first == second


def test_a_rate_above_every_file_gives_the_largest(measured):
    codec, everything = measured
    largest = max(everything.bpp.values())
    assert encode_to_bpp(codec, PICTURE, 1000).bpp == largest
    assert encode_to_bpp(codec, PICTURE, 1000, closest=True).bpp == largest


def test_a_rate_below_every_file_says_what_the_picture_reaches(measured):
    codec, everything = measured
    low, high = min(everything.bpp.values()), max(everything.bpp.values())
    with pytest.raises(
        BadOption,
        match=rf"^0\.05 bpp cannot be reached: {codec.name} makes files of {low:.3f} to {high:.3f} bpp",
    ):
        encode_to_bpp(codec, PICTURE, 0.05)
    assert encode_to_bpp(codec, PICTURE, 0.05, closest=True).bpp == low


def test_a_psnr_above_every_file_says_what_the_picture_reaches(measured):
    codec, everything = measured
    low, high = everything.psnr[1], everything.psnr[100]
    with pytest.raises(
        BadOption, match=rf"^70 dB cannot be reached: {codec.name} reaches {low:.2f} to {high:.2f} dB"
    ):
        encode_to_psnr(codec, PICTURE, 70)


@pytest.mark.parametrize(("aim", "target"), [(encode_to_bpp, 0.05), (encode_to_psnr, 70)])
def test_a_refusal_takes_no_more_encodings_than_an_answer(aim, target):
    codec, qualities = load("jpeg"), []

    def save(picture, quality, options):
        qualities.append(quality)
        return codec._save(picture, quality, options)

    with pytest.raises(BadOption):
        aim(replace(codec, _save=save), PICTURE, target)
    assert len(qualities) == len(set(qualities)) <= MAX_ENCODINGS


@pytest.mark.parametrize("target", [0, -1.0, math.nan, math.inf])
def test_a_target_that_is_no_positive_number_is_refused(target):
    for aim in (encode_to_bpp, encode_to_psnr):
        with pytest.raises(BadOption, match="above 0"):
            aim(load("jpeg"), PICTURE, target)


def test_what_is_no_picture_is_refused():
    with pytest.raises(BadImage):
        encode_to_bpp(load("jpeg"), PICTURE.astype(float), 1.0)


def test_options_reach_the_codec():
    codec = load("jpeg")
    options = replace(codec.default_options, subsampling="4:4:4")
    found = encode_to_bpp(codec, PICTURE, 2.0, options=options)
    assert found.data == codec.encode(PICTURE, quality=found.quality, options=options)
    assert found.data != encode_to_bpp(codec, PICTURE, 2.0).data


def test_a_grey_picture_is_measured_in_a_format_without_grey():
    found = encode_to_psnr(load("webp"), GREY, 34.0)
    assert found.psnr == psnr_uint8(np.repeat(GREY[..., None], 3, 2), to_colour(decode(found.data)))


def to_colour(picture):
    return np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture


def test_a_learned_codec_of_one_quality_has_one_file():
    codec = fixture_codec("bls2017")
    data = codec.encode(PICTURE)
    bpp = 8 * len(data) / (176 * 192)
    found = encode_to_bpp(codec, PICTURE, bpp)
    assert (found.data, found.quality, found.encodings) == (data, 1, 1)
    with pytest.raises(BadOption, match=f"makes files of {bpp:.3f} bpp of"):
        encode_to_bpp(codec, PICTURE, bpp - 1e-3)


# --- progressive codecs ---


def test_a_progressive_codec_follows_its_protocol_and_others_do_not():
    assert isinstance(BitPlanes(), ProgressiveCodec)
    assert not isinstance(load("jpeg"), ProgressiveCodec)
    assert not isinstance(fixture_codec("bls2017"), ProgressiveCodec)


def test_the_first_iterations_of_a_file_are_the_file_of_that_quality():
    codec = BitPlanes()
    whole = codec.encode(GREY, quality=8)
    for iterations in codec.qualities:
        file = first_iterations(whole, iterations)
        assert file == codec.encode(GREY, quality=iterations)
        picture = codec.decode(file)
        np.testing.assert_array_equal(picture, codec.decode_progressive(whole, iterations=iterations))
        assert np.abs(picture.astype(int) - GREY).max() <= 2 ** (8 - iterations) // 2


@pytest.mark.parametrize("iterations", [0, -1, 5])
def test_iterations_that_were_not_written_are_refused(iterations):
    data = BitPlanes().encode(GREY, quality=4)
    for call in (unpack_iterations, BitPlanes().decode_progressive):
        with pytest.raises(BadOption, match="written with 4"):
            call(data, iterations=iterations)


def test_a_cut_file_holds_the_iterations_before_the_cut_when_allowed():
    codec = BitPlanes()
    data = codec.encode(GREY, quality=3)
    starts = [len(data) - k * (len(GREY.tobytes()) // 8 + 4) for k in (3, 2, 1, 0)]
    for end in range(0, len(data), 7):
        cut = data[:end]
        with pytest.raises(TruncatedFile):
            codec.decode_progressive(cut)
        with pytest.raises(TruncatedFile):
            codec.decode_progressive(cut, iterations=1)
        whole = sum(end >= start for start in starts[1:])
        if not whole:
            with pytest.raises(TruncatedFile):
                count_iterations(cut)
            continue
        assert count_iterations(cut) == (whole, 3)
        expected = codec.decode_progressive(data, iterations=whole)
        np.testing.assert_array_equal(codec.decode_progressive(cut, allow_truncated=True), expected)
        more = codec.decode_progressive(cut, iterations=3, allow_truncated=True)
        np.testing.assert_array_equal(more, expected)
    assert count_iterations(data) == (3, 3)


def test_a_file_whose_chunks_are_not_its_iterations_is_corrupt():
    header, chunks = unpack(BitPlanes().encode(GREY, quality=3))
    for wrong in (pack(header, chunks[:2]), pack(header, [*chunks, b"more"])):
        with pytest.raises(CorruptFile, match="for 3 iterations"):
            unpack_iterations(wrong)
    with pytest.raises(CorruptFile, match="for 3 iterations"):
        count_iterations(pack(header, [*chunks, b"more"]))


@pytest.mark.parametrize("iterations", range(1, 9))
def test_a_progressive_codec_encodes_once_for_a_target(iterations):
    codec = BitPlanes()
    expected = codec.encode(GREY, quality=iterations)
    bpp, psnr = 8 * len(expected) / GREY.size, psnr_uint8(GREY, codec.decode(expected))
    codec.encodings = 0
    by_rate = encode_to_bpp(codec, GREY, bpp)
    assert (by_rate.data, by_rate.quality, by_rate.bpp, by_rate.psnr) == (expected, iterations, bpp, psnr)
    by_psnr = encode_to_psnr(codec, GREY, min(psnr, 200.0))
    assert (by_psnr.data, by_psnr.quality) == (expected, iterations)
    assert by_rate.encodings == by_psnr.encodings == 1
    assert codec.encodings == 2
    assert encode_to_bpp(codec, GREY, bpp + 0.4, closest=True).quality == iterations
    if iterations < 8:
        assert encode_to_bpp(codec, GREY, bpp + 0.6, closest=True).quality == iterations + 1


def test_a_progressive_codec_says_what_it_reaches():
    codec = BitPlanes()
    with pytest.raises(
        BadOption, match=r"0\.5 bpp cannot be reached: bitplanes makes files of 1\.0\d\d to 8"
    ):
        encode_to_bpp(codec, GREY, 0.5)


@pytest.mark.parametrize("arguments", [{"iterations": 1}, {"allow_truncated": True}])
def test_iterations_of_a_codec_that_is_not_progressive_are_refused(arguments):
    for codec in (load("jpeg"), fixture_codec("bls2017")):
        data = codec.encode(PICTURE)
        weights = None if codec.name == "jpeg" else str(weights_path("bls2017"))
        with pytest.raises(BadOption, match=f"{codec.name}'s, which is not progressive"):
            decode(data, weights=weights, **arguments)


def test_a_cut_file_that_is_not_progressive_is_refused_whatever_is_allowed():
    for codec in (load("jpeg"), fixture_codec("bls2017")):
        with pytest.raises(JaxcodecError):
            decode(codec.encode(PICTURE)[:-9], allow_truncated=True)


def test_a_ladder_comes_within_three_per_cent_below_a_rate_in_six_encodings():
    codec = fixture_codec("theis2017")
    picture = photo(192, 256, name="kodim21.png", top=150, left=200)
    reach = [8 * len(codec.encode(picture, quality=q)) / picture[..., 0].size for q in codec.qualities[::-1]]
    for target in np.geomspace(1.05 * reach[-1], 0.95 * reach[0], 7):
        found = encode_to_bpp(codec, picture, target)
        assert 0.97 * target <= found.bpp <= target
        assert found.encodings <= MAX_GUIDED_ENCODINGS
        assert found.data == codec.encode(picture, quality=found.quality)
        assert found == encode_to_bpp(codec, picture, target)


def test_a_rate_that_a_ladder_cannot_reach_is_refused_or_its_smallest_file():
    codec = fixture_codec("theis2017")
    smallest = codec.encode(PICTURE, quality=codec.qualities[0])
    with pytest.raises(BadOption, match=r"cannot be reached"):
        encode_to_bpp(codec, PICTURE, 0.001)
    assert encode_to_bpp(codec, PICTURE, 0.001, closest=True).data == smallest
    assert encode_to_bpp(codec, PICTURE, 1000).data == codec.encode(PICTURE, quality=codec.qualities[-1])
