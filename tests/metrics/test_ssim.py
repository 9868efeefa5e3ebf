"""SSIM against scikit-image, MS-SSIM against values of pytorch-msssim (scripts/make_metric_goldens.py)."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from jaxcodec.errors import BadImage
from jaxcodec.metrics.ssim import (
    MS_SSIM_WEIGHTS,
    WINDOW,
    ms_ssim,
    ms_ssim_db,
    ms_ssim_uint8,
    ssim,
    ssim_uint8,
)

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text())["pairs"]
_spec = importlib.util.spec_from_file_location(
    "make_metric_goldens", ROOT / "scripts" / "make_metric_goldens.py"
)
goldens = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = goldens  # dataclasses look their module up
_spec.loader.exec_module(goldens)

golden_pairs = pytest.mark.parametrize("golden", GOLDEN, ids=[golden["name"] for golden in GOLDEN])


def pair_of(golden):
    case = goldens.CASES[golden["name"]]
    assert (case.picture, list(case.crop), case.distortion) == tuple(
        golden[k] for k in ("picture", "crop", "distortion")
    )
    return goldens.picture_pair(case)


def as_batch(picture):
    picture = picture[:, :, None] if picture.ndim == 2 else picture
    return jnp.asarray(picture[None], jnp.float32) / 255


@jax.jit
def ms_ssim_and_gradient(b, a):
    return jax.value_and_grad(lambda b: ms_ssim(a, b).sum())(b)


@jax.jit
def ssim_and_gradient(b, a):
    return jax.value_and_grad(lambda b: ssim(a, b).sum())(b)


def texture_batch():
    return noisy_pair((176, 176, 3))[0][None] / np.float32(255)


def noisy_pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = 128 + 60 * np.sin(rows / 9) + 50 * np.cos(columns / 6)
    a = (smooth[..., None] if len(shape) == 3 else smooth) + np.zeros(shape)
    return tuple(np.clip(a + rng.normal(0, s, shape), 0, 255).astype(np.uint8) for s in (3, 20))


@golden_pairs
def test_uint8_ms_ssim_and_ssim_equal_pytorch_msssim(golden):
    a, b = pair_of(golden)
    # pytorch-msssim rounds its window to float32 even in float64, hence not closer.
    assert ms_ssim_uint8(a, b) == pytest.approx(golden["ms_ssim"], abs=5e-6)
    assert ssim_uint8(a, b) == pytest.approx(golden["ssim"], abs=1e-5)


@pytest.mark.parametrize("name", ["odd sides at every scale, 4 x 4 means", "grey, 8 levels"])
def test_differentiable_ms_ssim_and_its_gradient_equal_pytorch_msssim(name):
    (golden,) = (golden for golden in GOLDEN if golden["name"] == name)
    a, b = map(as_batch, pair_of(golden))
    value, gradient = ms_ssim_and_gradient(b, a)
    assert float(value) == pytest.approx(golden["ms_ssim"], abs=5e-6)
    norm = float(jnp.linalg.norm(gradient.ravel())) / 255  # the golden gradient is per 8-bit level
    assert norm == pytest.approx(golden["ms_ssim_gradient_norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "jit"), [((11, 11, 3), True), ((37, 52, 3), True), ((37, 52, 3), False), ((64, 33, 1), True)]
)
def test_ssim_equals_scikit_image(shape, jit):
    pairs = [noisy_pair(shape, seed) for seed in range(2)]
    expected = [
        structural_similarity(
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2,
        )
        for a, b in pairs
    ]
    batches = [np.stack(pictures) / np.float32(255) for pictures in zip(*pairs, strict=True)]
    np.testing.assert_allclose((jax.jit(ssim) if jit else ssim)(*batches), expected, atol=1e-5)
    np.testing.assert_allclose([ssim_uint8(a, b) for a, b in pairs], expected, atol=1e-12)


def test_a_grey_picture_measures_as_its_single_channel_and_as_three_equal_ones():
    a, b = noisy_pair((170, 181))
    for measure in (ssim_uint8, ms_ssim_uint8):
        value = measure(a, b)
        assert 0.1 < value < 0.99
        assert measure(a[:, :, None], b[:, :, None]) == pytest.approx(value, abs=1e-12)
        assert measure(*(np.stack([p, p, p], axis=2) for p in (a, b))) == pytest.approx(value, abs=1e-12)


def test_jitted_and_plain_ms_ssim_agree_and_each_picture_is_measured_alone():
    pairs = (noisy_pair((23, 35, 3), seed) for seed in (1, 2))
    a, b = (np.stack(pictures) / np.float32(255) for pictures in zip(*pairs, strict=True))
    plain = ms_ssim(a, b, weights=(0.4, 0.6))
    assert plain.shape == (2,)
    jitted = jax.jit(lambda a, b: ms_ssim(a, b, weights=(0.4, 0.6)))
    np.testing.assert_allclose(jitted(a, b), plain, atol=1e-6)
    np.testing.assert_allclose(jitted(a[::-1], b[::-1]), plain[::-1], atol=1e-6)


def test_the_data_range_scales_with_the_values():
    a, b = (p[None].astype(np.float32) for p in noisy_pair((48, 48, 3)))
    levels, unit_range = jax.jit(lambda a, b: (ssim(a, b, data_range=255.0), ssim(a / 255, b / 255)))(a, b)
    np.testing.assert_allclose(levels, unit_range, atol=1e-6)


@pytest.mark.parametrize("content", ["texture", "flat", "black"])
def test_equal_pictures_measure_one_with_a_vanishing_gradient(content):
    texture = texture_batch()
    a = {"texture": texture, "flat": np.full_like(texture, 0.3), "black": np.zeros_like(texture)}[content]
    for measure in (ssim_and_gradient, ms_ssim_and_gradient):
        value, gradient = measure(a, a)
        assert float(value) == pytest.approx(1.0, abs=1e-5)
        assert np.abs(gradient).max() < 1e-3


def test_the_gradient_is_finite_where_every_scale_is_anticorrelated():
    a = texture_batch()
    value, gradient = ms_ssim_and_gradient(1 - a, a)
    assert float(value) == 0.0
    assert np.isfinite(gradient).all()
    value, gradient = ssim_and_gradient(1 - a, a)
    assert float(value) < -0.3
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_the_gradient_stays_finite_as_one_scale_crosses_zero():
    smooth = texture_batch() * 0.4 + 0.3
    # A checker vanishes in the first 2 x 2 mean, so its sign shows at the finest scale alone.
    checker = (np.indices(smooth.shape[1:3]).sum(0) % 2 - 0.5).astype(np.float32)[None, :, :, None] * 0.3
    low, high = -1.0, 1.0
    for _ in range(30):  # bisect to where MS-SSIM leaves zero
        middle = (low + high) / 2
        value, gradient = ms_ssim_and_gradient(smooth + np.float32(middle) * checker, smooth + checker)
        assert np.isfinite(gradient).all()
        low, high = (middle, high) if value == 0 else (low, middle)
    assert -0.9 < low < 0.9


def test_the_analytic_gradient_is_the_numerical_one():
    a = texture_batch()
    rng = np.random.default_rng(5)
    b = a + rng.normal(0, 0.1, a.shape).astype(np.float32)
    direction, step = a - b, np.float32(0.01)
    _, gradient = ms_ssim_and_gradient(b, a)
    above, below = (ms_ssim_and_gradient(b + s * direction, a)[0] for s in (step, -step))
    assert float(jnp.sum(gradient * direction)) == pytest.approx(
        float((above - below) / (2 * step)), rel=1e-2
    )


def test_pictures_too_small_for_the_windows_are_refused_with_a_remedy():
    a = np.zeros((1, 200, 160, 3), np.float32)
    with pytest.raises(BadImage, match=r"200 x 160.*161.*use a larger picture"):
        ms_ssim(a, a)
    with pytest.raises(BadImage, match="at least 161 pixels"):
        ms_ssim_uint8(np.zeros((160, 200), np.uint8), np.zeros((160, 200), np.uint8))
    with pytest.raises(BadImage, match="at least 11 pixels"):
        ssim_uint8(np.zeros((10, 200), np.uint8), np.zeros((10, 200), np.uint8))
    with pytest.raises(ValueError, match="equal shapes"):
        ssim(a, a[0])


def test_the_window_and_the_weights_of_the_scales_are_those_of_the_papers():
    assert len(WINDOW) == 11
    assert sum(WINDOW) == pytest.approx(1.0)
    assert WINDOW[5] / WINDOW[2] == pytest.approx(np.exp(2.0))  # 3 pixels are 2 sigma
    assert sum(MS_SSIM_WEIGHTS) == pytest.approx(1.0, abs=1e-3)


def test_bfloat16_pictures_are_measured_in_float32():
    a, b = (jnp.asarray(p[None], jnp.bfloat16) / 255 for p in noisy_pair((32, 32, 3)))
    measure = jax.jit(ssim)
    assert measure(a, b).dtype == jnp.float32
    np.testing.assert_array_equal(measure(a, b), measure(a.astype(jnp.float32), b.astype(jnp.float32)))


def test_ms_ssim_in_decibels_is_minus_ten_log_of_what_is_missing():
    np.testing.assert_allclose(ms_ssim_db([0.9, 0.99, 0.95]), [10.0, 20.0, 13.0103], rtol=1e-6)
    assert ms_ssim_db(1.0) == np.inf
    assert ms_ssim_db(1.0 + 1e-7) == np.inf
