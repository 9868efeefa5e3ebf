"""The codecs around JPEG, JPEG 2000 and HEVC: what is in their files, any size, damage, weights."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcodec
from jaxcodec.codecs.base import Codec
from jaxcodec.codecs.comcnn import ComCnnOptions, load_comcnn, load_comcnn_hevc
from jaxcodec.codecs.comcnn.coarseness import (
    hevc_coarseness,
    jpeg2000_coarseness,
    jpeg_coarseness,
    luma_table,
)
from jaxcodec.codecs.comcnn.codec import luma_table_of
from jaxcodec.codecs.comcnn.model import ComCNN, RecCNN
from jaxcodec.codecs.comcnn.networks import enlarged, reduced
from jaxcodec.codecs.rate_control import encode_to_bpp
from jaxcodec.coding.container import Limits, pack, unpack
from jaxcodec.coding.jpeg_segment import add_segment, split_segment
from jaxcodec.errors import (
    BadOption,
    CorruptFile,
    JaxcodecError,
    NotAJxcFile,
    TooLarge,
    TruncatedFile,
    WrongWeights,
)
from jaxcodec.zoo import manifest
from tests.codecs.comcnn_networks import random_params, small_codec, small_config
from tests.codecs.golden_codecs import levels_apart, photo, weights_path


@pytest.fixture(scope="module")
def around(tmp_path_factory):
    """The codec around each standard one, with random networks."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}

    def codec(inner):
        if inner == "hevc":
            pytest.importorskip("pillow_heif")
        if inner not in found:
            found[inner] = small_codec(folder, inner)
        return found[inner]

    return codec


every_inner = pytest.mark.parametrize("inner", ["jpeg", "jpeg2000", "hevc"])


@pytest.mark.parametrize(
    ("inner", "height", "width"),
    [
        *(("jpeg", *size) for size in [(1, 1), (7, 5), (2, 300), (65, 48)]),
        *(("jpeg2000", *size) for size in [(1, 1), (65, 48)]),
        *(("hevc", *size) for size in [(1, 1), (7, 5)]),
    ],
)
def test_a_picture_of_any_size_comes_back_in_its_size(around, inner, height, width):
    codec, image = around(inner), photo(height, width, top=100)
    for picture in (image, image[..., 1].copy()):
        data = codec.encode(picture, quality=50)
        decoded = codec.decode(data)
        assert (decoded.shape, decoded.dtype) == (picture.shape, np.uint8)
        assert codec.decode_batch(codec.encode_batch([picture], quality=50))[0].tobytes() == decoded.tobytes()


@every_inner
def test_the_codecs_keep_the_protocol(around, inner):
    codec = around(inner)
    assert isinstance(codec, Codec)
    assert codec.default_quality in codec.qualities
    assert set(codec.ladder) <= set(codec.qualities)
    assert codec.name == ("comcnn" if inner == "jpeg" else f"comcnn-{inner}")


def test_an_untrained_pair_is_bicubic_reduction_jpeg_and_bicubic_enlargement(tmp_path):
    codec, image = small_codec(tmp_path, last=0.0), photo(64, 48, top=200)[..., 1].copy()
    picture = Image.fromarray(image)
    small = picture.resize((24, 32), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=60, optimize=True)
    data = codec.encode(image, quality=60)
    with Image.open(io.BytesIO(data)) as stored, Image.open(buffer) as expected:
        # Pillow reduces 8-bit samples in fixed point, the codec in floats: halves may round apart.
        assert np.mean(np.asarray(stored) != np.asarray(expected)) < 0.1
        doubled = stored.resize((48, 64), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(codec.decode(data), np.asarray(doubled))


def test_the_file_is_an_ordinary_jpeg_of_half_the_size_and_its_segment_is_counted(around):
    codec, image = around("jpeg"), photo(61, 90)
    data = codec.encode(image, quality=40)
    split = split_segment(data)
    assert split is not None
    segment, payload = split
    assert (segment.width, segment.height, segment.weights_hash) == (90, 61, codec.model.hash)
    assert len(data) - len(payload) == 4 + 4 + 5 + 2 + 4  # marker, name, codec and hash, size, checksum
    with Image.open(io.BytesIO(data)) as shown, Image.open(io.BytesIO(payload)) as plain:
        assert shown.size == (45, 31)
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(plain))


def test_a_jxc_file_holds_a_whole_jpeg_2000_file(around):
    header, chunks = unpack(around("jpeg2000").encode(photo(20, 30), quality=30))
    assert (header.width, header.height, header.quality) == (30, 20, 30)
    with Image.open(io.BytesIO(chunks[0])) as shown:
        assert (shown.format, shown.size) == ("JPEG2000", (15, 10))


@every_inner
def test_decode_finds_the_codec_by_itself_with_the_weights_given(around, inner):
    codec, image = around(inner), photo(24, 24)
    data = codec.encode(image)
    weights = codec.path
    expected = codec.decode(data)
    np.testing.assert_array_equal(jaxcodec.decode(data, weights=weights), expected)
    with pytest.raises(WrongWeights, match=codec.model.hash.hex()):
        load_comcnn(around("jpeg" if inner != "jpeg" else "jpeg2000").path).decode(data)
    with pytest.raises(BadOption, match="not progressive"):
        jaxcodec.decode(data, weights=weights, iterations=1)


def test_a_plain_jpeg_stays_one():
    data = jaxcodec.encode(photo(16, 16), "jpeg")
    assert jaxcodec.decode(data).shape == (16, 16, 3)


def test_a_plain_jpeg_is_refused_by_the_codec(around):
    with pytest.raises(NotAJxcFile, match="not of comcnn"):
        around("jpeg").decode(jaxcodec.encode(photo(16, 16), "jpeg"))


@every_inner
def test_damaged_files_raise_typed_errors(around, inner):
    rng, codec = np.random.default_rng(0), around(inner)
    original = codec.encode(photo(40, 56), quality=40)
    for case in range(200):
        data = bytearray(original)
        if case % 2:
            data = data[: rng.integers(0, len(data))]
        else:
            for _ in range(3):
                data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        if data != original:
            with pytest.raises(JaxcodecError) as caught:
                codec.decode(bytes(data))
            assert len(str(caught.value).splitlines()) == 1


def test_decoding_a_cut_file_raises_truncated(around):
    codec = around("jpeg")
    data = codec.encode(photo(40, 56), quality=40)
    for length in (60, len(data) // 2, len(data) - 1):
        with pytest.raises(TruncatedFile):
            codec.decode(data[:length])
        with pytest.raises(TruncatedFile):
            jaxcodec.decode(data[:length], weights=codec.path)


def test_a_picture_of_another_size_than_the_segment_says_raises_corrupt_file(around):
    codec = around("jpeg")
    split = split_segment(codec.encode(photo(20, 20), quality=40))
    assert split is not None
    segment, payload = split
    for width, height in ((22, 20), (1, 1), (20_000, 20)):
        with pytest.raises(CorruptFile, match="samples for a picture"):
            codec.decode(add_segment(payload, replace(segment, width=width, height=height)))
    with pytest.raises(TooLarge, match="60000 x 60000"):
        codec.decode(add_segment(payload, replace(segment, width=60_000, height=60_000)))
    with pytest.raises(NotAJxcFile, match="balle2017's"):
        codec.decode(add_segment(payload, replace(segment, codec_id=3)))


def test_a_jxc_file_that_contradicts_itself_raises_corrupt_file(around):
    codec = around("jpeg2000")
    header, chunks = unpack(codec.encode(photo(20, 20), quality=40))
    for changed in (
        pack(replace(header, quality=1), chunks),
        pack(replace(header, channels=1), chunks),
        pack(replace(header, coder_id=1), chunks),
        pack(header, [*chunks, b""]),
        pack(header, [chunks[0][:-2]]),
    ):
        with pytest.raises((CorruptFile, TruncatedFile)):
            codec.decode(changed)


def test_limits_hold_for_encoder_and_decoder(around):
    codec, image = around("jpeg"), photo(20, 20)
    with pytest.raises(TooLarge):
        codec.encode(image, options=ComCnnOptions(limits=Limits(max_pixels=399)))
    with pytest.raises(BadOption, match="subsampling"):
        ComCnnOptions(subsampling="4:1:1")  # pyrefly: ignore
    with pytest.raises(BadOption, match="no quality 100"):
        codec.encode(image, quality=100)


def test_a_rate_is_reached_from_below(around):
    image = photo(96, 96, top=300)
    found = encode_to_bpp(around("jpeg"), image, 1.2)
    assert 0.9 < found.bpp <= 1.2


# --- networks over whole pictures ---


@pytest.mark.parametrize(("height", "width"), [(31, 45), (300, 257)])
def test_windows_give_what_the_whole_picture_would(around, height, width):
    model = around("jpeg").model
    networks, luma = model.networks, photo(height, width, top=100)[..., 1].copy()
    pixels = jnp.asarray(luma, jnp.float32)[None, :, :, None] / 255.0
    c = jnp.full((1,), 100 / 255.0, jnp.float32)
    correction = ComCNN(model.config.compact_channels).apply({"params": networks.comcnn}, pixels, c)
    small = np.clip(np.round(reduced(luma) + 255.0 * np.asarray(correction)[0, :, :, 0]), 0, 255)
    assert levels_apart(networks.compact(luma, 100), small.astype(np.uint8)) <= 1
    even = jnp.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    restored = even - RecCNN(model.config.reccnn).apply({"params": networks.reccnn}, even, c)
    expected = np.clip(np.round(255.0 * np.asarray(restored)[0, :height, :width, 0]), 0, 255)
    assert levels_apart(networks.restore(luma, 100), expected.astype(np.uint8)) <= 1


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pixel_depends_on_no_more_than_the_halo(stride):
    config = small_config(stride=stride)
    params = random_params(config, last=0.5)["reccnn"]
    apply = jax.jit(RecCNN(config.reccnn).apply)
    x, c = jnp.full((1, 48, 48, 1), 0.6), jnp.ones(1)
    change = apply({"params": params}, x.at[0, 24, 24, 0].set(0.2), c) - apply({"params": params}, x, c)
    rows = np.nonzero(np.abs(np.asarray(change)[0, :, :, 0]).max(1) > 1e-7)[0]
    # In whole groups of `stride` pixels, on which windows begin and end.
    reach = max(24 // stride - rows.min() // stride, rows.max() // stride - 24 // stride) * stride
    assert 0 < config.layers * stride - stride <= reach <= config.reccnn.halo


def test_an_odd_last_row_is_repeated_before_the_reduction():
    plane = photo(15, 21)[..., 0].copy()
    repeated = np.pad(plane, ((0, 1), (0, 1)), mode="edge")
    np.testing.assert_array_equal(reduced(plane), reduced(repeated))
    assert enlarged(reduced(plane).round().astype(np.uint8), (15, 21)).shape == (15, 21)


# --- coarseness ---


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 100])
def test_the_luma_table_is_that_of_libjpeg(quality):
    data = jaxcodec.encode(photo(8, 8), "jpeg", quality=quality)
    np.testing.assert_array_equal(luma_table_of(data), luma_table(quality))


@pytest.mark.parametrize(
    "coarseness", [lambda q: jpeg_coarseness(luma_table(q)), jpeg2000_coarseness, hevc_coarseness]
)
def test_coarseness_falls_as_the_quality_rises(coarseness):
    values = [coarseness(quality) for quality in range(1, 101, 9)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < values[0] <= 255


def test_a_uniform_table_has_the_coarseness_of_its_step():
    for octaves in (0, 1, 4, 8):
        assert jpeg_coarseness(np.full((8, 8), 2**octaves)) == round(255 * octaves / 8)


# --- weights ---


def test_weights_of_another_codec_are_refused(around, tmp_path):
    with pytest.raises(WrongWeights, match="balle2017, not of comcnn"):
        load_comcnn(weights_path("bls2017"))
    with pytest.raises(WrongWeights, match="comcnn, not of comcnn-hevc"):
        load_comcnn_hevc(around("jpeg").path)
    with pytest.raises(BadOption, match="one weight file"):
        load_comcnn([around("jpeg").path] * 2)


@pytest.mark.skipif(not manifest.current("comcnn"), reason="no weights of comcnn are shipped")
def test_the_shipped_networks_beat_jpeg_by_a_decibel_and_a_half_at_its_bytes():
    image = np.asarray(Image.fromarray(photo(256, 256, name="kodim23.png", top=100, left=200)).convert("L"))
    plain = jaxcodec.load("jpeg")
    anchor = plain.encode(image, quality=10)
    found = encode_to_bpp(load_comcnn(), image, 8 * len(anchor) / image.size)
    error = np.mean((plain.decode(anchor).astype(float) - image) ** 2)
    assert found.psnr > -10 * np.log10(error / 255**2) + 1.5
