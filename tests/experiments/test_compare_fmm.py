import numpy as np
import pytest

from experiments import compare_fmm, near_lossless
from jaxcodec.codecs.fmm.stream import STAGES
from jaxcodec.metrics.psnr import psnr_uint8
from tests.codecs.golden_codecs import photo


@pytest.mark.parametrize("bound", [0, 1, 2, 8])
@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (40, 33)], ids=str)
def test_the_near_lossless_rival_decodes_within_its_bound(bound, shape):
    planes = np.random.default_rng(bound).integers(0, 256, (2, *shape)).astype(np.uint8)
    for image in (planes, np.ascontiguousarray(photo(*shape).transpose(2, 0, 1))):
        data, seen = near_lossless.encode(image, bound)
        decoded = near_lossless.decode(data, image.shape, bound)
        np.testing.assert_array_equal(decoded, seen)
        assert compare_fmm.largest_error(image, decoded) <= bound


def test_jpeg_files_are_the_nearest_to_the_target():
    image = photo(64, 96, name="kodim05.png")
    jpeg = compare_fmm.Jpeg(image)
    codec = compare_fmm.jpeg444()
    files = [codec.encode(image, quality=quality) for quality in range(1, 101)]
    gains = [psnr_uint8(image, codec.decode(data)) for data in files]
    for target in (2000, 5000):
        assert jpeg.of_bytes(target)["bytes"] == max(len(data) for data in files if len(data) <= target)
    found = jpeg.of_psnr(35)
    assert (found["quality"], found["psnr"]) == next((q, g) for q, g in enumerate(gains, 1) if g >= 35)
    assert jpeg.of_bytes(10) is None
    assert jpeg.of_psnr(99) is None


def test_the_table_has_a_row_per_modulus(tmp_path):
    images = [photo(40, 56), photo(56, 40, name="kodim05.png")]
    rows = [compare_fmm.measure_picture(tmp_path / "a.png", image) for image in images]
    text = compare_fmm.table(rows, compare_fmm.measure_speed(images, 1))
    assert all(row["moduli"]["5"]["max_error"] <= 2 for row in rows)
    assert [line.split()[0] for line in text.splitlines()[1:7]] == list(map(str, compare_fmm.MODULI))
    assert all(f"{stage}: " in text for stage in STAGES)
