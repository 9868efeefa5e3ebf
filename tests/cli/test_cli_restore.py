"""`jaxcodec restore`, and `info` and `decode` of the files of ComCNN, with random networks."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from jaxcodec.codecs.comcnn import Restorer
from jaxcodec.codecs.comcnn.coarseness import jpeg_coarseness, luma_table
from jaxcodec.zoo import manifest
from tests.codecs.comcnn_networks import restorer_weights, small_codec
from tests.codecs.golden_codecs import photo


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return restorer_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def old(save):
    """Write an old JPEG and return its path."""
    return lambda name, **options: save(name, photo(40, 56), quality=20, **options)


def picture_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_jpeg_becomes_a_png_whose_luma_the_network_made(jaxcodec, network, old, tmp_path):
    path = old("old.jpg")
    code, out, err = jaxcodec("restore", path, "--weights", network)
    assert (code, err) == (0, "")
    assert out == f"{path} -> {tmp_path / 'old.png'}  56 x 40\n"
    with Image.open(path) as picture:
        picture.draft("YCbCr", picture.size)
        luma, *chroma = picture.split()
    restored = Restorer(network).restore_luma(np.asarray(luma), jpeg_coarseness(luma_table(20)))
    assert not np.array_equal(restored, np.asarray(luma))
    expected = Image.merge("YCbCr", [Image.fromarray(restored), *chroma]).convert("RGB")
    np.testing.assert_array_equal(picture_of(tmp_path / "old.png"), np.asarray(expected))


def test_nothing_is_overwritten_without_force(jaxcodec, network, old, tmp_path):
    path = old("old.jpg")
    (tmp_path / "old.png").write_bytes(b"mine")
    code, _, err = jaxcodec("restore", path, "--weights", network)
    assert (code, err.count("\n")) == (1, 1)
    assert "--force" in err
    assert (tmp_path / "old.png").read_bytes() == b"mine"
    assert jaxcodec("restore", path, "--weights", network, "--force")[0] == 0
    assert picture_of(tmp_path / "old.png").shape == (40, 56, 3)


def test_of_a_folder_bad_files_are_named_and_the_others_done(jaxcodec, network, old, tmp_path):
    whole = old("album/a.jpg").read_bytes()
    old("album/b.jpeg", subsampling="4:4:4")
    (tmp_path / "album" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "album" / "text.jpg").write_bytes(b"text")
    (tmp_path / "album" / "c.png").write_bytes(b"not asked for")
    code, out, err = jaxcodec("restore", tmp_path / "album", "-o", tmp_path / "better", "--weights", network)
    assert code == 1
    assert sorted(path.name for path in (tmp_path / "better").iterdir()) == ["a.png", "b.png"]
    assert len(out.splitlines()) == 2
    assert "cut.jpg: the JPEG file is cut short" in err
    assert "text.jpg: not a JPEG file" in err


def test_a_grey_picture_stays_grey_and_a_turned_one_is_turned(jaxcodec, network, save, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter to the right
    path = save("grey.jpg", photo(24, 40)[..., 0].copy(), quality=30, exif=exif)
    code, _, err = jaxcodec("restore", path, "--weights", network)
    assert (code, err.count("\n")) == (0, 1)
    assert "turned upright" in err
    restored = picture_of(tmp_path / "grey.png")
    assert restored.shape == (40, 24)
    plain = Restorer(network).restore(path.read_bytes()).pixels
    np.testing.assert_array_equal(restored, np.rot90(plain, -1))


def test_files_of_comcnn_are_told_from_plain_ones(jaxcodec, network, save, tmp_path):
    codec = small_codec(tmp_path)
    path = tmp_path / "photo.jpg"
    path.write_bytes(codec.encode(photo(41, 60), quality=50))
    code, _, err = jaxcodec("restore", path, "--weights", network)
    assert code == 1
    assert "`jaxcodec decode` restores" in err
    fields = json.loads(jaxcodec("info", path, "--json")[1])
    assert (fields["codec"], fields["width"], fields["height"]) == ("comcnn", 60, 41)
    assert (fields["shown_width"], fields["shown_height"], fields["channels"]) == (30, 21, 3)
    assert (fields["weights"], fields["weights_installed"]) == (codec.model.hash.hex(), False)
    assert jaxcodec("decode", path, "--weights", codec.path)[0] == 0
    assert picture_of(tmp_path / "photo.png").shape == (41, 60, 3)


@pytest.mark.skipif(not manifest.current("reccnn"), reason="no weights of the restorer are shipped")
@pytest.mark.parametrize(("quality", "least"), [(10, 1.0), (90, 0.0)])
def test_the_shipped_restorer_gains_at_low_quality_and_does_not_lose_at_high(quality, least):
    from jaxcodec.codecs.comcnn import load_restorer
    from jaxcodec.metrics.psnr import psnr_uint8

    image = np.asarray(Image.fromarray(photo(256, 256, name="kodim23.png", top=100, left=200)).convert("L"))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        before = psnr_uint8(image, np.asarray(picture))
    after = psnr_uint8(image, load_restorer().restore(buffer.getvalue()).pixels)
    assert after > before + least
