"""bench: the numbers of a picture, and their averages."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from jaxcodec.codecs.registry import decode, load
from jaxcodec.data.images import read_image
from jaxcodec.errors import BadOption
from jaxcodec.evaluation.bench import MEASURES, bench_codec, measure_picture, missing_values
from jaxcodec.metrics.ssim import ms_ssim_uint8

KODIM = Path(__file__).resolve().parents[2] / "data" / "kodak" / "kodim21.png"


@pytest.fixture(scope="module")
def photo():
    with Image.open(KODIM) as picture:
        return np.asarray(picture)[150:326, 200:392].copy()


def pixels_of(path):
    return read_image(path).pixels


def write(folder, **pictures):
    folder.mkdir(exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def test_a_picture_is_measured_on_its_file_and_what_decodes_from_it(photo):
    row = measure_picture(load("webp"), photo, quality=30)
    data = load("webp").encode(photo, quality=30)
    decoded = decode(data)
    assert (row["quality"], row["width"], row["height"], row["bytes"]) == (30, 192, 176, len(data))
    assert row["bpp"] == pytest.approx(8 * len(data) / (176 * 192))
    assert row["psnr-rgb"] == pytest.approx(peak_signal_noise_ratio(photo, decoded), abs=1e-9)
    assert row["ms-ssim-rgb"] == ms_ssim_uint8(photo, decoded)
    assert min(row["encoding_time"], row["decoding_time"]) > 0


def test_averages_are_over_pictures_and_in_order_of_quality(photo, tmp_path):
    pictures = write(tmp_path / "in", a=photo, b=photo[::-1], c=photo[:, ::-1, ::-1])
    steps = []
    record = bench_codec(
        load("jpeg"), pictures, read=pixels_of, qualities=[70, 20, 70], on_measured=lambda: steps.append(1)
    )
    assert len(steps) == len(record["images"]) == 6
    assert record["results"]["quality"] == [20, 70]
    assert [row["file"] for row in record["images"]] == ["a.png", "b.png", "c.png"] * 2
    for measure in MEASURES:
        for quality, mean in zip((20, 70), record["results"][measure], strict=True):
            values = [row[measure] for row in record["images"] if row["quality"] == quality]
            assert mean == pytest.approx(sum(values) / 3)
    assert missing_values(record) == []


def test_without_qualities_it_walks_the_ladder(tmp_path, photo):
    record = bench_codec(load("jpeg"), write(tmp_path / "in", a=photo), read=pixels_of)
    assert tuple(record["results"]["quality"]) == load("jpeg").ladder


def test_warming_up_is_told_and_leaves_the_results_alone(tmp_path, photo):
    pictures = write(tmp_path / "in", a=photo)
    cold = bench_codec(load("jpeg"), pictures, read=pixels_of, qualities=[50], description="A.")
    warm = bench_codec(load("jpeg"), pictures, read=pixels_of, qualities=[50], description="A.", warm_up=True)
    assert (cold["description"], warm["description"][:13]) == ("A.", "A. Not timed:")
    assert cold["results"]["psnr-rgb"] == warm["results"]["psnr-rgb"]


def test_values_that_do_not_exist_are_null_and_told(tmp_path, photo):
    flat = np.full((176, 192, 3), 128, np.uint8)  # JPEG keeps it exactly
    pictures = write(tmp_path / "in", flat=flat, photo=photo, small=photo[:160])
    record = bench_codec(load("jpeg"), pictures, read=pixels_of, qualities=[90])
    rows = {row["file"]: row for row in record["images"]}
    assert rows["flat.png"]["psnr-rgb"] is None
    assert rows["small.png"]["ms-ssim-rgb"] is None
    finite = [rows["photo.png"]["psnr-rgb"], rows["small.png"]["psnr-rgb"]]
    assert record["results"]["psnr-rgb"] == [pytest.approx(math.fsum(finite) / 2)]
    small, exact = missing_values(record)
    assert "1 of 3 pictures" in small
    assert "1 of 3 files are lossless" in exact


def test_a_grey_picture_is_measured(tmp_path, photo):
    row = measure_picture(load("jpeg"), photo[:, :, 1].copy(), quality=50)
    assert row["psnr-rgb"] > 25
    assert 0.9 < row["ms-ssim-rgb"] < 1


def test_wrong_calls_are_refused(tmp_path, photo):
    with pytest.raises(BadOption, match="no quality 101"):
        bench_codec(load("jpeg"), write(tmp_path / "in", a=photo), read=pixels_of, qualities=[101])
    with pytest.raises(ValueError, match="at least one picture"):
        bench_codec(load("jpeg"), [], read=pixels_of)
