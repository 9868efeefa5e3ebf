"""The comparison of thumbnails: what is counted of a file, which quality is chosen, what SSIM is."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from jaxcodec.data.thumbnails import make_thumbnails
from jaxcodec.evaluation.thumbnails import CLASSICAL, Ladder, score


def thumbnails():
    noise = np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(noise).resize((300, 200), Image.Resampling.BICUBIC))
    return make_thumbnails([photo], per_photo=3, seed=0)


@pytest.mark.parametrize("codec", CLASSICAL, ids=lambda codec: codec.name)
def test_what_counts_of_a_classical_file_is_what_grows_with_the_content(codec):
    flat = Image.fromarray(np.full((32, 32, 3), 128, np.uint8))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    setting = codec.settings[len(codec.settings) // 2]
    files = [codec.encode(picture, setting) for picture in (flat, noise)]
    counted = [codec.counted(data) for data in files]
    headers = [len(data) - count for data, count in zip(files, counted, strict=True)]
    assert headers[0] == headers[1] > 0
    assert counted[0] < 40 < counted[1]
    for data in files:
        assert Image.open(io.BytesIO(data)).size == (32, 32)


def test_a_jpeg_scan_lies_between_its_header_and_the_end_marker():
    jpeg = CLASSICAL[0]
    data = jpeg.encode(Image.fromarray(thumbnails()[0]), 20)
    # Found the other way: the scan's header (12 bytes for three components) is the last marker before the scan.
    start = data.rindex(b"\xff\xda\x00\x0c\x03") + 14
    assert data[-2:] == b"\xff\xd9"
    assert jpeg.counted(data) == len(data[start:-2])


def test_the_quality_nearest_above_is_chosen_and_interpolated():
    images = thumbnails()
    ladder = Ladder(CLASSICAL[0], images)
    row = ladder.row(64.0)
    means = [ladder.mean_bytes(index) for index in range(100)]
    chosen = min(index for index in range(100) if means[index] >= 64.0)
    assert row["setting"] == CLASSICAL[0].settings[chosen]
    assert row["mean_bytes"] == means[chosen]
    low, high = sorted([ladder.at(chosen - 1)["ssim"], row["ssim"]])
    assert low <= row["ssim_at_target"] <= high
    # No quality is small enough: there is nothing to interpolate.
    assert ladder.row(1.0)["ssim_at_target"] is None


def test_the_score_is_the_mean_of_skimages(rng):
    images = thumbnails()
    noisy = np.clip(images + rng.normal(0, 20, images.shape), 0, 255).astype(np.uint8)
    expected = []
    for a, b in zip(images, noisy, strict=True):
        _, maps = structural_similarity(
            *(a, b),
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            full=True,
        )
        expected.append(maps[5:-5, 5:-5].mean())  # windows inside the thumbnail
    scored = score(images, noisy)
    assert scored["ssim"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert scored["standard_error"] == pytest.approx(np.std(expected) / np.sqrt(3), abs=1e-4)
