"""The thumbnail codec: every family, prefixes, cut and damaged files, dynamic bits; weights random, not trained."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from jaxcodec.codecs.base import Codec, ProgressiveCodec, count_iterations, first_iterations
from jaxcodec.codecs.toderici2016 import ThumbnailCodec, TodericiOptions, load_toderici2016
from jaxcodec.codecs.toderici2016.export import export
from jaxcodec.codecs.toderici2016.model import (
    FAMILIES,
    Decoder,
    Encoder,
    ThumbnailConfig,
    init,
    initial_states,
    squared_errors,
    to_pixels,
    to_values,
)
from jaxcodec.coding.container import Header, Limits, pack, unpack
from jaxcodec.errors import (
    BadImage,
    BadOption,
    CorruptFile,
    JaxcodecError,
    TooLarge,
    TruncatedFile,
    UnknownCodec,
    WrongWeights,
)
from jaxcodec.metrics.psnr import psnr_uint8
from jaxcodec.ops.binarise import sign_binarise, stochastic_binarise

CONFIGS = {
    "fc": ThumbnailConfig.of("fc", width=12, stages=4),
    "fc distinct": ThumbnailConfig.of("fc", shared=False, width=12, stages=4),
    "lstm": ThumbnailConfig.of("lstm", width=12, stages=4),
    "conv": ThumbnailConfig.of("conv", width=16, stages=3),
    "conv distinct": ThumbnailConfig.of("conv", shared=False, width=16, stages=3),
    "conv_lstm": ThumbnailConfig.of("conv_lstm", width=16, stages=3),
}
every_family = pytest.mark.parametrize("name", CONFIGS)


@cache
def some_params(config):
    """Random ones whose predictions differ visibly from stage to stage; made without compiling anything."""
    rng = np.random.default_rng(7)

    def draw(shape):
        fan_in = np.prod(shape[:-1]) / (1 if config.shared else config.stages)
        return rng.normal(0, 1.5 / np.sqrt(fan_in) if len(shape) > 1 else 0.1, shape).astype(np.float32)

    shapes = jax.eval_shape(partial(init, config), jax.random.key(0))
    return jax.tree.map(lambda leaf: draw(leaf.shape), shapes)


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {
        name: load_toderici2016(export(folder, config=config, params=some_params(config)))
        for name, config in CONFIGS.items()
    }


@pytest.fixture
def image(rng):
    """37 x 45: neither side is whole patches."""
    smooth = np.add.outer(np.arange(37) * 3, np.arange(45) * 2)[..., None] + np.array([0, 20, 50])
    return np.clip(smooth + rng.integers(0, 30, (37, 45, 3)), 0, 255).astype(np.uint8)


def smooth_patches(side):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(noise).resize((4 * side, 2 * side), Image.Resampling.BICUBIC))
    return photo.reshape(2, side, 4, side, 3).transpose(0, 2, 1, 3, 4).reshape(8, side, side, 3)


def near(a, b):
    """Within one 8-bit level: what float32 in batches of other sizes may change."""
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


# --- The networks ---


@every_family
def test_a_stage_repeated_by_hand_gives_the_losses_of_the_unrolled_network(name, key, rng, strict_dtypes):
    config = CONFIGS[name]
    params = some_params(config)
    x = rng.uniform(-0.9, 0.9, (2, config.patch, config.patch, 3)).astype(np.float32)
    signs = partial(squared_errors, config=config, binarise=lambda code, *, key: sign_binarise(code), key=key)
    errors = jax.jit(signs)(params, x)
    encode = jax.jit(lambda w, state, r: Encoder(config).apply({"params": w["encoder"]}, state, r))
    decode = jax.jit(lambda w, state, bits: Decoder(config).apply({"params": w["decoder"]}, state, bits))
    encoder_state, decoder_state = initial_states(config, 2)
    residual, total, by_hand = x, 0.0, []
    for stage in range(config.stages):
        own = params if config.shared else jax.tree.map(lambda w, t=stage: w[t], params)
        encoder_state, code = encode(own, encoder_state, residual)
        assert code.shape == (2, config.bits)
        assert np.abs(code).max() <= 1
        decoder_state, prediction = decode(own, decoder_state, np.where(np.asarray(code) < 0, -1.0, 1.0))
        # The sum of all predictions of residuals, or the last prediction of the patch.
        total = total + np.asarray(prediction)
        residual = np.asarray(x) - (prediction if config.recurrent else total)
        by_hand.append(np.sum(residual**2) / (2 * config.patch**2))
    assert len(encoder_state) == (0 if not config.recurrent else 3 if config.convolutional else 2)
    np.testing.assert_allclose(errors, by_hand, rtol=1e-4)


@every_family
def test_the_loss_of_every_family_falls(name, key):
    config = CONFIGS[name]
    x = to_values(smooth_patches(config.patch))
    optimiser = optax.adam(5e-3)

    @jax.jit
    def update(params, state, key):
        def loss(params):
            return squared_errors(params, x, config=config, binarise=stochastic_binarise, key=key).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        changes, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, changes), state, value

    params = jax.tree.map(lambda w: w / np.float32(1.5), some_params(config))
    state, losses = optimiser.init(params), []
    for step in range(60):
        params, state, value = update(params, state, jax.random.fold_in(key, step))
        losses.append(float(value))
    assert np.mean(losses[-10:]) < 0.8 * losses[0]
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(some_params(config)), jax.tree.leaves(params), strict=True
    ):
        assert np.abs(1.5 * np.asarray(after) - before).max() > 0, path  # nothing is left untrained


def test_the_published_sizes_are_the_defaults():
    assert ThumbnailConfig.of("lstm") == ThumbnailConfig("lstm", True, 8, 16, 4, 512)
    assert ThumbnailConfig.of("conv_lstm") == ThumbnailConfig("conv_lstm", True, 32, 8, 128, 512)
    # 64 bytes of a thumbnail: 8 stages of 16 patches, or 4 stages of one.
    assert 8 * 16 * 4 == 4 * 128 == 64 * 8
    shapes = jax.eval_shape(partial(init, ThumbnailConfig.of("lstm")), jax.random.key(0))
    assert shapes["encoder"]["layer_0"]["hidden"]["kernel"].shape == (512, 2048)
    shapes = jax.eval_shape(partial(init, ThumbnailConfig.of("fc", shared=False)), jax.random.key(0))
    assert shapes["encoder"]["first"]["kernel"].shape == (16, 192, 512)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"family": "gru"}, "fc, lstm, conv, conv_lstm"),
        ({"family": "lstm", "shared": False}, "share their weights"),
        ({"family": "conv", "patch": 24}, "multiples of 16"),
        ({"family": "conv", "bits": 6}, "multiple of"),
        ({"family": "fc", "stages": 65}, "stages must be 1..64"),
        ({"family": "fc", "width": 0}, "width must be"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        ThumbnailConfig.of(**fields)


def test_pixels_are_scaled_to_nine_tenths_and_back():
    pixels = np.arange(256, dtype=np.uint8)
    values = to_values(pixels)
    assert float(values[0]) == pytest.approx(-0.9)
    assert float(values[-1]) == pytest.approx(0.9)
    np.testing.assert_array_equal(to_pixels(values), pixels)
    np.testing.assert_array_equal(to_pixels(jnp.array([-3.0, 3.0])), [0, 255])


# --- Files ---


@every_family
def test_every_prefix_decodes_to_what_the_encoder_saw(codecs, image, name):
    codec = codecs[name]
    assert isinstance(codec, ProgressiveCodec)
    assert isinstance(codec, Codec)
    stages = codec.config.stages
    assert codec.qualities == codec.ladder == tuple(range(1, stages + 1))
    data = codec.encode(image, quality=stages)
    seen = codec.reconstructions(image)[: codec.default_quality]
    assert len(seen) == codec.default_quality
    seen = codec.reconstructions(image, quality=stages)
    for iterations in codec.qualities:
        near(codec.decode_progressive(data, iterations=iterations), seen[iterations - 1])
        # Fewer stages are a prefix of more: one encoding serves every quality.
        fewer = codec.encode(image, quality=iterations)
        assert fewer == first_iterations(data, iterations)
        np.testing.assert_array_equal(
            codec.decode(fewer), codec.decode_progressive(data, iterations=iterations)
        )
    assert len({picture.tobytes() for picture in seen}) == stages


@every_family
def test_a_file_is_its_header_and_the_bits(codecs, image, name):
    codec, config = codecs[name], codecs[name].config
    header, chunks = unpack(codec.encode(image, quality=2))
    patches = -(-37 // config.patch) * -(-45 // config.patch)
    assert [len(chunk) for chunk in chunks] == [-(-patches * config.bits // 8)] * 2
    assert (header.width, header.height, header.quality, header.coder_id) == (45, 37, 2, 0)


def test_the_edge_is_repeated_up_to_whole_patches(codecs, image):
    whole = np.pad(image, ((0, 3), (0, 3), (0, 0)), mode="edge")
    for name in ("fc", "lstm"):
        data, padded = (codecs[name].encode(x, quality=4) for x in (image, whole))
        assert unpack(data)[1] == unpack(padded)[1]
        np.testing.assert_array_equal(codecs[name].decode(data), codecs[name].decode(padded)[:37, :45])


@every_family
def test_a_batch_of_thumbnails_is_a_file_with_one_header(codecs, rng, name):
    codec = codecs[name]
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    data = codec.encode_thumbnails(images, quality=3)
    decoded = codec.decode_thumbnails(data)
    assert decoded.shape == images.shape
    payload = sum(map(len, unpack(data)[1]))
    assert payload * 8 == 3 * 3 * codec.config.bits * (32 // codec.config.patch) ** 2
    assert len(data) - payload < 60
    # One at a time (a batch of another size): the same bits, and the same pictures to one level.
    for image, picture in zip(images, decoded, strict=True):
        single = codec.encode_thumbnails(image[None], quality=3)
        near(codec.decode_thumbnails(single)[0], picture)
    alone = codec.encode_batch(list(images), quality=3)
    per_stage = [b"".join(unpack(file)[1][stage] for file in alone) for stage in range(3)]
    assert per_stage == unpack(data)[1]
    for picture, other in zip(codec.decode_batch(alone), decoded, strict=True):
        near(picture, other)
    near(codec.decode_thumbnails(data, iterations=2), codec.decode_thumbnails(first_iterations(data, 2)))


def test_grey_pictures_stay_grey(codecs, rng):
    image = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    colour = np.repeat(image[..., None], 3, axis=2)
    codec = codecs["lstm"]
    decoded = codec.decode(codec.encode(image))
    assert decoded.shape == (20, 30)
    mean = codec.decode(codec.encode(colour)).astype(float).mean(-1)
    np.testing.assert_array_equal(decoded, np.rint(mean))
    images = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    assert codec.decode_thumbnails(codec.encode_thumbnails(images)).shape == (3, 32, 32)


# --- A number of stages for each patch ---


@pytest.mark.parametrize("name", ["fc distinct", "conv_lstm"])
def test_each_patch_stops_at_the_first_stage_that_reaches_the_target(codecs, image, name):
    codec, side = codecs[name], codecs[name].config.patch
    rows, columns = -(-37 // side), -(-45 // side)
    whole = np.pad(image, ((0, -37 % side), (0, -45 % side), (0, 0)), mode="edge")
    stages = codec.config.stages
    seen = codec.reconstructions(whole, quality=stages)
    reached = np.empty((stages, rows, columns))
    for stage, row, column in np.ndindex(reached.shape):
        part = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        reached[stage, row, column] = psnr_uint8(whole[part], seen[stage][part])
    # A target that some patches reach early and others do not: random networks gain little.
    target = float(np.median(reached.max(axis=0))) - 1e-6
    wanted = np.where((reached >= target).any(axis=0), (reached >= target).argmax(axis=0) + 1, stages)
    data = codec.encode(image, options=TodericiOptions(target_psnr=target))
    np.testing.assert_array_equal(codec.stage_counts(data), wanted)
    decoded = np.pad(codec.decode(data), ((0, -37 % side), (0, -45 % side), (0, 0)))[: len(whole)]
    for row, column in np.ndindex(rows, columns):
        part = np.s_[row * side : min((row + 1) * side, 37), column * side : min((column + 1) * side, 45)]
        near(decoded[part], seen[wanted[row, column] - 1][part])


def test_fewer_stages_of_a_file_with_counts_are_a_file_too(codecs, rng):
    codec = codecs["lstm"]
    image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    # A target that about half of the patches reach at once.
    difference = image.astype(float) - codec.decode(codec.encode(image, quality=1))
    errors = np.square(difference).reshape(5, 8, 5, 8, 3).mean(axis=(1, 3, 4))
    target = 10 * np.log10(255**2 / np.median(errors)) - 0.05
    data = codec.encode(image, options=TodericiOptions(target_psnr=target))
    counts = codec.stage_counts(data)
    assert 8 <= (counts == 1).sum() <= 20
    assert counts.max() > 1
    payload, fixed = (sum(map(len, unpack(file)[1])) for file in (data, codec.encode(image, quality=4)))
    # 2 bits a patch for its number, 4 for each stage that it has.
    assert payload <= (25 * 2 + counts.sum() * 4) / 8 + 5
    assert payload < fixed + 25 * 2 / 8 + 1
    fewer = first_iterations(data, 2)
    np.testing.assert_array_equal(codec.stage_counts(fewer), np.minimum(counts, 2))
    near(codec.decode(fewer), codec.decode_progressive(data, iterations=2))
    # `quality` is the most that a patch may have.
    least = codec.encode(image, quality=2, options=TodericiOptions(target_psnr=90.0))
    assert set(codec.stage_counts(least).flat) == {2}


# --- What is wrong is said ---


@pytest.mark.parametrize("target", [None, 25.0])
def test_a_cut_file_raises_truncated_or_gives_its_last_whole_stage(codecs, image, target):
    codec = codecs["fc distinct"]
    data = codec.encode(image, quality=4, options=TodericiOptions(target_psnr=target))
    prefixes = [codec.decode_progressive(data, iterations=k) for k in range(1, unpack(data)[0].quality + 1)]
    outcomes = set()
    for cut in range(len(data)):
        with pytest.raises(TruncatedFile):
            codec.decode(data[:cut])
        try:
            picture = codec.decode_progressive(data[:cut], allow_truncated=True)
        except TruncatedFile:
            outcomes.add(0)
            continue
        whole, _ = count_iterations(data[:cut])
        np.testing.assert_array_equal(picture, prefixes[whole - 1])
        outcomes.add(whole)
    assert outcomes == set(range(len(prefixes)))


def test_every_flipped_byte_gives_a_typed_error(codecs, image):
    codec = codecs["lstm"]
    data = codec.encode(image, quality=2, options=TodericiOptions(target_psnr=25.0))
    for position in range(len(data)):
        with pytest.raises(JaxcodecError):
            codec.decode(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])


def forged(codec, chunks, **fields):
    header = {
        "codec_id": 2,
        "coder_id": 0,
        "weights_hash": bytes.fromhex(codec.path.stem[-8:]),
        "width": 24,
        "height": 16,
        "channels": 3,
        "bit_depth": 8,
        "quality": len(chunks),
    }
    return pack(Header(**{**header, **fields}), chunks)


@pytest.mark.parametrize(
    ("chunks", "fields", "error", "said"),
    [
        # 6 patches of 8x8: 3 bytes a stage; 2 bytes of counts before the first where there are some.
        ([bytes(2)], {}, CorruptFile, "first stage of 6 patches"),
        ([bytes(3), bytes(4)], {}, CorruptFile, "not a stage of 6"),
        ([bytes(3)], {"width": 1 << 13, "height": 1 << 13}, CorruptFile, "first stage of 1048576"),
        ([bytes(3)] * 5, {}, CorruptFile, "5 stages, the network 4"),
        ([bytes(3)] * 2, {"quality": 3}, CorruptFile, "2 chunks for 3 iterations"),
        ([bytes(5), bytes(3)], {}, CorruptFile, "not a stage of 0"),  # all counts are 1
        ([b"\0\x01" + bytes(3)], {}, CorruptFile, "bits follow the last"),
        ([bytes(3)], {"coder_id": 1}, UnknownCodec, "coder number 1"),
        ([bytes(3)], {"codec_id": 3}, BadOption, "written by balle2017"),
        ([bytes(3)], {"weights_hash": b"none"}, WrongWeights, "6e6f6e65"),
    ],
)
def test_a_wrong_field_under_right_checksums_is_an_error(codecs, chunks, fields, error, said):
    with pytest.raises(error, match=said):
        codecs["lstm"].decode(forged(codecs["lstm"], chunks, **fields))


def test_the_same_bytes_are_right_with_right_fields(codecs):
    codec = codecs["lstm"]
    assert codec.decode(forged(codec, [bytes(3)] * 4)).shape == (16, 24, 3)
    assert set(codec.stage_counts(forged(codec, [b"\x55\x50" + bytes(3), bytes(3)])).flat) == {2}


def test_calls_that_make_no_sense_are_refused(codecs, image, rng):
    codec = codecs["lstm"]
    data = codec.encode(image)
    for call, error in (
        (lambda: codec.encode(image, quality=5), BadOption),
        (lambda: codec.encode(image, options="fast"), BadOption),
        (lambda: TodericiOptions(target_psnr=-1.0), BadOption),
        (lambda: codec.encode(image[..., 0].astype(float)), BadImage),
        (lambda: codec.encode_thumbnails(image[None]), BadImage),
        (lambda: codec.encode_thumbnails(np.empty((0, 32, 32, 3), np.uint8)), BadImage),
        (lambda: codec.decode_thumbnails(data), BadOption),
        (lambda: codec.decode_progressive(data, iterations=3), BadOption),
        (lambda: codec.encode(image, options=TodericiOptions(limits=Limits(max_pixels=100))), TooLarge),
    ):
        with pytest.raises(error):
            call()
    small = ThumbnailCodec(codec.path, options=TodericiOptions(limits=Limits(max_pixels=100)))
    with pytest.raises(TooLarge):
        small.decode(data)


def test_weights_that_do_not_fit_are_refused(codecs, tmp_path):
    config = CONFIGS["lstm"]
    for wrong in (
        ThumbnailConfig.of("lstm", width=13, stages=4),
        ThumbnailConfig.of("fc", width=12, stages=4),
    ):
        path = export(tmp_path, config=wrong, params=some_params(config))
        with pytest.raises(WrongWeights, match="not those of its configuration"):
            assert load_toderici2016(path).qualities
    with pytest.raises(BadOption, match="one weight file, not 2"):
        load_toderici2016([codec.path for codec in codecs.values()][:2])
    with pytest.raises(WrongWeights, match="missing"):
        load_toderici2016(tmp_path / "missing.safetensors")


def test_any_size_of_picture_runs_what_is_compiled_already(codecs, rng):
    from jaxcodec.codecs.toderici2016 import codec as module

    codec = codecs["lstm"]
    for side in (5, 40, 100, 320):  # 1, 25, 169 and 1,600 patches: all three sizes of batch
        codec.decode(codec.encode(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), quality=1))
    before = module._encode._cache_size(), module._decode._cache_size()
    for side, quality in ((17, 3), (64, 2), (90, 4), (257, 1)):
        codec.decode(codec.encode(rng.integers(0, 256, (side, side + 9, 3), dtype=np.uint8), quality=quality))
    assert (module._encode._cache_size(), module._decode._cache_size()) == before


def test_all_families_of_the_paper_are_tested():
    assert {config.family for config in CONFIGS.values()} == set(FAMILIES)
