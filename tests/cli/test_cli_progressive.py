"""Files of progressive codecs in the command, and targets of rate and PSNR."""

import io
import json
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcodec.codecs import registry
from jaxcodec.codecs.base import first_iterations
from jaxcodec.codecs.rate_control import encode_to_bpp, encode_to_psnr
from jaxcodec.codecs.registry import load
from jaxcodec.codecs.toderici2017 import export
from jaxcodec.codecs.toderici2017.model import RecurrentCoder, RecurrentConfig
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.ops.binarise import sign_binarise
from tests.codecs.bit_planes import NUMBER_OF, BitPlanes
from tests.parameters import random_like


@pytest.fixture
def progressive(monkeypatch):
    """The codec of tests/codecs/bit_planes.py, installed in place of the one whose number it borrows."""
    entry = registry._Entry(
        NUMBER_OF, "tests.codecs.bit_planes:load", "bit planes", "classical", ".jxc", None, tuple(range(1, 9))
    )
    monkeypatch.setattr(registry, "_ENTRIES", (entry, *registry._ENTRIES))
    registry._loaded.cache_clear()
    yield BitPlanes()
    registry._loaded.cache_clear()


@pytest.fixture
def grey(photo):
    return photo[:40, :64, 1].copy()


@pytest.fixture
def coded(progressive, grey, tmp_path):
    """A file of six iterations."""
    path = tmp_path / "photo.jxc"
    path.write_bytes(progressive.encode(grey, quality=6))
    return path


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def cut(path, missing):
    path.write_bytes(path.read_bytes()[:-missing])
    return path


# --- decode ---


def test_decode_takes_all_iterations_or_the_first_ones(coded, progressive, jaxcodec):
    data, picture = coded.read_bytes(), coded.with_suffix(".png")
    assert jaxcodec("decode", coded) == (0, f"{coded} -> {picture}  64 x 40\n", "")
    np.testing.assert_array_equal(pixels(picture), progressive.decode(data))
    for iterations in (1, 3, 6):
        code, _, err = jaxcodec("decode", coded, "--iterations", iterations, "--force")
        assert (code, err) == (0, "")
        expected = progressive.decode(first_iterations(data, iterations))
        np.testing.assert_array_equal(pixels(picture), expected)


@pytest.mark.parametrize("iterations", [0, 7])
def test_iterations_that_the_file_does_not_have_are_one_line(iterations, coded, jaxcodec):
    code, out, err = jaxcodec("decode", coded, "--iterations", iterations)
    assert (code, out) == (1, "")
    assert err == (
        f"jaxcodec: {coded}: {iterations} iterations cannot be decoded: the file was written with 6\n"
    )
    assert not coded.with_suffix(".png").exists()


def test_a_cut_file_is_an_error_unless_allowed(coded, progressive, jaxcodec):
    whole, picture = coded.read_bytes(), coded.with_suffix(".png")
    cut(coded, 400)  # 324 bytes an iteration
    code, out, err = jaxcodec("decode", coded)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"jaxcodec: {coded}: the file ends after {len(whole) - 400} of {len(whole)} bytes")
    assert jaxcodec("decode", coded, "--iterations", 2)[0] == 1
    assert not picture.exists()
    code, _, err = jaxcodec("decode", coded, "--allow-truncated")
    assert (code, err) == (0, f"{coded}: the file is cut; it holds 4 of 6 iterations\n")
    np.testing.assert_array_equal(pixels(picture), progressive.decode(first_iterations(whole, 4)))
    code, _, err = jaxcodec("decode", coded, "--allow-truncated", "--iterations", 2, "--force")
    assert (code, err) == (0, f"{coded}: the file is cut; it holds 4 of 6 iterations\n")
    np.testing.assert_array_equal(pixels(picture), progressive.decode(first_iterations(whole, 2)))


def test_a_whole_file_decodes_without_a_word_where_cuts_are_allowed(coded, jaxcodec):
    assert jaxcodec("decode", coded, "--allow-truncated")[::2] == (0, "")


def test_a_file_cut_in_its_first_iteration_is_an_error_even_if_allowed(coded, jaxcodec):
    cut(coded, 6 * 324 - 100)
    code, out, err = jaxcodec("decode", coded, "--allow-truncated")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "in its chunk 1 of 6" in err
    assert not coded.with_suffix(".png").exists()


@pytest.mark.parametrize("option", [("--iterations", 1), ("--allow-truncated",)])
def test_files_that_are_not_progressive_are_refused_and_the_others_go_on(option, coded, save, jaxcodec):
    photo = save("other.jpg")
    code, out, err = jaxcodec("decode", photo, coded, *option)
    assert (code, out.count("\n"), err.count("\n")) == (1, 1, 1)
    assert err.startswith(f"jaxcodec: {photo}: the file is jpeg's, which is not progressive")
    assert coded.with_suffix(".png").exists()


# --- info ---


def test_info_shows_the_rate_of_every_iteration(coded, jaxcodec):
    data = coded.read_bytes()
    code, out, err = jaxcodec("info", coded, "--json")
    fields = json.loads(out)
    assert (code, err) == (0, "")
    assert (fields["chunks"], fields["cut"], fields["iterations_written"]) == (6, False, 6)
    for number, row in enumerate(fields["iterations"], 1):
        size = len(first_iterations(data, number))
        bpp = 8 * size / (40 * 64)
        assert row == {"iteration": number, "chunk_bytes": 320, "file_bytes": size, "bpp": bpp}
    assert fields["iterations"][-1]["file_bytes"] == fields["bytes"] == len(data)


def test_info_as_text_ends_with_a_row_per_iteration(coded, jaxcodec):
    code, out, err = jaxcodec("info", coded)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[-7].split() == ["iteration", "chunk", "bytes", "file", "bytes", "bpp"]
    assert [line.split()[:2] for line in lines[-6:]] == [[str(k), "320"] for k in range(1, 7)]
    assert "cut                 no" in lines


def test_info_of_a_cut_file_goes_as_far_as_it_does_and_says_so(coded, jaxcodec):
    rows = json.loads(jaxcodec("info", coded, "--json")[1])["iterations"]
    cut(coded, 400)
    code, out, err = jaxcodec("info", coded, "--json")
    fields = json.loads(out)
    assert (code, err.count("\n")) == (1, 1)
    assert "in its chunk 5 of 6" in err
    assert (fields["chunks"], fields["cut"], fields["iterations_written"]) == (4, True, 6)
    assert fields["iterations"] == rows[:4]
    cut(coded, 3 * 324)  # into the second
    fields = json.loads(jaxcodec("info", coded, "--json")[1])
    assert (fields["chunks"], fields["cut"], fields["iterations"]) == (1, True, rows[:1])
    lines = jaxcodec("info", coded)[1].splitlines()
    assert "cut                 yes" in lines


def test_info_of_a_damaged_iteration_shows_none(coded, jaxcodec):
    data = bytearray(coded.read_bytes())
    data[-100] ^= 1
    coded.write_bytes(data)
    code, out, err = jaxcodec("info", coded, "--json")
    fields = json.loads(out)
    assert code == 1
    assert "chunk 6 of 6 does not match" in err
    assert fields["chunks"] is None
    assert "iterations" not in fields


# --- encode ---


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_a_rate_target_is_met_and_the_line_tells_how(codec, photo, save, jaxcodec):
    picture = save("photo.png", photo)
    code, out, err = jaxcodec("encode", picture, "--codec", codec, "--bpp", "0.75")
    found = encode_to_bpp(load(codec), photo, 0.75)
    target = picture.with_suffix(load(codec).extension)
    assert (code, err) == (0, "")
    assert target.read_bytes() == found.data
    assert found.bpp <= 0.75
    assert out == (
        f"{picture} -> {target}  {len(found.data)} bytes  {found.bpp:.3f} bpp  "
        f"{100 * (1 - found.bpp / 0.75):.1f} % below 0.75  {found.psnr:.2f} dB  "
        f"quality {found.quality}  {found.encodings} encodings\n"
    )


def test_a_folder_gets_a_psnr_target_picture_by_picture(photo, save, jaxcodec, tmp_path):
    pictures = [save("in/a.png", photo), save("in/b.png", photo[:80, 60:])]
    code, out, err = jaxcodec(
        "encode", tmp_path / "in", "-o", tmp_path / "out", "--codec", "jpeg", "--psnr", 33
    )
    assert (code, out.count("\n"), err) == (0, 2, "")
    qualities = set()
    for picture in pictures:
        data = (tmp_path / "out" / picture.name).with_suffix(".jpg").read_bytes()
        original = pixels(picture)
        found = encode_to_psnr(load("jpeg"), original, 33)
        assert data == found.data
        assert psnr_uint8(original, pixels(io.BytesIO(data))) >= 33
        qualities.add(found.quality)
    assert len(qualities) == 2


def test_a_target_out_of_reach_is_one_line_and_the_others_go_on(photo, save, jaxcodec):
    tiny, picture = save("tiny.png", photo[:8, :8]), save("photo.png", photo)
    code, out, err = jaxcodec("encode", tiny, picture, "--codec", "jpeg", "--bpp", "1")
    assert (code, out.count("\n"), err.count("\n")) == (1, 1, 1)
    assert err.startswith(f"jaxcodec: {tiny}: 1 bpp cannot be reached: jpeg makes files of ")
    assert not tiny.with_suffix(".jpg").exists()
    assert picture.with_suffix(".jpg").exists()


def test_the_closest_file_is_nearer_to_the_rate(photo, save, jaxcodec):
    picture = save("photo.png", photo)
    assert jaxcodec("encode", picture, "--codec", "jpeg", "--bpp", "0.5", "--closest")[0] == 0
    data = picture.with_suffix(".jpg").read_bytes()
    assert data == encode_to_bpp(load("jpeg"), photo, 0.5, closest=True).data


@pytest.mark.parametrize("other", [("--quality", "50"), ("--psnr", "30")])
def test_one_goal_at_a_time(other, save, jaxcodec):
    code, _, err = jaxcodec("encode", save("a.png"), "--codec", "jpeg", "--bpp", "1", *other)
    assert code == 2
    assert "not allowed with argument" in err


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "much"])
@pytest.mark.parametrize("option", ["--bpp", "--psnr"])
def test_a_target_that_is_no_positive_number_is_wrong_usage(option, number, save, jaxcodec):
    code, _, err = jaxcodec("encode", save("a.png"), "--codec", "jpeg", f"{option}={number}")
    assert code == 2
    assert f"argument {option}" in err


def test_closest_alone_is_refused(save, jaxcodec):
    code, _, err = jaxcodec("encode", save("a.png"), "--codec", "jpeg", "--closest")
    assert (code, err.count("\n")) == (1, 1)
    assert "--closest goes with --bpp" in err


def test_a_progressive_codec_encodes_once_for_a_target(progressive, grey, save, jaxcodec):
    picture = save("photo.png", grey)
    code, out, err = jaxcodec("encode", picture, "--codec", NUMBER_OF, "--psnr", "30")
    data = picture.with_suffix(".jxc").read_bytes()
    assert (code, err) == (0, "")
    assert out.endswith("  1 encoding\n")
    quality = json.loads(jaxcodec("info", picture.with_suffix(".jxc"), "--json")[1])["quality"]
    assert data == progressive.encode(grey, quality=quality)
    assert psnr_uint8(grey, progressive.decode(data)) >= 30
    assert psnr_uint8(grey, progressive.decode(first_iterations(data, quality - 1))) < 30


def test_a_file_that_is_the_original_is_called_lossless(progressive, grey, save, jaxcodec):
    _, out, _ = jaxcodec("encode", save("photo.png", grey), "--codec", NUMBER_OF, "--bpp", "9")
    assert "  lossless  quality 8  1 encoding\n" in out


@pytest.mark.parametrize(
    ("command", "examples"),
    [
        ("encode", ["encode photo.png --bpp 0.5 ", "encode holiday/ --codec jpeg --psnr 34 "]),
        ("decode", ["decode photo.jxc --iterations 3 ", "decode cut.jxc --allow-truncated "]),
    ],
)
def test_help_shows_how(command, examples, jaxcodec):
    _, out, _ = jaxcodec(command, "--help")
    assert all(f"\n  jaxcodec {example}" in out for example in examples)


# --- the whole way with a network ---


@pytest.fixture(scope="module")
def recurrent_weights(tmp_path_factory):
    """A weight file of `toderici2017`: a small network, not trained, of four iterations."""
    config = RecurrentConfig(width=1 / 32, iterations=4)
    network = RecurrentCoder(config)

    def once(module, x):
        return module.iterate(module.initial_state(*x.shape[:3]), x, binarise=sign_binarise)

    params = random_like(partial(network.init, method=once), jnp.zeros((1, 32, 32, 3)))
    return export.export(tmp_path_factory.mktemp("weights"), config=config, params=params)


def test_a_recurrent_file_is_made_for_a_rate_shown_cut_and_decoded(recurrent_weights, photo, save, jaxcodec):
    picture, weights = save("photo.png", photo[:48, :64]), ("--weights", recurrent_weights)
    file = picture.with_suffix(".jxc")
    code, out, err = jaxcodec("encode", picture, *weights, "--bpp", "0.6")
    assert (code, err) == (0, "")
    assert "quality 3  1 encoding\n" in out  # 32 bits of 256 pixels are 1/8 bpp an iteration, and the header
    data = file.read_bytes()
    codec = load("toderici2017", weights=recurrent_weights)
    assert data == codec.encode(photo[:48, :64], quality=3)
    fields = json.loads(jaxcodec("info", file, "--json")[1])
    assert (fields["codec"], fields["coder"]) == ("toderici2017", "none, raw bits")
    assert [row["chunk_bytes"] for row in fields["iterations"]] == [48, 48, 48]
    back = picture.with_name("back.png")
    cut(file, 10)
    assert jaxcodec("decode", file, "-o", back, *weights)[0] == 1
    code, _, err = jaxcodec("decode", file, "-o", back, *weights, "--allow-truncated")
    assert (code, err) == (0, f"{file}: the file is cut; it holds 2 of 3 iterations\n")
    np.testing.assert_array_equal(pixels(back), codec.decode_progressive(data, iterations=2))
    assert jaxcodec("decode", file, "-o", back, *weights, "--iterations", 1, "--force")[0] == 1
    file.write_bytes(data)
    assert jaxcodec("decode", file, "-o", back, *weights, "--iterations", 1, "--force")[0] == 0
    np.testing.assert_array_equal(pixels(back), codec.decode_progressive(data, iterations=1))
