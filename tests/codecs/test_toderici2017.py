"""The recurrent codec with a small random network: files, prefixes, cuts, sizes, tiles."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcodec
from jaxcodec.codecs.base import ProgressiveCodec, first_iterations
from jaxcodec.codecs.progress import listening
from jaxcodec.codecs.toderici2017 import RecurrentCodec, RecurrentOptions, codec, export
from jaxcodec.codecs.toderici2017.model import RecurrentCoder, RecurrentConfig
from jaxcodec.coding.container import pack, unpack
from jaxcodec.errors import BadOption, CorruptFile, TooLarge, TruncatedFile, WrongWeights
from jaxcodec.ops.binarise import sign_binarise
from tests.parameters import random_like

ITERATIONS = 4
SMALL = RecurrentConfig(width=1 / 32, iterations=ITERATIONS, framework="residual_scaling")


def random_params(config, seed=0):
    def once(module, x):
        return module.iterate(module.initial_state(*x.shape[:3]), x, binarise=sign_binarise)

    init = partial(RecurrentCoder(config).init, method=once)
    return random_like(init, jnp.zeros((1, 32, 32, 3)), seed=seed)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return export.export(tmp_path_factory.mktemp("weights"), config=SMALL, params=random_params(SMALL))


@pytest.fixture(scope="module")
def recurrent(weights):
    return jaxcodec.load("toderici2017", weights=weights)


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(0, 8, (height, width, 3)), axis=1) + rng.normal(128, 30, (1, 1, 3))
    return np.clip(smooth, 0, 255).astype(np.uint8)


def test_it_is_a_progressive_codec_whose_quality_is_the_number_of_iterations(recurrent):
    assert isinstance(recurrent, ProgressiveCodec)
    assert recurrent.qualities == (1, 2, 3, 4)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 70), (257, 300)])
def test_any_size_round_trips_to_what_the_encoder_saw(recurrent, size):
    image = picture(*size)
    data = recurrent.encode(image, quality=2)
    decoded = jaxcodec.decode(data, weights=recurrent.path)
    assert decoded.shape == image.shape
    seen = recurrent.reconstructions(image, quality=2)
    np.testing.assert_array_equal(decoded, seen[-1])
    np.testing.assert_array_equal(recurrent.decode_codes(data)[0], recurrent.codes(image, quality=2)[0])
    # 32 bits for each 16 x 16 pixels, begun ones counting whole.
    positions = -(-size[0] // 16) * -(-size[1] // 16)
    assert [len(chunk) for chunk in unpack(data)[1]] == [4 * positions] * 2


def test_every_prefix_is_the_file_of_fewer_iterations_and_decodes_to_what_the_encoder_saw_there(recurrent):
    image = picture(48, 40)
    data = recurrent.encode(image, quality=ITERATIONS)
    seen = recurrent.reconstructions(image, quality=ITERATIONS)
    for k in range(1, ITERATIONS + 1):
        assert first_iterations(data, k) == recurrent.encode(image, quality=k)
        np.testing.assert_array_equal(recurrent.decode_progressive(data, iterations=k), seen[k - 1])
    with pytest.raises(BadOption, match="5 iterations"):
        recurrent.decode_progressive(data, iterations=5)


def test_a_file_cut_anywhere_is_refused_or_when_allowed_gives_its_last_whole_iteration(recurrent):
    image = picture(20, 20)
    data = recurrent.encode(image, quality=3)
    seen = recurrent.reconstructions(image, quality=3)
    ends = []
    chunks = unpack(data)[1]
    for k in (1, 2, 3):
        following = sum(len(chunk) + 4 for chunk in chunks[k:])
        ends.append(len(data) - following)
    for cut in range(len(data)):
        with pytest.raises(TruncatedFile):
            recurrent.decode(data[:cut])
        whole = sum(end <= cut for end in ends)
        if whole == 0:
            with pytest.raises(TruncatedFile):
                recurrent.decode_progressive(data[:cut], allow_truncated=True)
        elif cut in (ends[whole - 1], ends[whole] - 1):
            picture_of_cut = recurrent.decode_progressive(data[:cut], allow_truncated=True)
            np.testing.assert_array_equal(picture_of_cut, seen[whole - 1])


def test_wrong_numbers_of_bits_and_foreign_coders_are_refused(recurrent):
    data = recurrent.encode(picture(20, 20), quality=2)
    header, chunks = unpack(data)
    with pytest.raises(CorruptFile, match="bytes of bits"):
        recurrent.decode(pack(header, [chunks[0], chunks[1] + b"\0"]))
    with pytest.raises(CorruptFile, match="bytes of bits"):
        recurrent.decode(pack(replace(header, width=1000, height=1000), chunks))
    with pytest.raises(jaxcodec.UnknownCodec, match="coder number 7"):
        recurrent.decode(pack(replace(header, coder_id=7), chunks))
    many = replace(header, quality=ITERATIONS + 1)
    with pytest.raises(CorruptFile, match="5 iterations"):
        recurrent.decode(pack(many, [chunks[0]] * (ITERATIONS + 1)))
    with pytest.raises(WrongWeights, match="not installed"):
        recurrent.decode(pack(replace(header, weights_hash=b"none"), chunks))


def test_grey_pictures_stay_grey(recurrent):
    image = picture(30, 20)[..., 0]
    assert recurrent.decode(recurrent.encode(image, quality=1)).shape == image.shape


def test_the_window_does_not_show(recurrent, weights):
    image = picture(60, 50)
    larger = RecurrentCodec(weights, options=RecurrentOptions(windows=((96, 96), (1024, 1024))))
    a, b = recurrent.codes(image, quality=3)[0], larger.codes(image, quality=3)[0]
    assert (a != b).mean() < 1e-3
    data = recurrent.encode(image, quality=3)
    difference = np.abs(recurrent.decode(data).astype(int) - larger.decode(data))
    assert difference.max() <= 1


def test_large_pictures_are_coded_in_tiles(recurrent, weights, monkeypatch):
    monkeypatch.setattr(codec, "TILE", 32)
    tiled = RecurrentCodec(weights)
    image = picture(70, 40)
    data = tiled.encode(image, quality=2)
    decoded = tiled.decode(data)
    for top in range(0, 70, 32):
        for left in range(0, 40, 32):
            part = image[top : top + 32, left : left + 32]
            alone = recurrent.decode(recurrent.encode(part, quality=2))
            np.testing.assert_array_equal(decoded[top : top + 32, left : left + 32], alone)
    assert len(tiled.decode_codes(data)) == 6
    header, chunks = unpack(data)
    with pytest.raises(CorruptFile, match="longer than its chunk"):
        tiled.decode(pack(header, [b"\x7f" + chunks[0][1:], chunks[1]]))


def test_progress_is_told(recurrent):
    told = []
    with listening(lambda done, total: told.append((done, total))):
        data = recurrent.encode(picture(20, 20), quality=3)
        assert told == [(1, 3), (2, 3), (3, 3)]
        recurrent.decode_progressive(data, iterations=2)
    assert told[3:] == [(1, 2), (2, 2)]
    recurrent.decode(data)
    assert len(told) == 5


def test_a_picture_over_the_limit_is_refused(recurrent):
    limits = replace(RecurrentOptions().limits, max_pixels=100)
    with pytest.raises(TooLarge):
        recurrent.encode(picture(20, 20), options=RecurrentOptions(limits=limits))


@pytest.mark.parametrize(
    ("unit", "framework"),
    [
        ("lstm", "one_shot"),
        ("lstm", "additive"),
        ("gru", "residual_scaling"),
        ("associative_lstm", "residual_scaling"),
        ("residual_gru", "additive"),
    ],
)
def test_frameworks_and_units_add_up_as_their_formulas_say(unit, framework):
    config = RecurrentConfig(unit=unit, framework=framework, width=1 / 32, iterations=2)
    coder, params = RecurrentCoder(config), {"params": random_params(config)}
    # Parameters as arguments: as constants they would be folded, which takes minutes.
    iterate = jax.jit(partial(coder.apply, binarise=sign_binarise, method="iterate"))
    decode = jax.jit(partial(coder.apply, method="decode"))
    x = jax.random.uniform(jax.random.key(1), (2, 32, 64, 3)) - 0.5
    state = coder.apply(params, *x.shape[:3], method="initial_state")
    decoder_state, total = state, 0.0
    for _ in range(2):
        gain = np.repeat(np.repeat(state.gain, 32, 1), 32, 2)
        state, bits = iterate(params, state, x)
        assert set(np.unique(bits)) <= {-1.0, 1.0}
        # What the decoder adds for these bits alone: its output from a reconstruction of 0 and a gain of 1.
        fresh = decoder_state._replace(
            reconstruction=jnp.zeros_like(state.reconstruction), gain=jnp.ones_like(state.gain)
        )
        decoder_state = decode(params, fresh, bits)
        output = np.asarray(decoder_state.reconstruction)
        assert np.abs(output).max() <= 0.5
        total = {"one_shot": output, "additive": total + output}.get(framework, total + output / gain)
        np.testing.assert_allclose(state.reconstruction, total, atol=1e-5)
    assert (np.asarray(state.gain) > 1).all() == (framework == "residual_scaling")


def test_macs_per_pixel_are_those_of_the_paper_s_table():
    encoder, decoder = RecurrentConfig(width=1.0).macs_per_pixel()
    # The specification derives 0.19 and 0.55 G per 32 x 32 patch.
    np.testing.assert_allclose([encoder * 1024 / 1e9, decoder * 1024 / 1e9], [0.19, 0.55], atol=0.01)


@pytest.mark.parametrize(
    "wrong", [{"unit": "rnn"}, {"framework": "none"}, {"width": 0.3}, {"bits": 12}, {"iterations": 0}]
)
def test_a_wrong_configuration_is_refused(wrong):
    with pytest.raises(ValueError):
        RecurrentConfig(**wrong)
