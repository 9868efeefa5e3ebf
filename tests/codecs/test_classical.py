import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin

from jaxcodec.codecs import classical
from jaxcodec.codecs.base import Codec
from jaxcodec.codecs.native_formats import jpeg_xl_size, native_format
from jaxcodec.errors import (
    BadImage,
    BadOption,
    CorruptFile,
    MissingDependency,
    NotAJxcFile,
    TooLarge,
    TruncatedFile,
)

NAMES = ("jpeg", "jpeg444", "jpeg2000", "webp", "avif", "hevc", "jxl")


def make(name):
    try:
        return getattr(classical, name)()
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture(params=NAMES)
def codec(request):
    return make(request.param)


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([120 + 60 * np.sin(x / 19), 120 + 50 * np.cos(y / 17), 90 + x % 64 - y % 50], axis=-1)
    return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(1e-3, np.mean((a.astype(float) - b) ** 2)))


def saved(picture, file_format, **arguments):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **arguments)
    return buffer.getvalue()


def test_it_is_a_codec(codec):
    assert isinstance(codec, Codec)
    assert set(codec.ladder) <= set(codec.qualities)
    assert codec.default_quality in codec.qualities


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 5), (513, 769)], ids=str)
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_every_size_comes_back_as_it_was(codec, shape, grey):
    image = photo(*shape)[..., 1] if grey else photo(*shape)
    options = classical.HevcOptions(preset="ultrafast") if codec.name == "hevc" else None  # the test's time
    decoded = codec.decode(codec.encode(image, quality=80, options=options))
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert psnr(decoded, image) > 20


def test_a_grey_looking_colour_picture_stays_colour(codec):
    image = np.repeat(photo(16, 16)[..., :1], 3, axis=2)
    assert codec.decode(codec.encode(image)).shape == (16, 16, 3)


def test_more_quality_is_more_bytes_and_less_distortion(codec):
    image = photo(96, 128)
    files = [codec.encode(image, quality=quality) for quality in codec.ladder[::3]]
    sizes = [len(data) for data in files]
    gains = [psnr(codec.decode(data), image) for data in files]
    assert sizes == sorted(set(sizes))
    assert gains == sorted(set(gains))
    assert gains[-1] - gains[0] > 3


def test_extreme_qualities_and_noise_are_coded(codec):
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    for quality in (1, 95, 100):
        assert codec.decode(codec.encode(noise, quality=quality)).shape == noise.shape


def test_noise_overruns_no_buffer_in_jpeg(capfd):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    usual_block = ImageFile.MAXBLOCK
    data = classical.jpeg444().encode(noise, quality=100)
    assert len(data) > 2 * 300 * 400  # what Pillow reckons with
    assert usual_block == ImageFile.MAXBLOCK
    assert capfd.readouterr().err == ""


def test_a_batch_gives_the_same_files_and_pictures_as_one_by_one(codec):
    images = [photo(9, 20), photo(16, 16)[..., 0]]
    files = codec.encode_batch(images, quality=30)
    assert files == [codec.encode(image, quality=30) for image in images]
    for batched, data in zip(codec.decode_batch(files), files, strict=True):
        np.testing.assert_array_equal(batched, codec.decode(data))


def test_jpeg_is_what_pillow_writes_with_these_settings():
    image = photo(40, 56)
    for codec, subsampling in ((classical.jpeg(), "4:2:0"), (classical.jpeg444(), "4:4:4")):
        expected = saved(Image.fromarray(image), "JPEG", quality=60, subsampling=subsampling, optimize=True)
        assert codec.encode(image, quality=60) == expected
        assert codec.encode(image, quality=60, options=classical.JpegOptions(progressive=True)) == saved(
            Image.fromarray(image),
            "JPEG",
            quality=60,
            subsampling=subsampling,
            optimize=True,
            progressive=True,
        )


def test_the_chroma_of_an_option_overrides_the_codecs_own():
    data = classical.jpeg().encode(photo(32, 32), options=classical.JpegOptions("4:4:4"))
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")
    assert JpegImagePlugin.get_sampling(picture) == 0


def test_jpeg_2000_meets_its_psnr_and_decorrelates_colour():
    codec, image = make("jpeg2000"), photo(128, 192)
    for quality in (25, 55):
        assert (
            abs(psnr(codec.decode(codec.encode(image, quality=quality)), image) - (24 + 0.24 * quality)) < 1
        )
    grey_like = np.clip(image[..., :1] + np.array([0, 5, 10]), 0, 255).astype(np.uint8)
    plain = codec.encode(grey_like, options=classical.Jpeg2000Options(colour_transform=False))
    assert len(codec.encode(grey_like)) < 0.7 * len(plain)


def test_jxl_at_quality_100_is_lossless():
    codec, image = make("jxl"), photo(20, 30)
    np.testing.assert_array_equal(codec.decode(codec.encode(image, quality=100)), image)


def test_a_file_cut_anywhere_raises_a_typed_error(codec):
    data = codec.encode(photo(24, 32), quality=60)
    for end in range(len(data) - 1, -1, -1 if len(data) < 500 else -7):
        with pytest.raises((TruncatedFile, CorruptFile, NotAJxcFile)):
            codec.decode(data[:end])


def test_a_cut_jpeg_is_said_to_be_truncated():
    data = classical.jpeg().encode(photo(64, 64))
    for end in (len(data) - 1, len(data) - 200, len(data) * 3 // 4):
        with pytest.raises(TruncatedFile, match="JPEG file is cut short"):
            classical.jpeg().decode(data[:end])


def test_flipped_bits_never_escape_as_another_error(codec):
    data = codec.encode(photo(24, 32), quality=60)
    rng = np.random.default_rng(3)
    refused = 0
    for position in rng.integers(0, len(data), 150):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            codec.decode(bytes(damaged))
        except (TruncatedFile, CorruptFile, NotAJxcFile, TooLarge, BadImage):
            refused += 1
    assert refused > 0


def test_pillow_told_to_decode_cut_files_is_refused(codec, monkeypatch):
    data = codec.encode(photo(8, 8))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(BadOption, match="LOAD_TRUNCATED_IMAGES"):
        codec.decode(data)


def test_a_file_of_another_format_is_not_this_codecs(codec):
    other = saved(Image.new("RGB", (8, 8)), "JPEG" if not codec.name.startswith("jpeg") else "WEBP")
    for data in (b"", b"text", saved(Image.new("RGB", (8, 8)), "PNG"), other):
        with pytest.raises(NotAJxcFile, match=f"not a {codec.file_format} file"):
            codec.decode(data)


def foreign_files():
    picture = Image.fromarray(photo(16, 16))
    turned = Image.Exif()
    turned[274] = 6
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield "jpeg", saved(picture.convert("CMYK"), "JPEG"), "kind CMYK"
    yield "jpeg", saved(picture, "JPEG", exif=turned), "EXIF orientation 6"
    yield "jpeg", saved(picture, "JPEG", icc_profile=lab), "profile other than sRGB"
    yield "jpeg", saved(picture, "MPO", save_all=True, append_images=[picture]), "several pictures"
    yield (
        "webp",
        saved(picture, "WEBP", save_all=True, append_images=[picture.rotate(90)]),
        "several pictures",
    )
    yield "webp", saved(Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP"), "kind RGBA"
    yield "avif", saved(Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "AVIF"), "kind RGBA"


@pytest.mark.parametrize(("name", "data", "words"), list(foreign_files()))
def test_what_no_codec_here_writes_is_refused(name, data, words):
    with pytest.raises(BadImage, match=words):
        make(name).decode(data)


def test_a_foreign_jpeg_with_an_srgb_profile_is_decoded():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(Image.fromarray(photo(16, 16)), "JPEG", icc_profile=srgb)
    np.testing.assert_array_equal(classical.jpeg().decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_wrong_pictures_qualities_and_options_are_refused(codec):
    with pytest.raises(BadImage):
        codec.encode(np.zeros((4, 4), np.float32))
    for quality in (0, 101):
        with pytest.raises(BadOption, match=r"1\.\.100"):
            codec.encode(photo(4, 4), quality=quality)
    with pytest.raises(BadOption, match="takes options of class"):
        codec.encode(photo(4, 4), options={"quality": 3})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jpeg", classical.JpegOptions("4:1:7")),  # pyrefly: ignore
        ("avif", classical.AvifOptions("4:1:7")),  # pyrefly: ignore
        ("hevc", classical.HevcOptions(preset="hasty")),
        ("webp", classical.WebpOptions(method=9)),
        ("jxl", classical.JxlOptions(effort=99)),
    ],
)
def test_an_option_the_encoder_does_not_know_is_refused(name, options):
    with pytest.raises(BadOption, match="cannot code this picture with"):
        make(name).encode(photo(8, 8), options=options)


def test_a_picture_beyond_the_formats_sides_is_too_large():
    for name, side in (("webp", 16384), ("jpeg", 65501), ("avif", 65536)):
        with pytest.raises(TooLarge, match="a side"):
            make(name).encode(np.zeros((1, side), np.uint8))


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (256, 256), (257, 3), (300, 600), (1200, 900), (160, 90)], ids=str
)
def test_the_size_of_a_jpeg_xl_file_is_read_from_its_header(size):
    make("jxl")
    picture = Image.new("RGB", size)
    assert jpeg_xl_size(saved(picture, "JXL", effort=1)) == size
    assert jpeg_xl_size(saved(picture, "JXL", effort=1, use_container=True)) == size


def test_headers_of_too_many_pixels_are_refused_before_decoding():
    jxl = make("jxl")
    # Size header: not in blocks, height of 30 bits = 2**30, ratio 1:1
    bits = 0b0 | 0b11 << 1 | (2**30 - 1) << 3 | 0b001 << 33
    with pytest.raises(TooLarge, match="1073741824 x 1073741824"):
        jxl.decode(b"\xff\x0a" + bits.to_bytes(16, "little"))
    jpeg = bytearray(classical.jpeg().encode(photo(16, 16)))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = b"\xff\x00\xff\x00"
    with pytest.raises(TooLarge, match="65280 x 65280"):
        classical.jpeg().decode(bytes(jpeg))


def test_formats_are_told_by_their_first_bytes(codec):
    assert native_format(codec.encode(photo(8, 8))[:64]) == codec.file_format
    assert native_format(b"") is None
    assert native_format(b"\0\0\0\x18ftypisom\0\0\0\0isommp42") is None


@pytest.mark.parametrize(("name", "package"), [("hevc", "pillow_heif"), ("jxl", "pillow_jxl")])
def test_a_missing_package_names_the_extra(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"{package}.JpegXLImagePlugin", raising=False)
    with pytest.raises(MissingDependency, match=r"pip install 'jaxcodec\[codecs\]'"):
        getattr(classical, name)()
