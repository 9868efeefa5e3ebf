"""CocoNet as a codec: the tables of its weights, the file, what is refused."""

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
    denoise,
    load_coconet,
    upsample,
)
from jaxcodec.codecs.coconet.grid import coordinates
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
from tests.codecs.coconet_networks import PICTURE, QUICK, TINY
from tests.codecs.golden_codecs import levels_apart
from tests.codecs.test_mutations import DAMAGE, decode_or_error, no_hang  # noqa: F401 -- a fixture

OPTIONS = CocoNetOptions(network=TINY, bits=8, settings=QUICK)


@pytest.fixture(scope="module")
def coded():
    return load_coconet().encode(PICTURE, options=OPTIONS)


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
