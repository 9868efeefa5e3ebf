"""`bench`: the file it writes, the table it prints, and what it refuses before it measures."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxcodec.codecs.registry import load

PEER = {"name": "peer", "results": {"bpp": [0.5, 1.0, 2.0], "psnr-rgb": [28.0, 31.0, 35.0]}}


@pytest.fixture
def folder(save, photo):
    """Two pictures large enough for MS-SSIM."""
    save("pictures/a.png", photo)
    return save("pictures/b.png", photo[:, ::-1]).parent


def test_bench_writes_averages_and_rows_and_prints_a_table(folder, photo, jaxcodec, tmp_path):
    output, peer = tmp_path / "out.json", tmp_path / "peer.json"
    peer.write_text(json.dumps(PEER))
    code, out, err = jaxcodec(
        *(
            "bench",
            folder,
            "--codecs",
            "webp,jpeg",
            "--qualities",
            "20,80,50",
            "-o",
            output,
            "--compare",
            peer,
        )
    )
    assert (code, err) == (0, "")
    records = json.loads(output.read_text())["codecs"]
    assert [record["name"] for record in records] == ["webp", "jpeg"]
    jpeg = records[1]
    assert jpeg["results"]["quality"] == [20, 50, 80]
    sizes = [len(load("jpeg").encode(pixels, quality=50)) for pixels in (photo, photo[:, ::-1])]
    assert [row["bytes"] for row in jpeg["images"] if row["quality"] == 50] == sizes
    assert jpeg["results"]["bpp"][1] == pytest.approx(8 * sum(sizes) / (2 * 176 * 192))
    lines = out.splitlines()
    assert lines[0] == f"{output}: webp, jpeg on 2 pictures"
    assert lines[1].startswith("BD-rate against jpeg")
    assert [line.split()[0] for line in lines[3:5]] == ["webp", "peer"]


def test_without_qualities_each_codec_walks_its_ladder(folder, jaxcodec, tmp_path, weights):
    output = tmp_path / "out.json"
    assert jaxcodec("bench", folder, "--codecs", "jpeg", "-o", output)[0] == 0
    (record,) = json.loads(output.read_text())["codecs"]
    assert tuple(record["results"]["quality"]) == load("jpeg").ladder
    assert len(record["images"]) == 2 * len(load("jpeg").ladder)


def test_its_own_file_can_be_compared_with(folder, jaxcodec, tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    arguments = ("bench", folder, "--codecs", "jpeg", "--qualities", "20,50,80")
    jaxcodec(*arguments, "-o", first)
    code, out, _ = jaxcodec(*arguments, "-o", second, "--compare", first)
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("jpeg [first]"))
    assert row.split()[2] == "+0.00%"


def test_the_plot_is_drawn(folder, jaxcodec, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "curves.png"
    arguments = ("bench", folder, "--codecs", "jpeg", "--qualities", "20,80", "-o", tmp_path / "out.json")
    assert jaxcodec(*arguments, "--plot", plot)[0] == 0
    with Image.open(plot) as picture:
        assert picture.width > picture.height > 300


def test_small_pictures_have_no_ms_ssim_and_it_is_said(folder, save, jaxcodec, tmp_path):
    save("pictures/small.png")
    output = tmp_path / "out.json"
    code, _, err = jaxcodec("bench", folder, "--codecs", "jpeg", "--qualities", "50", "-o", output)
    assert code == 0
    assert "1 of 3 pictures have a side under 161 pixels" in err
    (record,) = json.loads(output.read_text())["codecs"]
    values = {row["file"]: row["ms-ssim-rgb"] for row in record["images"]}
    assert values["small.png"] is None
    assert record["results"]["ms-ssim-rgb"] == [pytest.approx((values["a.png"] + values["b.png"]) / 2)]


def test_a_picture_that_cannot_be_read_is_left_out(folder, jaxcodec, tmp_path):
    (folder / "c.png").write_bytes(b"no picture")
    output = tmp_path / "out.json"
    code, out, err = jaxcodec("bench", folder, "--codecs", "jpeg", "--qualities", "50", "-o", output)
    assert (code, err.count("\n")) == (1, 1)
    assert str(folder / "c.png") in err
    assert "on 2 pictures" in out
    assert len(json.loads(output.read_text())["codecs"][0]["images"]) == 2


def test_a_codec_that_cannot_code_a_picture_is_left_out(save, jaxcodec, tmp_path):
    folder = save("wide/a.png", np.zeros((1, 16400), np.uint8)).parent  # over WebP's longest side
    output = tmp_path / "out.json"
    code, _, err = jaxcodec("bench", folder, "--codecs", "webp,jpeg", "--qualities", "50", "-o", output)
    assert code == 1
    assert "jaxcodec: webp is left out: " in err
    assert [record["name"] for record in json.loads(output.read_text())["codecs"]] == ["jpeg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--codecs", "jpeg,mp3"), "no codec is named 'mp3'"),
        (("--codecs", ","), "--codecs"),
        (("--codecs", "jpeg", "--qualities", "1,x"), "--qualities 1,x"),
        (("--codecs", "jpeg", "--qualities", "1,101"), "jpeg has no quality 101"),
        (("--codecs", "jpeg", "--compare", "{tmp}/missing.json"), "missing.json"),
        (("--codecs", "jpeg", "--compare", "{tmp}/pictures/a.png"), "not JSON"),
        (("--codecs", "jpeg", "--plot", "{tmp}/x.gif"), ".gif"),
        (("--codecs", "jpeg", "--plot", "{tmp}/out.json"), "--plot"),
        (("--codecs", "jpeg", "--plot", "{tmp}/no/x.png"), "no folder"),
    ],
)
def test_what_is_wrong_is_found_before_measuring(arguments, words, folder, jaxcodec, tmp_path):
    output = tmp_path / "out.json"
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    code, out, err = jaxcodec("bench", folder, *filled, "-o", output)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err
    assert not output.exists()


def test_results_are_overwritten_only_with_force(folder, jaxcodec, tmp_path):
    output = tmp_path / "out.json"
    output.write_text("precious")
    arguments = ("bench", folder, "--codecs", "jpeg", "--qualities", "50", "-o", output)
    code, _, err = jaxcodec(*arguments)
    assert (code, output.read_text()) == (1, "precious")
    assert "--force" in err
    assert jaxcodec(*arguments, "--force")[0] == 0
    assert json.loads(output.read_text())["codecs"]


def test_a_folder_without_pictures_is_refused(jaxcodec, tmp_path):
    code, _, err = jaxcodec("bench", tmp_path, "--codecs", "jpeg", "-o", tmp_path / "out.json")
    assert (code, err.count("\n")) == (1, 1)
    assert str(tmp_path) in err


# --- experiments/evaluate.py, the same for weights of one's own ---


def test_evaluate_measures_weights_beside_an_anchor(folder, weights, in_subprocess, tmp_path):
    output = tmp_path / "out.json"
    files = ",".join(str(weights(network)) for network in ("bls2017", "paper"))
    script = weights("paper").parents[3] / "experiments" / "evaluate.py"
    result = in_subprocess(
        *(script, f"--weights={files}", f"--images={folder}", f"--output={output}", "--anchors=jpeg"),
        environment={"JAX_PLATFORMS": "cpu"},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    ours, jpeg = json.loads(output.read_text())["codecs"]
    assert (ours["name"], ours["results"]["quality"], jpeg["name"]) == ("balle2017", [1, 2], "jpeg")
    assert "Not timed" in ours["description"]
    assert b"BD-rate against jpeg" in result.stdout


def test_evaluate_says_what_is_wrong_in_one_line(folder, in_subprocess, weights, tmp_path):
    script = weights("paper").parents[3] / "experiments" / "evaluate.py"
    result = in_subprocess(
        script, "--weights=missing.safetensors", f"--images={folder}", f"--output={tmp_path / 'out.json'}"
    )
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert b"missing.safetensors" in result.stderr
