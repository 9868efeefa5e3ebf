"""`jaxcodec encode --codec msroi`: --mask replaces the network, --map writes what was used."""

import numpy as np
import pytest
from PIL import Image

from jaxcodec.cli import main
from jaxcodec.codecs.msroi import MsRoiCodec, MsRoiOptions, load_msroi
from jaxcodec.codecs.msroi.dct_file import is_installed
from jaxcodec.zoo import manifest

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="jpeglib is not installed (extra codecs)"),
    pytest.mark.skipif(not manifest.current("msroi"), reason="no weights of msroi are shipped"),
]


@pytest.fixture
def photo(tmp_path):
    y, x = np.mgrid[:40, :72]
    pixels = np.stack([3 * x, 6 * y, 128 + 90 * np.sin(x * y / 40)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path):
    values = np.zeros((40, 72), np.uint8)
    values[:, :36] = 255
    Image.fromarray(values).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_a_mask_steers_the_file_and_the_map_shows_it(photo, mask, tmp_path, capsys):
    out, shown = tmp_path / "out.jpg", tmp_path / "map.png"
    command = ["encode", str(photo), "--codec", "msroi", "--quality", "40", "-o", str(out)]
    assert main([*command, "--mask", str(mask), "--map", str(shown)]) == 0
    with Image.open(mask) as a, Image.open(photo) as b, Image.open(shown) as c:
        options = MsRoiOptions(mask=np.asarray(a))
        expected = load_msroi().encode(np.asarray(b), quality=40, options=options)
        values = np.asarray(c)
    assert out.read_bytes() == expected
    assert values.shape == (40, 72)
    assert (values[:, :16] == 255).all()
    assert (values[:, 56:] == 0).all()
    assert main([*command, "--mask", str(mask), "--map", str(shown), "--force"]) == 0
    out.unlink()
    assert main([*command, "--mask", str(mask), "--map", str(shown)]) == 1
    assert "map.png exists" in capsys.readouterr().err
    assert not out.exists()


def test_without_a_mask_the_map_is_the_networks(photo, tmp_path):
    shown = tmp_path / "map.png"
    assert main(["encode", str(photo), "--codec", "msroi", "--map", str(shown)]) == 0
    assert (tmp_path / "photo.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    with Image.open(shown) as picture:
        assert picture.mode == "L"
        assert np.ptp(np.asarray(picture)) > 30


@pytest.mark.parametrize("option", ["--mask", "--map"])
def test_other_codecs_know_no_map(photo, mask, option, capsys):
    assert main(["encode", str(photo), "--codec", "jpeg", option, str(mask)]) == 1
    assert "go with --codec msroi" in capsys.readouterr().err


def test_a_map_is_written_for_one_input_only(photo, mask, tmp_path, capsys):
    command = ["encode", str(photo), str(mask), "--codec", "msroi", "-o", str(tmp_path / "out")]
    assert main([*command, "--map", str(tmp_path / "map.png")]) == 1
    assert "one input" in capsys.readouterr().err


def test_a_mask_goes_with_a_target_too(photo, mask, tmp_path, capsys):
    out = tmp_path / "out.jpg"
    command = ["encode", str(photo), "--codec", "msroi", "--bpp", "3", "-o", str(out), "--mask", str(mask)]
    assert main(command) == 0
    assert out.stat().st_size * 8 <= 3 * 40 * 72
    assert isinstance(load_msroi(), MsRoiCodec)
