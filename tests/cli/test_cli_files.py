"""`encode` and `decode`: which files they read and write, and what they refuse."""

import io
import re
import sys

import numpy as np
import pytest
from cli_pictures import texture
from PIL import Image

from jaxcodec.codecs.registry import decode, load
from jaxcodec.data.images import read_image


def one_line(err):
    """The only line of stderr."""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err[:-1]


# --- encode ---


def test_encode_writes_beside_the_input_and_tells_bytes_and_bpp(save, jaxcodec):
    picture = save("photo.png")
    code, out, err = jaxcodec("encode", picture, "--codec", "webp", "--quality", "40")
    data = picture.with_suffix(".webp").read_bytes()
    assert (code, err) == (0, "")
    assert data == load("webp").encode(texture(40, 56), quality=40)
    assert out == (
        f"{picture} -> {picture.with_suffix('.webp')}  {len(data)} bytes  {len(data) / 280:.3f} bpp\n"
    )


def test_a_name_without_a_known_extension_keeps_all_of_it(save, jaxcodec):
    picture = save("scan.2020", format="PNG")
    assert jaxcodec("encode", picture, "--codec", "jpeg")[0] == 0
    assert picture.with_name("scan.2020.jpg").exists()


def test_output_is_a_file_for_one_input(save, jaxcodec, tmp_path):
    assert jaxcodec("encode", save("a.png"), "-o", tmp_path / "b.JPEG", "--codec", "jpeg")[0] == 0
    assert (tmp_path / "b.JPEG").exists()


def test_output_is_a_folder_that_exists_or_ends_with_a_slash(save, jaxcodec, tmp_path):
    picture, folder = save("a.png"), tmp_path / "there"
    folder.mkdir()
    assert jaxcodec("encode", picture, "-o", folder, "--codec", "jpeg")[0] == 0
    assert jaxcodec("encode", picture, "-o", f"{tmp_path}/new/deep/", "--codec", "jpeg")[0] == 0
    assert (folder / "a.jpg").read_bytes() == (tmp_path / "new" / "deep" / "a.jpg").read_bytes()


def test_output_is_a_folder_for_several_inputs(save, jaxcodec, tmp_path):
    pictures = save("a.png"), save("b.png")
    assert jaxcodec("encode", *pictures, "-o", tmp_path / "out", "--codec", "jpeg")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]


def test_several_inputs_do_not_fit_one_file_or_stdout(save, jaxcodec, tmp_path):
    pictures = save("a.png"), save("b.png")
    existing = save("c.jpg")
    before = existing.read_bytes()
    for output in (existing, "-"):
        code, out, err = jaxcodec("encode", *pictures, "-o", output, "--codec", "jpeg", "--force")
        assert (code, out) == (1, "")
        assert f"-o {output}" in one_line(err)
    assert existing.read_bytes() == before


def test_a_folder_is_all_its_pictures(save, jaxcodec, tmp_path):
    save("in/a.png"), save("in/b.bmp"), save("in/deeper/c.png")
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    code, out, err = jaxcodec("encode", tmp_path / "in", "-o", tmp_path / "out", "--codec", "jpeg")
    assert (code, out.count("\n"), err) == (0, 2, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]


def test_a_folder_without_pictures_is_an_error_and_the_others_go_on(save, jaxcodec, tmp_path):
    picture = save("a.png")
    (tmp_path / "empty").mkdir()
    code, _, err = jaxcodec("encode", tmp_path / "empty", picture, "--codec", "jpeg")
    assert code == 1
    assert str(tmp_path / "empty") in one_line(err)
    assert picture.with_suffix(".jpg").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut"])
def test_a_bad_picture_is_one_line_and_the_others_go_on(kind, save, jaxcodec, tmp_path):
    first, bad, last = save("a.png"), tmp_path / "bad.png", save("z.png")
    whole = first.read_bytes()
    contents = {"empty": b"", "text": b"no picture at all", "cut": whole[: len(whole) // 2]}
    if kind in contents:
        bad.write_bytes(contents[kind])
    code, out, err = jaxcodec("encode", first, bad, last, "--codec", "jpeg")
    assert code == 1
    assert one_line(err).startswith(f"jaxcodec: {bad}: ")
    assert out.count("\n") == 2
    assert first.with_suffix(".jpg").exists()
    assert last.with_suffix(".jpg").exists()
    assert not bad.with_suffix(".jpg").exists()


def test_an_output_is_overwritten_only_with_force(save, jaxcodec):
    picture = save("a.png")
    output = picture.with_suffix(".webp")
    output.write_bytes(b"precious")
    code, out, err = jaxcodec("encode", picture, "--codec", "webp")
    assert (code, out, output.read_bytes()) == (1, "", b"precious")
    assert "--force" in one_line(err)
    assert jaxcodec("encode", picture, "--codec", "webp", "--force")[0] == 0
    assert output.read_bytes() == load("webp").encode(texture(40, 56))


def test_two_inputs_with_one_output_are_an_error_for_the_second(save, jaxcodec):
    first, second = save("a.png"), save("a.bmp", texture(20, 20))
    code, _, err = jaxcodec("encode", first, second, "--codec", "webp", "--force")
    assert code == 1
    assert f"jaxcodec: {second}: would write {first.with_suffix('.webp')}" in one_line(err)
    assert decode(first.with_suffix(".webp").read_bytes()).shape == (40, 56, 3)


def test_an_input_is_never_overwritten_even_with_force(save, jaxcodec):
    photo, other = save("a.jpg"), save("b.png")
    before = photo.read_bytes()
    code, _, err = jaxcodec("encode", photo, "--codec", "jpeg", "--force")
    assert (code, photo.read_bytes()) == (1, before)
    assert "an input" in one_line(err)
    # neither by way of another input of the batch
    code, _, err = jaxcodec("encode", photo, photo.with_name("a.png"), other, "--codec", "jpeg", "--force")
    assert (code, photo.read_bytes(), err.count("\n")) == (1, before, 2)
    assert other.with_suffix(".jpg").exists()


def test_an_output_named_as_another_format_is_refused(save, jaxcodec, tmp_path):
    code, _, err = jaxcodec("encode", save("a.png"), "-o", tmp_path / "b.webp", "--codec", "jpeg")
    assert code == 1
    assert "jpeg writes .jpg files" in one_line(err)
    assert not (tmp_path / "b.webp").exists()


def test_conversions_are_told_on_stderr(save, jaxcodec):
    picture = save("a.png", np.dstack([texture(40, 56), np.full((40, 56), 128, np.uint8)]))
    code, _, err = jaxcodec("encode", picture, "--codec", "jpeg")
    assert code == 0
    assert one_line(err) == f"{picture}: {read_image(picture).notes[0]}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--codec", "jpg"), "no codec is named 'jpg'"),
        (("--codec", "jpeg", "--quality", "0"), "jpeg has no quality 0"),
        (("--codec", "jpeg", "--weights", "w.safetensors"), "takes no weights"),
        (("--weights", "missing.safetensors"), "missing.safetensors"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(arguments, words, save, jaxcodec):
    picture = save("a.png")
    code, out, err = jaxcodec("encode", picture, *arguments)
    assert (code, out) == (1, "")
    assert words in one_line(err)
    assert list(picture.parent.iterdir()) == [picture]


# --- decode ---


def test_decode_writes_a_png_beside_the_file(save, jaxcodec):
    coded = save("a.webp", quality=50)
    code, out, err = jaxcodec("decode", coded)
    assert (code, err) == (0, "")
    assert out == f"{coded} -> {coded.with_suffix('.png')}  56 x 40\n"
    np.testing.assert_array_equal(read_image(coded.with_suffix(".png")).pixels, decode(coded.read_bytes()))


def test_decode_does_not_overwrite_the_original(save, jaxcodec):
    original = save("a.png")
    before = original.read_bytes()
    jaxcodec("encode", original, "--codec", "webp")
    code, _, err = jaxcodec("decode", original.with_suffix(".webp"))
    assert (code, original.read_bytes()) == (1, before)
    assert "--force" in one_line(err)


@pytest.mark.parametrize("extension", [".ppm", ".bmp", ".TIF"])
def test_the_output_names_the_format(extension, save, jaxcodec, tmp_path):
    coded = save("a.webp")
    output = tmp_path / f"b{extension}"
    assert jaxcodec("decode", coded, "-o", output)[0] == 0
    np.testing.assert_array_equal(read_image(output).pixels, decode(coded.read_bytes()))


def test_an_unknown_output_format_is_refused(save, jaxcodec, tmp_path):
    code, _, err = jaxcodec("decode", save("a.webp"), "-o", tmp_path / "b.xyz")
    assert code == 1
    assert ".xyz" in one_line(err)
    assert not (tmp_path / "b.xyz").exists()


def test_decoding_a_folder_takes_the_coded_files(save, jaxcodec, tmp_path):
    save("in/a.webp"), save("in/b.jpg"), save("in/original.png")
    code, out, err = jaxcodec("decode", tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out.count("\n"), err) == (0, 2, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut", "flipped"])
def test_a_bad_file_is_one_line_and_the_others_go_on(kind, save, jaxcodec, tmp_path, weights):
    picture = save("a.png")
    jaxcodec("encode", picture, "--weights", weights("bls2017"))
    whole = picture.with_suffix(".jxc").read_bytes()
    bad, good = tmp_path / "bad.jxc", tmp_path / "good.jxc"
    good.write_bytes(whole)
    flipped = whole[:-9] + bytes([whole[-9] ^ 16]) + whole[-8:]
    contents = {"empty": b"", "text": b"no file of ours", "cut": whole[:-3], "flipped": flipped}
    if kind in contents:
        bad.write_bytes(contents[kind])
    code, _, err = jaxcodec("decode", bad, good, "--weights", weights("bls2017"))
    assert code == 1
    assert one_line(err).startswith(f"jaxcodec: {bad}: ")
    assert not bad.with_suffix(".png").exists()
    assert good.with_suffix(".png").exists()


# --- weights of one's own ---


def test_weights_say_which_codec_they_are_for(save, jaxcodec, weights, tmp_path):
    picture, coded, output = save("a.png"), tmp_path / "a.jxc", tmp_path / "b.png"
    assert jaxcodec("encode", picture, "--weights", weights("bmshj2018"))[0] == 0
    assert coded.read_bytes() == load("bmshj2018", weights=weights("bmshj2018")).encode(texture(40, 56))
    assert jaxcodec("decode", coded, "-o", output, "--weights", weights("bmshj2018"))[0] == 0
    np.testing.assert_array_equal(
        read_image(output).pixels, decode(coded.read_bytes(), weights=weights("bmshj2018"))
    )


def test_a_file_of_other_weights_is_refused(save, jaxcodec, weights, tmp_path):
    picture, output = save("a.png"), tmp_path / "b.png"
    jaxcodec("encode", picture, "--weights", weights("bls2017"))
    for arguments in ((), ("--weights", weights("paper")), ("--weights", weights("bmshj2018"))):
        code, _, err = jaxcodec("decode", picture.with_suffix(".jxc"), "-o", output, *arguments)
        assert code == 1
        assert "weights" in one_line(err)
        assert not output.exists()


# --- standard input and output ---


def feed(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_picture_goes_through_pipes_and_back(save, in_subprocess):
    picture = save("a.png").read_bytes()
    coded = in_subprocess("-m", "jaxcodec.cli", "encode", "-", "--codec", "webp", stdin=picture)
    assert (coded.returncode, coded.stdout) == (0, load("webp").encode(texture(40, 56)))
    assert re.fullmatch(rb"standard input -> standard output  \d+ bytes  \S+ bpp\r?\n", coded.stderr)
    decoded = in_subprocess("-m", "jaxcodec.cli", "decode", "-", stdin=coded.stdout)
    assert decoded.returncode == 0
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded.stdout))), decode(coded.stdout))


def test_stdin_goes_to_a_file_or_folder_if_asked_to(save, jaxcodec, monkeypatch, tmp_path):
    data = save("a.png").read_bytes()
    feed(monkeypatch, data)
    assert jaxcodec("encode", "-", "-o", tmp_path / "b.jpg", "--codec", "jpeg")[0] == 0
    feed(monkeypatch, data)
    assert jaxcodec("encode", "-", "-o", f"{tmp_path}/new/", "--codec", "jpeg")[0] == 0
    assert (tmp_path / "new" / "stdin.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_a_bad_picture_on_stdin_writes_nothing_to_stdout(jaxcodec, monkeypatch):
    feed(monkeypatch, b"no picture")
    code, out, err = jaxcodec("encode", "-", "--codec", "jpeg")
    assert (code, out) == (1, "")
    assert one_line(err).startswith("jaxcodec: standard input: ")
