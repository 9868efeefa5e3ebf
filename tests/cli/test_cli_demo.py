"""`demo`: the packaged photo, the files, the table, the picture of both."""

from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from jaxcodec.cli.demo import show
from jaxcodec.codecs.registry import best_general_codec, decode, load
from jaxcodec.data.images import read_image
from jaxcodec.errors import OutputExists, WrongWeights
from jaxcodec.metrics.psnr import psnr_uint8


def packaged_photo():
    return read_image((files("jaxcodec") / "demo" / "lighthouse.webp").read_bytes())


def test_the_packaged_photo_is_small_enough_and_needs_no_conversion():
    photo = packaged_photo()
    assert len((files("jaxcodec") / "demo" / "lighthouse.webp").read_bytes()) < 700_000
    assert (photo.pixels.shape, photo.notes) == ((512, 768, 3), ())


def test_demo_writes_files_whose_numbers_are_in_its_table(tmp_path, capsys):
    folder = tmp_path / "demo"
    show(load("webp"), folder, force=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    photo = packaged_photo().pixels
    np.testing.assert_array_equal(read_image(folder / "original.png").pixels, photo)
    assert len(rows) == 8
    for ours, jpeg in zip(rows[::2], rows[1::2], strict=True):
        for name, size, bpp, psnr, _ in (ours, jpeg):
            data = (folder / name).read_bytes()
            assert (len(data), f"{8 * len(data) / (512 * 768):.3f}") == (int(size), bpp)
            assert f"{psnr_uint8(photo, decode(data)):.2f}" == psnr
        assert int(jpeg[1]) >= int(ours[1])
        stem = ours[0].removesuffix(".webp")
        np.testing.assert_array_equal(
            read_image(folder / f"{stem}-decoded.png").pixels, decode((folder / ours[0]).read_bytes())
        )
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width > 3 * 256 * 2


def test_demo_overwrites_nothing_without_force(tmp_path):
    (tmp_path / "comparison.png").write_bytes(b"precious")
    with pytest.raises(OutputExists, match=r"comparison\.png"):
        show(load("webp"), tmp_path, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.png"]
    assert (tmp_path / "comparison.png").read_bytes() == b"precious"


def test_demo_takes_the_best_learned_codec(jaxcodec, tmp_path):
    try:
        name = best_general_codec()
    except WrongWeights:
        pytest.skip("no weights in the zoo")
    code, out, _ = jaxcodec("demo", "-o", tmp_path)
    assert code == 0
    assert list(tmp_path.glob(f"{name}-q*.jxc"))
    assert f"side by side: {tmp_path / 'comparison.png'}" in out
    # The paper's claim: better than JPEG in MS-SSIM at all rates, at no more bytes; in PSNR at the lowest.
    rows = [line.split() for line in out.splitlines()[1:-1]]
    for ours, jpeg in zip(rows[::2], rows[1::2], strict=True):
        assert int(jpeg[1]) >= int(ours[1])
        assert float(ours[4]) > float(jpeg[4])
    assert float(rows[0][3]) > float(rows[1][3])
