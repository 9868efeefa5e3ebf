"""The files of msroi: plain JPEGs, never larger than their reference, better where the map is high."""

import io
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcodec
from jaxcodec.codecs import classical
from jaxcodec.codecs.msroi import MsRoiCodec, MsRoiOptions, load_msroi
from jaxcodec.codecs.msroi.codec import LARGEST_SIDE
from jaxcodec.codecs.msroi.dct_file import is_installed, read_coefficients
from jaxcodec.codecs.msroi.jpeg import (
    encode_coefficients,
    encode_composite,
    plain_jpeg,
    resize_map,
    weights_of,
    with_dead_zone,
)
from jaxcodec.codecs.msroi.model import RegionConfig, RegionNetwork
from jaxcodec.errors import BadImage, BadOption, JaxcodecError, MissingDependency, WrongWeights
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import save_weights
from tests.codecs.golden_codecs import photo, weights_path

needs_jpeglib = pytest.mark.skipif(not is_installed(), reason="jpeglib is not installed (extra codecs)")
MODES = [pytest.param("coefficients", marks=needs_jpeglib), "composite"]
SIZES = [(1, 1), (7, 5), (8, 8), (17, 33), (64, 48), (50, 131)]
CONFIG = RegionConfig(classes=6, clutter=0, bottleneck=4, multiplier=2, features=8)


def without_weights():
    """A codec that a mask must suffice for."""
    return MsRoiCodec(Path("no such file.safetensors"))


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    shapes = jax.eval_shape(RegionNetwork(CONFIG).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))[
        "params"
    ]
    rng = np.random.default_rng(0)  # spreads of about 1 from layer to layer, as a trained network has

    def random(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100.0
        return (rng.standard_normal(leaf.shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)

    params = jax.tree.map(random, shapes)
    folder = tmp_path_factory.mktemp("weights")
    return save_weights(folder, codec="msroi", quality=0, config=CONFIG.to_dict(), params=params, tables={})


def left_half(height=8, width=8):
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


def segments(data):
    """Markers up to the scan, in order."""
    markers, position = [], 2
    while data[position + 1] != 0xDA:
        markers.append(data[position + 1])
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return markers


def squared_error(a, b, where):
    return float(np.mean((a[where].astype(float) - b[where]) ** 2))


# --- sizes, formats ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [False, True])
def test_a_file_is_a_baseline_jpeg_no_larger_than_its_reference(mode, size, grey):
    image = photo(*size, top=100, left=60)
    image = image[..., 0] if grey else image
    for quality in (5, 50, 95):
        options = MsRoiOptions(mask=left_half(), mode=mode)
        data = without_weights().encode(image, quality=quality, options=options)
        reference = classical.jpeg().encode(image, quality=quality)
        assert len(data) <= len(reference)
        # The same segments as plain JPEG: JFIF, tables, a baseline frame, Huffman tables, and nothing else.
        assert segments(data) == segments(reference)
        assert 0xC0 in segments(data)
        decoded = jaxcodec.decode(data)
        assert decoded.shape == image.shape
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.layers == (1 if grey else 3)
            np.testing.assert_array_equal(np.asarray(picture), decoded)
            if not grey:
                assert {layer[1:3] for layer in picture.layer} == {(2, 2), (1, 1)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(6))
def test_no_map_makes_a_file_larger_than_its_reference(mode, seed):
    rng = np.random.default_rng(seed)
    image = photo(int(rng.integers(20, 90)), int(rng.integers(20, 90)), top=int(rng.integers(200)))
    if seed % 2:
        image = rng.integers(0, 256, image.shape).astype(np.uint8)
    mask = rng.random((int(rng.integers(1, 9)), int(rng.integers(1, 9)))) ** 4
    quality = int(rng.integers(1, 101))
    options = MsRoiOptions(mask=mask, mode=mode, background=float(rng.uniform(0.01, 1.0)))
    data = without_weights().encode(image, quality=quality, options=options)
    assert len(data) <= len(classical.jpeg().encode(image, quality=quality))


@pytest.mark.parametrize("mode", MODES)
def test_what_the_map_shows_gains_and_the_rest_pays(mode):
    image = photo(96, 160, top=200, left=100)
    options = MsRoiOptions(mask=left_half(6, 10), mode=mode, background=0.05)
    codec = without_weights()
    decoded = codec.decode(codec.encode(image, quality=40, options=options))
    plain = codec.decode(classical.jpeg().encode(image, quality=40))
    left, right = np.s_[:, :64], np.s_[:, 96:]
    share = {"coefficients": 0.8, "composite": 0.97}[mode]
    assert squared_error(image, decoded, left) < share * squared_error(image, plain, left)
    assert squared_error(image, decoded, right) > squared_error(image, plain, right)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_map_without_contrast_gives_plain_jpeg(mode, value):
    image = photo(40, 56)
    options = MsRoiOptions(mask=np.full((3, 4), value), mode=mode)
    details = without_weights().encode_details(image, quality=60, options=options)
    assert details.is_reference
    assert details.data == classical.jpeg().encode(image, quality=60)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("mode", MODES)
def test_the_chroma_is_subsampled_as_in_the_reference(mode, subsampling):
    image = photo(45, 70)
    options = MsRoiOptions(mask=left_half(), mode=mode, subsampling=subsampling)
    data = without_weights().encode(image, quality=50, options=options)
    reference = plain_jpeg(image, 50, subsampling)
    assert len(data) <= len(reference)
    with Image.open(io.BytesIO(data)) as ours, Image.open(io.BytesIO(reference)) as theirs:
        assert [layer[1:3] for layer in ours.layer] == [layer[1:3] for layer in theirs.layer]


# --- coefficients ---


@needs_jpeglib
@pytest.mark.parametrize("size", SIZES)
def test_coefficients_that_are_written_are_read_again_in_as_many_bytes(size):
    for image in (photo(*size), photo(*size)[..., 1]):
        data = plain_jpeg(image, 70, "4:2:0")
        file = read_coefficients(data)
        again = file.written(file.planes)
        assert len(again) == len(data)
        for a, b in zip(read_coefficients(again).planes, file.planes, strict=True):
            np.testing.assert_array_equal(a, b)


@needs_jpeglib
def test_a_map_of_ones_leaves_the_coefficients_of_plain_jpeg():
    image = photo(72, 88)
    found = encode_coefficients(image, np.ones((5, 6)), quality=55, background=0.1)
    plain = read_coefficients(plain_jpeg(image, 55, "4:2:0"))
    for a, b in zip(read_coefficients(found.data).planes, plain.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_jpeglib
def test_only_blocks_of_less_weight_differ_from_plain_jpeg_of_the_same_tables_and_only_towards_zero():
    image = photo(96, 128, top=150)
    mask = np.zeros((12, 16))
    mask[:, :8] = 1.0
    found = encode_coefficients(image, mask, quality=50, background=0.1)
    assert found.quality > 50
    assert found.strength > 0
    ours, plain = (
        read_coefficients(data) for data in (found.data, plain_jpeg(image, found.quality, "4:2:0"))
    )
    for a, b, table in zip(ours.planes, plain.planes, ours.tables, strict=True):
        assert (np.abs(a) <= np.abs(b)).all()
        assert (a * b >= 0).all()
        np.testing.assert_array_equal(a[..., 0, 0], b[..., 0, 0])
        np.testing.assert_array_equal(a[:, : a.shape[1] // 2 - 1], b[:, : b.shape[1] // 2 - 1])
        assert table.min() >= 1
    assert (ours.planes[0] != plain.planes[0]).any()


def test_the_dead_zone_widens_with_the_strength():
    exact = np.linspace(-4.0, 4.0, 801)
    plain = np.round(exact).astype(np.int16)
    before = np.abs(plain)
    for strength in (0.0, 0.1, 0.4, 1.0, 3.0):
        found = with_dead_zone(plain, exact, np.full(exact.shape, strength))
        assert found.dtype == np.int16
        assert (np.abs(found) <= before).all()
        assert (found * plain >= 0).all()
        inside = np.abs(exact) < 0.5 + strength - 1e-9
        assert not found[inside].any()
        if strength > 0:
            assert (np.abs(found[np.abs(exact) > 0.5 + strength + 1e-9]) >= 1).all()
        before = np.abs(found)
    np.testing.assert_array_equal(with_dead_zone(plain, exact, np.zeros(exact.shape)), plain)


@needs_jpeglib
def test_less_background_moves_more_to_the_regions():
    image = photo(96, 160, top=200, left=100)
    errors = []
    for background in (0.7, 0.4, 0.2):
        found = encode_coefficients(image, left_half() / 255.0, quality=40, background=background)
        errors.append(squared_error(image, jaxcodec.decode(found.data), np.s_[:, :64]))
    assert errors[0] > errors[1] > errors[2]


def test_without_jpeglib_coefficients_name_the_extra_and_composite_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "jpeglib", None)
    image = photo(24, 24)
    with pytest.raises(MissingDependency, match=r"jaxcodec\[codecs\].*composite"):
        without_weights().encode(image, options=MsRoiOptions(mask=left_half()))
    without_weights().encode(image, options=MsRoiOptions(mask=left_half(), mode="composite"))


def test_a_composite_of_one_level_is_a_second_generation_and_never_beats_the_reference():
    image = photo(64, 64)
    found = encode_composite(image, left_half() / 255.0, quality=50, background=0.5, levels=(20,))
    assert found.is_reference


# --- the network and masks ---


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (48, 64), (128, 33)])
def test_the_map_has_a_sample_for_16_pixels_and_lies_within_0_and_1(weight_file, size):
    codec = load_msroi(weight_file)
    for options in (MsRoiOptions(), MsRoiOptions(centre=0.5), MsRoiOptions(rule="softmax")):
        found = codec.saliency(photo(*size), options=options)
        assert found.shape == (-(-size[0] // 16), -(-size[1] // 16))
        assert found.dtype == np.float32
        assert found.min() >= 0.0
        assert found.max() <= 1.0


def test_grey_pictures_have_maps_and_large_ones_are_reduced_first(weight_file):
    codec = load_msroi(weight_file)
    image = photo(40, 50)[..., 0]
    np.testing.assert_array_equal(codec.saliency(image), codec.saliency(np.stack([image] * 3, -1)))
    wide = np.tile(photo(32, 64), (1, 2 * LARGEST_SIDE // 64, 1))
    assert codec.class_maps(wide).shape == (1, LARGEST_SIDE // 16, CONFIG.classes)
    assert codec.saliency(wide).shape == (2, 2 * LARGEST_SIDE // 16)


@needs_jpeglib
def test_the_network_steers_where_no_mask_does(weight_file):
    codec = load_msroi(weight_file)
    image = photo(64, 96)
    by_network = codec.encode(image, quality=50)
    same = codec.encode(image, quality=50, options=MsRoiOptions(mask=codec.saliency(image)))
    assert by_network == same
    other = codec.encode(image, quality=50, options=MsRoiOptions(mask=1.0 - codec.saliency(image)))
    assert by_network != other
    assert codec.encode_batch([image, image], quality=50) == [by_network] * 2
    np.testing.assert_array_equal(codec.decode_batch([by_network])[0], jaxcodec.decode(by_network))


def test_a_mask_replaces_the_network_which_is_then_not_needed():
    codec = without_weights()
    mask = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(codec.saliency(photo(48, 64), options=MsRoiOptions(mask=mask)), mask)
    as_bytes = codec.saliency(photo(48, 64), options=MsRoiOptions(mask=(255 * mask).round().astype(np.uint8)))
    np.testing.assert_allclose(as_bytes, mask, atol=1 / 255)
    with pytest.raises(WrongWeights):
        codec.saliency(photo(48, 64))


@pytest.mark.parametrize(
    "mask",
    [np.zeros((2, 2, 3)), np.zeros((0, 4)), np.array([[1.5]]), np.array([[np.nan]]), np.zeros((2, 2), int)],
)
def test_a_mask_that_is_none_is_refused(mask):
    with pytest.raises(BadImage, match="mask"):
        MsRoiOptions(mask=mask)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", "best"), ("rule", "all"), ("background", 0.0), ("background", 2.0), ("centre", -1.0), ("levels", ()),
     ("levels", (0, 50)), ("subsampling", "4:1:1")],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(BadOption, match=field.replace("levels", "level")):
        MsRoiOptions(**{field: value})


def test_a_quality_and_options_of_another_codec_are_refused():
    codec = without_weights()
    with pytest.raises(BadOption, match=r"1\.\.100"):
        codec.encode(photo(8, 8), quality=101)
    with pytest.raises(BadOption, match="MsRoiOptions"):
        codec.encode(photo(8, 8), options=classical.JpegOptions())


def test_weights_of_another_codec_are_refused(weight_file):
    with pytest.raises(WrongWeights, match="balle2017, not of msroi"):
        load_msroi(weights_path("bls2017"))
    with pytest.raises(BadOption, match="one weight file"):
        load_msroi([weight_file, weight_file])
    damaged = save_weights(
        weight_file.parent, codec="msroi", quality=0, config={"classes": -1}, params={}, tables={}
    )
    with pytest.raises(WrongWeights, match="does not describe"):
        load_msroi(damaged).saliency(photo(8, 8))


def test_a_resized_map_keeps_constants_and_weights_are_within_0_and_1():
    np.testing.assert_allclose(resize_map(np.full((3, 4), 0.25), 17, 9), 0.25, atol=1e-6)
    weights = weights_of(np.array([[0.0, 0.5]]), 0.1)
    np.testing.assert_allclose(weights, [[0.1 / 0.55, 1.0]])


# --- files ---


@needs_jpeglib
def test_damaged_files_raise_typed_errors_or_decode_to_the_size():
    rng = np.random.default_rng(0)
    image = photo(40, 56)
    codec = without_weights()
    original = codec.encode(image, quality=50, options=MsRoiOptions(mask=left_half()))
    for case in range(200):
        data = bytearray(original)
        if case % 2:
            data = data[: rng.integers(0, len(data))]
        else:
            for _ in range(3):
                data[rng.integers(0, len(data))] = rng.integers(0, 256)
        try:
            decoded = codec.decode(bytes(data))
        except JaxcodecError:
            continue
        else:
            assert decoded.dtype == np.uint8
            assert not case % 2 or len(data) > len(original) - 4


def test_it_is_listed_as_a_learned_codec_of_jpeg_files():
    info = next(info for info in jaxcodec.available() if info.name == "msroi")
    assert (info.kind, info.extension, info.requires) == ("learned", ".jpg", "codecs")


@pytest.mark.skipif(not manifest.current("msroi"), reason="no weights of msroi are shipped")
@needs_jpeglib
def test_the_shipped_network_finds_the_lighthouse_and_spends_bytes_there():
    codec = load_msroi()
    assert codec.qualities == manifest.qualities("msroi")
    image = photo(512, 512, name="kodim20.png")
    found = codec.saliency(image)
    assert found.shape == (32, 32)
    assert 0.5 < found.max() <= 1.0
    details = codec.encode_details(image, quality=30)
    assert not details.is_reference
    assert details.quality > 30
