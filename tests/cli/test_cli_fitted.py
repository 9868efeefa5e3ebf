"""`jaxcodec denoise`, `upsample` and `complete`, with networks so small that they take no time."""

import numpy as np
import pytest
from PIL import Image

from jaxcodec.codecs import coconet

SMALL = ("--width", 4, "--depth", 1, "--steps", 2)
NETWORK = coconet.NetworkConfig(width=4, depth=1)


def picture_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_an_icon_becomes_what_its_network_holds_on_a_finer_grid(jaxcodec, save, tmp_path):
    path, out = save("icon.png"), tmp_path / "large.png"
    code, said, err = jaxcodec("upsample", path, "-o", out, "--factor", 1.5, "--seed", 3, *SMALL)
    assert (code, err) == (0, "")
    assert said == f"{path} -> {out}  84 x 60\n"
    settings = coconet.FitSettings(steps=2, batch_size=1024, cosine=True, seed=3)
    expected = coconet.upsample(picture_of(path), 1.5, config=NETWORK, settings=settings)
    np.testing.assert_array_equal(picture_of(out), expected)
    assert jaxcodec("upsample", path, "-o", out, "--factor", 1.5, *SMALL)[0] == 1  # it exists
    assert jaxcodec("upsample", path, "-o", out, "--factor", 1.5, "--force", *SMALL)[0] == 0


def test_of_a_folder_bad_pictures_are_named_and_the_others_denoised(jaxcodec, save, tmp_path):
    save("noisy/a.png")
    save("noisy/b.png", np.full((40, 56, 3), 9, np.uint8))
    (tmp_path / "noisy" / "bad.png").write_bytes(b"text")
    code, out, err = jaxcodec("denoise", tmp_path / "noisy", "-o", tmp_path / "clean", "--sigma", 20, *SMALL)
    assert code == 1
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == ["a.png", "b.png"]
    assert picture_of(tmp_path / "clean" / "b.png").shape == (40, 56, 3)
    assert len(out.splitlines()) == 2
    assert "bad.png" in err


def test_a_hole_is_filled_where_the_mask_is_white(jaxcodec, save, tmp_path):
    path = save("photo.png")
    mask = np.zeros((40, 56), np.uint8)
    mask[10:20, 30:50] = 255
    out = tmp_path / "whole.png"
    code, _, err = jaxcodec("complete", path, "-o", out, "--mask", save("mask.png", mask), *SMALL)
    assert (code, err) == (0, "")
    before, after = picture_of(path), picture_of(out)
    np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
    assert (after[mask > 0] != before[mask > 0]).any()
    other = save("other.png", mask[1:])
    code, _, err = jaxcodec("complete", path, "-o", tmp_path / "b.png", "--mask", other, *SMALL)
    assert (code, err.count("\n")) == (1, 1)
    assert "of the picture's size" in err


@pytest.mark.parametrize(
    ("command", "options", "match"),
    [
        ("denoise", ("--sigma", -1), "sigma"),
        ("denoise", ("--steps", 0), "at least 1"),
        ("upsample", ("--factor", 2, "--width", 0), "width 0"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(jaxcodec, save, tmp_path, command, options, match):
    code, _, err = jaxcodec(command, save("a.png"), "-o", tmp_path / "b.png", *options)
    assert (code, err.count("\n")) == (1, 1)
    assert match in err
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("command", ["denoise", "upsample", "complete"])
def test_the_help_of_each_shows_examples_and_what_to_expect(command, jaxcodec):
    code, out, _ = jaxcodec(command, "--help")
    assert code == 0
    assert f"examples:\n  jaxcodec {command}" in out
    assert "small pictures" in out
