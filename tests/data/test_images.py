import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from jaxcodec.data.images import image_bytes, read_image, write_image
from jaxcodec.errors import BadImage, BadOption, TooLarge
from tests.data.pictures import photo, saved


def png(width, height, bit_depth, colour_type, rows, *chunks):
    """A PNG of the kinds that Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


# --- ordinary pictures ---


@pytest.mark.parametrize(
    "pixels", [photo(), photo()[..., 0], photo(1, 1)], ids=["colour", "grey", "one pixel"]
)
def test_an_ordinary_picture_is_read_as_it_is_and_without_notes(pixels, tmp_path):
    data = saved(pixels)
    (tmp_path / "a.png").write_bytes(data)
    for source in (data, str(tmp_path / "a.png"), tmp_path / "a.png", io.BytesIO(data)):
        loaded = read_image(source)
        assert loaded.notes == ()
        assert loaded.pixels.dtype == np.uint8
        np.testing.assert_array_equal(loaded.pixels, pixels)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_other_formats_are_read_without_notes(file_format):
    data = saved(photo(), file_format)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    loaded = read_image(data)
    assert loaded.notes == ()
    np.testing.assert_array_equal(loaded.pixels, expected)


# --- odd pictures ---

UPRIGHT = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_exif_orientation_is_applied_with_a_note(orientation, file_format):
    exif = Image.Exif()
    exif[274] = orientation
    loaded = read_image(saved(photo(), file_format, exif=exif))
    np.testing.assert_array_equal(loaded.pixels, UPRIGHT[orientation](photo()))
    assert f"orientation ({orientation})" in loaded.notes[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composed_over_white(mode):
    alpha = np.random.default_rng(1).integers(0, 256, (24, 36), dtype=np.uint8)
    colours = photo() if mode == "RGBA" else photo()[..., 0]
    loaded = read_image(saved(Image.fromarray(np.dstack([colours, alpha]), mode)))
    weight = alpha / 255.0 if mode == "LA" else alpha[..., None] / 255.0
    np.testing.assert_array_equal(loaded.pixels, np.floor(colours * weight + 255 * (1 - weight) + 0.5))
    assert loaded.notes == ("The transparent parts were composed over white.",)


def test_an_opaque_alpha_channel_is_dropped_with_a_note():
    loaded = read_image(saved(Image.fromarray(photo()).convert("RGBA")))
    np.testing.assert_array_equal(loaded.pixels, photo())
    assert loaded.notes == ("The alpha channel, opaque everywhere, was dropped.",)


def test_a_palette_is_expanded_and_its_transparent_entry_is_white():
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert read_image(saved(picture)).notes == ("The palette was expanded to RGB.",)
    for transparency in (1, b"\xff\x00\xff"):
        loaded = read_image(saved(picture, transparency=transparency))
        np.testing.assert_array_equal(
            loaded.pixels, [[[10, 20, 30], [255, 255, 255]], [[70, 80, 90], [255, 255, 255]]]
        )
        assert any("over white" in note for note in loaded.notes)


def test_a_transparent_grey_or_colour_value_is_white():
    grey = read_image(saved(np.array([[7, 8]], np.uint8), transparency=7))
    np.testing.assert_array_equal(grey.pixels, [[255, 8]])
    colour = read_image(saved(np.array([[[7, 8, 9], [1, 2, 3]]], np.uint8), transparency=(7, 8, 9)))
    np.testing.assert_array_equal(colour.pixels, [[[255, 255, 255], [1, 2, 3]]])


def test_one_bit_pictures_become_grey():
    loaded = read_image(saved(Image.fromarray(np.array([[True, False]]))))
    np.testing.assert_array_equal(loaded.pixels, [[255, 0]])
    assert "1-bit" in loaded.notes[0]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_rounded_to_eight(file_format):
    samples = np.linspace(0, 65535, 1000).astype(np.uint16).reshape(10, 100)
    loaded = read_image(saved(samples, file_format))
    np.testing.assert_array_equal(loaded.pixels, np.round(samples / 257))
    assert "The samples were reduced from 16 to 8 bits." in loaded.notes


def test_sixteen_bit_colour_is_reduced_with_a_note():
    samples = np.random.default_rng(2).integers(0, 65536, (5, 7, 3)).astype(">u2")
    data = png(7, 5, 16, 2, [row.tobytes() for row in samples])
    loaded = read_image(data)
    assert np.abs(loaded.pixels - samples / 257).max() <= 1
    assert loaded.notes == ("The samples were reduced from 16 to 8 bits.",)


def test_sixteen_bit_grey_with_alpha_stays_grey():
    samples = np.array([[[65535, 65535], [0, 0], [0, 65535]]], ">u2")
    loaded = read_image(png(3, 1, 16, 4, [row.tobytes() for row in samples]))
    np.testing.assert_array_equal(loaded.pixels, [[255, 255, 0]])


def test_a_transparent_sixteen_bit_grey_is_white():
    data = png(2, 1, 16, 0, [struct.pack(">HH", 1000, 25700)], (b"tRNS", struct.pack(">H", 1000)))
    np.testing.assert_array_equal(read_image(data).pixels, [[255, 100]])


def test_a_transparent_sixteen_bit_colour_is_refused():
    data = png(1, 1, 16, 2, [bytes(6)], (b"tRNS", bytes(6)))
    with pytest.raises(BadImage, match="16-bit colour as transparent"):
        read_image(data)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_float_and_32_bit_samples_are_refused(dtype):
    with pytest.raises(BadImage, match="8 or 16 bits first"):
        read_image(saved(np.full((3, 3), 70000, dtype), "TIFF"))


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        (b"gAMA", struct.pack(">I", 100000), "gamma of 1 "),
        (b"cICP", bytes([9, 16, 0, 1]), "primaries 9 and transfer 16"),
    ],
)
def test_colours_stated_otherwise_are_noted(kind, content, words):
    info = PngImagePlugin.PngInfo()
    info.add(kind, content)
    loaded = read_image(saved(photo(), pnginfo=info))
    np.testing.assert_array_equal(loaded.pixels, photo())
    assert words in loaded.notes[0]


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations_are_refused(file_format):
    frames = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    data = saved(frames[0], file_format, save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match=r"is animated \(3 frames\); extract one frame first"):
        read_image(data)


def test_a_still_gif_is_read():
    picture = Image.fromarray(photo()).quantize(64)
    np.testing.assert_array_equal(
        read_image(saved(picture, "GIF")).pixels, np.asarray(picture.convert("RGB"))
    )


def test_a_tiff_of_several_pages_is_refused():
    data = saved(photo(), "TIFF", save_all=True, append_images=[Image.fromarray(photo())])
    with pytest.raises(BadImage, match="has 2 pages"):
        read_image(data)


def test_the_first_picture_of_an_mpo_is_taken_with_a_note():
    first, second = photo(seed=1), photo(seed=2)
    data = saved(first, "MPO", save_all=True, append_images=[Image.fromarray(second)], quality=95)
    loaded = read_image(data)
    assert "several pictures (MPO); the first" in loaded.notes[0]
    np.testing.assert_array_equal(loaded.pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_heic_is_read_where_pillow_heif_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(photo(25, 37))).save(buffer, quality=95, chroma=444)
    loaded = read_image(buffer.getvalue())
    assert loaded.notes == ()
    assert np.abs(loaded.pixels.astype(int) - photo(25, 37)).mean() < 3


def test_damaged_metadata_becomes_a_note_and_no_warning():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0\x01\0\0\0"
    loaded = read_image(saved(photo(), "JPEG", exif=exif))
    assert loaded.pixels.shape == photo().shape
    assert any(note.startswith("While reading: ") for note in loaded.notes)
    assert all("\n" not in note for note in loaded.notes)


# --- what is no picture ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"this is not a picture\n", "is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not a picture"),
        (b"\xff\x0a\x00\x90", "is a JPEG XL file"),
        (b"\x8aJX\n\x10\x03", "is a .jxc file"),
        (b"\x89PNG\r\n\x1a\n", "is damaged or cut"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(content, words, tmp_path):
    path = tmp_path / "holiday.png"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=f"^{path}: {words}"):
        read_image(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(BadImage, match=f"^{path}: cannot be read: "):
            read_image(path)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF"])
def test_a_cut_file_is_refused_or_read_whole(file_format):
    data = saved(photo(), file_format)
    whole = read_image(data).pixels
    refused = 0
    for end in {*range(0, len(data), 1 + len(data) // 60), len(data) - 1, len(data) - 2}:
        try:
            np.testing.assert_array_equal(read_image(data[:end]).pixels, whole)
        except BadImage:
            refused += 1
    assert refused >= 50


def test_a_jpeg_2000_cut_at_any_byte_is_refused():
    data = saved(photo(), "JPEG2000", quality_layers=[20], irreversible=True)
    for end in range(len(data)):
        with pytest.raises(BadImage):
            read_image(data[:end])


def test_a_header_of_too_many_pixels_is_refused_before_decoding():
    with pytest.raises(TooLarge, match="20000 x 20000 pixels"):
        read_image(png(20000, 20000, 8, 2, [b""]))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_pillows_own_limit_neither_warns_nor_escapes(file_format, monkeypatch):
    data = saved(photo(), file_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", photo()[..., 0].size - 1)  # beyond it Pillow warns
    assert read_image(data).notes == ()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # beyond twice that it refuses
    if file_format in ("WEBP", "TIFF"):
        with pytest.raises(TooLarge, match="the picture: is too large"):
            read_image(data)
    else:
        assert read_image(data).notes == ()


# --- writing ---


@pytest.mark.parametrize("extension", [".png", ".ppm", ".bmp", ".tif", ".TIFF", ".webp", ""])
def test_lossless_formats_give_the_pixels_back(extension, tmp_path):
    path = write_image(tmp_path / f"out{extension}", photo())
    np.testing.assert_array_equal(read_image(path).pixels, photo())
    assert [file.name for file in tmp_path.iterdir()] == [f"out{extension}"]


@pytest.mark.parametrize("extension", [".png", ".pgm", ".bmp", ".tif"])
def test_lossless_formats_keep_grey(extension, tmp_path):
    path = write_image(tmp_path / f"out{extension}", photo()[..., 0])
    np.testing.assert_array_equal(read_image(path).pixels, photo()[..., 0])


def test_jpeg_is_written_without_chroma_subsampling():
    picture = Image.open(io.BytesIO(image_bytes(photo(), extension=".jpg")))
    assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3  # pyrefly: ignore
    assert np.abs(np.asarray(picture).astype(int) - photo()).mean() < 3


def test_an_unknown_extension_is_a_bad_option(tmp_path):
    for name in ("a.xyz", "a.jxl", "a.pgm"):
        with pytest.raises(BadOption):
            write_image(tmp_path / name, photo())
    assert list(tmp_path.iterdir()) == []
