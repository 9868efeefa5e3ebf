"""CocoNet: coordinates and networks from the formulas, fits that share nothing, the file, what is refused."""

import tracemalloc

import jax
import numpy as np
import pytest

import jaxcodec
from jaxcodec.codecs.base import Codec
from jaxcodec.codecs.coconet import (
    LADDER,
    CocoNetCodec,
    CocoNetOptions,
    FitSettings,
    NetworkConfig,
    complete,
    denoise,
    estimate_noise,
    fit,
    load_coconet,
    render,
    upsample,
)
from jaxcodec.codecs.coconet.grid import coordinates
from jaxcodec.codecs.coconet.model import apply, init
from jaxcodec.codecs.coconet.weights_file import (
    QuantisedNetwork,
    best_table,
    counts_of,
    from_bytes,
    limit_of,
    to_bytes,
)
from jaxcodec.coding.container import Header, Limits, pack, read_header, unpack
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.errors import (
    BadImage,
    BadOption,
    CorruptFile,
    JaxcodecError,
    TooLarge,
    TruncatedFile,
    UnknownCodec,
)
from jaxcodec.metrics.psnr import psnr_uint8
from tests.codecs.golden_codecs import levels_apart, photo
from tests.codecs.test_mutations import DAMAGE, decode_or_error, no_hang  # noqa: F401 -- a fixture

TINY = NetworkConfig(width=8, depth=2, activation="sine", inputs="xy")
QUICK = FitSettings(steps=60, learning_rate=1e-2, cosine=True, segment=30)
OPTIONS = CocoNetOptions(network=TINY, bits=8, settings=QUICK)
PICTURE = photo(13, 17, name="kodim23.png", top=150, left=250)


@pytest.fixture(scope="module")
def coded():
    return load_coconet().encode(PICTURE, options=OPTIONS)


# --- coordinates ---


def by_the_formula(i, j, height, width, e):
    """The six numbers of the original code (the specification, section 2)."""
    x, y = j / e + 0.5, i / e + 0.5
    radius = ((x - width / 2) ** 2 + (y - height / 2) ** 2) ** 0.5
    return [x, y, width - x, height - y, radius, np.arctan2(y, x)]


@pytest.mark.parametrize("e", [1, 2, 4])
def test_the_original_grid_is_that_of_the_formula_with_its_angle_from_the_corner(e):
    grid = coordinates(5, 9, factor=e, aligned=False)
    expected = [by_the_formula(i, j, 5, 9, e) for i in range(5 * e) for j in range(9 * e)]
    np.testing.assert_allclose(grid, expected, rtol=1e-6)


@pytest.mark.parametrize("e", [2, 3, 4])
def test_the_aligned_grid_averages_to_the_pixels_it_divides_and_the_original_is_off(e):
    fine, coarse = (coordinates(6, 4, factor=factor)[:, :2] for factor in (e, 1))
    blocks = fine.reshape(6, e, 4, e, 2).mean(axis=(1, 3)).reshape(-1, 2)
    np.testing.assert_allclose(blocks, coarse, rtol=1e-6)
    off = coordinates(6, 4, factor=e, aligned=False)[:, :2] - fine
    np.testing.assert_allclose(off, 0.5 - 0.5 / e, rtol=1e-5)


def test_both_grids_are_one_where_nothing_is_enlarged():
    np.testing.assert_array_equal(coordinates(7, 3), coordinates(7, 3, aligned=False))


def test_the_centred_angle_turns_once_around_the_centre():
    angles = coordinates(3, 3, inputs="centred")[:, 5].reshape(3, 3)
    assert angles[0, 0] == pytest.approx(-3 * np.pi / 4)
    assert angles[2, 1] == pytest.approx(np.pi / 2)
    corner = coordinates(3, 3)[:, 5]
    assert 0 < corner.min() < corner.max() < np.pi / 2


@pytest.mark.parametrize("size", [(32, 20), (64, 64), (100, 400)], ids=str)
def test_lengths_of_large_pictures_are_those_of_a_side_of_32(size):
    lengths = coordinates(*size)[:, :5]
    assert lengths.max() < 46  # the diagonal of 32 x 32
    assert lengths[:, :4].max() == pytest.approx(32, rel=0.02)


def test_sines_and_cosines_have_octaves_of_the_longer_side():
    grid = coordinates(2, 4, inputs="fourier", octaves=2)
    assert grid.shape == (8, 10)
    x, y = -0.75, -0.25
    np.testing.assert_allclose(grid[0, :2], [x, y])
    for octave, start in ((0, 2), (1, 6)):
        w = np.pi * 2**octave
        expected = [np.sin(w * x), np.sin(w * y), np.cos(w * x), np.cos(w * y)]
        np.testing.assert_allclose(grid[0, start : start + 4], expected, atol=1e-6)


def test_some_pixels_are_a_part_of_the_whole_grid():
    whole = coordinates(5, 6, factor=2.0)
    np.testing.assert_array_equal(coordinates(5, 6, factor=2.0, pixels=range(13, 47)), whole[13:47])


# --- the network ---


def test_the_paper_s_network_has_91903_weights_and_the_compact_one_7591():
    assert NetworkConfig().parameter_count == 91_903
    assert NetworkConfig(width=28).parameter_count == 7_591
    shapes = jax.eval_shape(lambda key: init(key, NetworkConfig()), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 91_903


@pytest.mark.parametrize("activation", ["tanh", "sine"])
def test_the_network_is_the_one_written_out_in_numpy(activation, key):
    config = NetworkConfig(width=7, depth=3, activation=activation)
    params = jax.tree.map(lambda w: np.asarray(w) + np.float32(0.01), init(key, config))
    x = grid = coordinates(4, 6)
    for layer in params[:-1]:
        x = x @ layer["kernel"] + layer["bias"]
        x = np.tanh(x) if activation == "tanh" else np.sin(30 * x)
    logits = x @ params[-1]["kernel"] + params[-1]["bias"]
    np.testing.assert_allclose(apply(params, grid, config), 1 / (1 + np.exp(-logits)), atol=1e-4)


def test_a_picture_is_rendered_in_pieces_as_in_one(key):
    config = NetworkConfig(width=5, depth=2)
    params = init(key, config)
    whole = apply(params, coordinates(90, 100), config)
    expected = np.round(255 * np.asarray(whole)).astype(np.uint8).reshape(90, 100, 3)
    assert levels_apart(render(params, 90, 100, config), expected) <= 1


# --- fitting ---


def test_pictures_fitted_together_are_fitted_as_alone():
    settings = FitSettings(steps=30, learning_rate=1e-3, segment=30)
    pictures = np.stack([PICTURE, PICTURE[::-1, ::-1]])
    together, alone = fit(pictures, TINY, settings), fit(pictures[:1], TINY, settings)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=2e-3, atol=2e-4)


def test_a_fit_comes_nearer_the_longer_it_takes():
    left = []

    def watch(steps, params):
        first = jax.tree.map(lambda leaf: leaf[0], params)
        left.append((steps, psnr_uint8(PICTURE, render(first, 13, 17, TINY))))
        return len(left) == 3

    fit(PICTURE[None], TINY, FitSettings(steps=300, learning_rate=1e-2, segment=30), watch=watch)
    assert [steps for steps, _ in left] == [30, 60, 90]  # it stopped where it was told to
    psnrs = [psnr for _, psnr in left]
    assert psnrs[-1] > psnrs[0] + 1


def test_masked_pixels_have_no_influence():
    known = np.ones((1, 13, 17), bool)
    known[0, 4:9, 4:9] = False
    other = PICTURE.copy()
    other[4:9, 4:9] = 255 - other[4:9, 4:9]
    a, b = (fit(picture[None], TINY, QUICK, known=known) for picture in (PICTURE, other))
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, two)


# --- tasks ---


def test_the_noise_of_a_flat_picture_is_estimated():
    rng = np.random.default_rng(1)
    noisy = np.clip(np.round(rng.normal(128, 20, (64, 65, 3))), 0, 255).astype(np.uint8)
    assert estimate_noise(noisy) == pytest.approx(20, rel=0.05)
    assert estimate_noise(np.full((9, 9), 7, np.uint8)) == 0
    assert estimate_noise(np.zeros((1, 5), np.uint8)) == 0


SMOOTH = NetworkConfig(width=8, depth=1, inputs="xy")


def test_denoising_stops_before_the_noise_and_comes_nearer_to_the_clean_picture():
    y, x = np.mgrid[:16, :16] / 15
    clean = np.round(100 * x + 100 * y * x).astype(np.uint8)
    noisy = clean + np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    settings = FitSettings(steps=900, learning_rate=3e-2, segment=30)
    denoised = denoise(noisy, sigma=25, config=SMOOTH, settings=settings)
    assert psnr_uint8(clean, denoised) > psnr_uint8(clean, noisy) + 3
    left = np.sqrt(np.mean((denoised.astype(float) - noisy) ** 2))
    assert 0.8 * 25 < left < 1.1 * 25


def test_a_ramp_is_enlarged_to_the_finer_ramp_nearer_on_the_aligned_grid():
    ramp = np.round(np.tile(40 + 10.0 * np.arange(16), (16, 1))).astype(np.uint8)
    fine = np.tile(40 - 2.5 + 5.0 * np.arange(32), (32, 1))[:, 2:-2]
    settings = FitSettings(steps=300, learning_rate=3e-2, cosine=True, segment=30)
    aligned, original = (
        upsample(ramp, 2, aligned=aligned, config=SMOOTH, settings=settings) for aligned in (True, False)
    )
    assert aligned.shape == (32, 32)
    errors = [np.sqrt(np.mean((picture[:, 2:-2] - fine) ** 2)) for picture in (aligned, original)]
    assert errors[0] < errors[1] - 0.4  # the original's is a quarter of a pixel off, at 10 levels a pixel
    assert errors[0] < 3
    assert upsample(ramp, 0.5, config=SMOOTH, settings=settings).shape == (8, 8)


def test_a_hole_is_filled_and_nothing_else_touched():
    hole = np.zeros((13, 17), bool)
    hole[5:8, 6:10] = True
    filled = complete(PICTURE, hole, config=TINY, settings=QUICK)
    np.testing.assert_array_equal(filled[~hole], PICTURE[~hole])
    assert (filled[hole] != PICTURE[hole]).any()
    with pytest.raises(BadImage, match="of the picture's size"):
        complete(PICTURE, hole[1:], config=TINY, settings=QUICK)
    with pytest.raises(BadImage, match="nothing to fit to"):
        complete(PICTURE, np.ones((13, 17), bool), config=TINY, settings=QUICK)


# --- the weights' tables ---


@pytest.mark.parametrize("limit", [1, 31, 127])
@pytest.mark.parametrize("exponent", [0, 4])
def test_tables_are_the_formula_s_probabilities(limit, exponent):
    n = np.arange(-limit, limit + 1)
    for spread in (1, 300, 20_000, 10_000_000):
        counts = counts_of(limit, exponent, spread)
        assert counts.sum() == 65536
        assert counts.min() >= 1
        masses = (spread / (spread + 256.0 * n**2)) ** 2**exponent
        shares = 1 + (65536 - len(n)) * masses / masses.sum()
        off = np.abs(counts - shares)
        off[limit] = 0  # the centre has what the others' rounding leaves
        assert off.max() <= 1.01


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace"])
def test_the_best_table_is_near_the_entropy(kind):
    rng = np.random.default_rng(5)
    draws = {
        "normal": rng.normal(0, 15, 3000),
        "uniform": rng.uniform(-63, 63, 3000),
        "laplace": rng.laplace(0, 6, 3000),
    }
    numbers = np.clip(np.rint(draws[kind]), -63, 63).astype(np.int32)
    shares = np.bincount(numbers + 63) / 3000
    entropy = -3000 * np.sum(shares * np.log2(np.where(shares > 0, shares, 1)))
    assert entropy * 0.99 < best_table(numbers, 63)[2] < entropy * 1.05


def random_network(bits=6, config=TINY, seed=0):
    rng, limit = np.random.default_rng(seed), limit_of(bits)
    shapes = config.layer_shapes
    steps = rng.uniform(0.001, 0.1, len(shapes) + 1).astype(np.float16)
    kernels, biases = (
        tuple(rng.integers(-limit, limit + 1, size).astype(np.int32) for size in sizes)
        for sizes in (shapes, [fan_out for _, fan_out in shapes])
    )
    return QuantisedNetwork(config, bits, steps, kernels, biases)


@pytest.mark.parametrize("bits", [2, 7, 9])
@pytest.mark.parametrize(
    "config", [TINY, NetworkConfig(3, 1, "tanh", "fourier", octaves=2, channels=1)], ids=["sine", "fourier"]
)
def test_a_network_in_whole_numbers_comes_back_from_its_bytes(bits, config):
    network = random_network(bits, config)
    back = from_bytes(to_bytes(network, get_coder()), config.channels, get_coder())
    assert (back.config, back.bits) == (config, bits)
    np.testing.assert_array_equal(back.steps, network.steps)
    for a, b in zip(jax.tree.leaves(network.params()), jax.tree.leaves(back.params()), strict=True):
        np.testing.assert_array_equal(a, b)


# --- the codec ---


def test_it_is_a_codec_whose_files_need_no_weights(coded):
    codec = jaxcodec.load("coconet")
    assert isinstance(codec, Codec)
    assert isinstance(codec, CocoNetCodec)
    info = next(info for info in jaxcodec.available() if info.name == "coconet")
    assert (info.qualities, info.extension) == (codec.qualities, codec.extension)
    assert set(codec.ladder) <= set(codec.qualities)
    np.testing.assert_array_equal(jaxcodec.decode(coded), codec.decode(coded))
    with pytest.raises(BadOption, match="takes no weights"):
        jaxcodec.load("coconet", weights="a.safetensors")


def test_a_file_decodes_to_the_rounded_network_and_holds_the_picture(coded):
    header, network = load_coconet().read(coded)
    assert (header.width, header.height, header.quality) == (17, 13, 0)
    grid = coordinates(13, 17, inputs="xy")
    exact = [{name: w.astype(np.float64) for name, w in layer.items()} for layer in network.params()]
    x = grid.astype(np.float64)
    for layer in exact[:-1]:
        x = np.sin(30 * (x @ layer["kernel"] + layer["bias"]))
    colours = 1 / (1 + np.exp(-(x @ exact[-1]["kernel"] + exact[-1]["bias"])))
    decoded = load_coconet().decode(coded)
    # float64 stands for any other device's arithmetic.
    assert levels_apart(decoded, np.round(255 * colours).astype(np.uint8).reshape(13, 17, 3)) <= 1
    assert psnr_uint8(PICTURE, decoded) > psnr_uint8(
        PICTURE, np.broadcast_to(PICTURE.mean((0, 1)), (13, 17, 3)).astype(np.uint8)
    )
    assert len(coded) < TINY.parameter_count + 70  # 8 bits a weight, at most


def test_a_grey_pixel_at_the_lowest_quality_comes_back_grey_and_a_pixel():
    codec = CocoNetCodec(options=CocoNetOptions(settings=FitSettings(steps=1)))
    data = codec.encode(np.full((1, 1), 90, np.uint8), quality=1)
    header = read_header(data)
    assert (header.channels, header.quality) == (1, 1)
    assert codec.decode(data).shape == (1, 1)


def test_a_better_quality_has_more_bits_of_weights():
    bits = [NetworkConfig(width, depth, inputs="xy").parameter_count * bits for width, depth, bits in LADDER]
    assert bits == sorted(set(bits))
    assert len(bits) == len(load_coconet().qualities)


def test_batches_are_the_same_files(coded):
    codec = load_coconet()
    assert codec.encode_batch([PICTURE], options=OPTIONS) == [coded]
    np.testing.assert_array_equal(codec.decode_batch([coded])[0], codec.decode(coded))
    assert codec.decode_enlarged(coded, factor=2).shape == (26, 34, 3)


def test_wrong_pictures_and_options_are_refused():
    codec = load_coconet()
    with pytest.raises(BadImage):
        codec.encode(np.zeros((4, 4), np.float32))
    with pytest.raises(BadOption, match=r"1\.\.6"):
        codec.encode(PICTURE, quality=7)
    with pytest.raises(BadOption, match="CocoNetOptions"):
        codec.encode(PICTURE, options={"bits": 5})  # pyrefly: ignore
    with pytest.raises(BadOption, match="contradict"):
        codec.encode(PICTURE, quality=2, options=OPTIONS)
    for fields in (
        {"width": 0},
        {"depth": 65},
        {"activation": "relu"},
        {"inputs": "fourier"},
        {"octaves": 3},
    ):
        with pytest.raises(BadOption, match="cannot have"):
            NetworkConfig(**fields)
    with pytest.raises(BadOption, match="2 to 12 bits"):
        CocoNetOptions(bits=13)
    with pytest.raises(BadOption, match="at least 1"):
        FitSettings(steps=0)
    with pytest.raises(BadOption, match="factor"):
        upsample(PICTURE, 0)
    with pytest.raises(BadOption, match="sigma"):
        denoise(PICTURE, sigma=-1)


def test_what_is_too_large_says_what_to_do(coded):
    with pytest.raises(TooLarge, match="cut it into parts"):
        load_coconet().encode(PICTURE, options=CocoNetOptions(max_pixels=220))
    with pytest.raises(TooLarge, match="max_pixels"):
        CocoNetCodec(options=CocoNetOptions(limits=Limits(max_pixels=220))).decode(coded)
    with pytest.raises(TooLarge, match="max_evaluations"):
        CocoNetCodec(options=CocoNetOptions(max_evaluations=1000)).decode(coded)
    with pytest.raises(TooLarge, match="smaller factor"):
        upsample(PICTURE, 1000)


# --- damaged and hostile files ---


def test_a_header_that_claims_a_huge_picture_costs_its_pixels_and_no_more(coded):
    header, chunks = unpack(coded)
    codec = CocoNetCodec(options=CocoNetOptions(max_evaluations=1 << 27))
    codec.decode(coded)  # compiled
    for width, height in ((1 << 17, 1), (1, 1 << 17)):
        tracemalloc.start()
        try:
            claimed = Header(**{**vars(header), "width": width, "height": height})
            assert codec.decode(pack(claimed, chunks)).shape == (height, width, 3)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()
    with pytest.raises(TooLarge, match="max_evaluations"):
        codec.decode(pack(Header(**{**vars(header), "width": 1 << 27, "height": 1}), chunks))


def test_damaged_files_raise_typed_errors(coded):
    rng = np.random.default_rng(2018)
    for case in range(180):
        damaged = DAMAGE[case % len(DAMAGE)](rng, coded)
        if damaged != coded:
            assert isinstance(decode_or_error(load_coconet(), damaged), JaxcodecError)


def test_decoding_a_cut_file_raises_truncated(coded):
    for length in range(4, len(coded), 29):
        with pytest.raises(TruncatedFile):
            load_coconet().decode(coded[:length])


def test_damage_under_a_right_checksum_raises_typed_errors_or_gives_a_picture_of_the_size(coded):
    rng = np.random.default_rng(2019)
    header, (chunk,) = unpack(coded)
    kinds = set()
    for case in range(200):
        begin = int(rng.choice([0, 6, 30]))
        damaged = chunk[:begin] + DAMAGE[case % len(DAMAGE)](rng, chunk[begin:])
        result = decode_or_error(load_coconet(), pack(header, [damaged]))
        kinds.add(type(result))
        if not isinstance(result, JaxcodecError):
            assert result.shape == (13, 17, 3)
    assert {CorruptFile, TruncatedFile} <= kinds


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda chunk: b"\x04" + chunk[1:], UnknownCodec, "kind 4"),
        (lambda chunk: chunk[:2] + b"\x03" + chunk[3:], CorruptFile, "octaves 3"),
        (lambda chunk: chunk[:3] + b"\x0d" + chunk[4:], CorruptFile, "not 13"),
        (lambda chunk: chunk[:4] + b"\x00" + chunk[5:], CorruptFile, "width 0"),
        (lambda chunk: chunk[:4] + b"\x80\x04\x40" + chunk[6:], TooLarge, "over the limit"),
        (lambda chunk: chunk[:6] + b"\x00\x00" + chunk[8:], CorruptFile, r"step of the weights is 0\.0"),
        (lambda chunk: chunk[:6] + b"\x00\x7c" + chunk[8:], CorruptFile, "step of the weights is inf"),
        (lambda chunk: chunk[:8] + b"\x05" + chunk[9:], CorruptFile, "spread by 5"),
        (lambda chunk: chunk[:20], TruncatedFile, "ends inside"),
        (lambda chunk: chunk[:5], TruncatedFile, "before its network"),
        (lambda chunk: chunk[:-40], CorruptFile, "cannot hold"),
    ],
)
def test_what_no_encoder_writes_is_refused(coded, change, error, match):
    header, (chunk,) = unpack(coded)
    with pytest.raises(error, match=match):
        load_coconet().decode(pack(header, [change(chunk)]))


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"codec_id": 1}, BadOption, "written by fmm"),
        ({"weights_hash": b"abcd"}, CorruptFile, "bring their own"),
        ({"coder_id": 2}, UnknownCodec, "coder number 2"),
        ({"quality": 7}, CorruptFile, "no quality 7"),
    ],
)
def test_a_header_that_is_not_its_own_is_refused(coded, fields, error, match):
    header, chunks = unpack(coded)
    changed = Header(**{**vars(header), **fields})
    with pytest.raises(error, match=match):
        load_coconet().decode(pack(changed, chunks))
