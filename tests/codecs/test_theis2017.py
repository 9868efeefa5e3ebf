"""What is particular to the codec of the compressive autoencoder: scales, ladder, ensemble.

The network is tested in test_theis2017_model.py, what all transform coders have in common in
test_transform_codecs.py.
"""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcodec.codecs.ladders import LadderConfig
from jaxcodec.codecs.registry import decode, load
from jaxcodec.codecs.theis2017 import AutoencoderCodec
from jaxcodec.codecs.theis2017.export import export, interpolated_steps
from jaxcodec.codecs.theis2017.initialise import from_principal_components
from jaxcodec.codecs.theis2017.model import AutoencoderConfig
from jaxcodec.codecs.transform_network import TransformOptions
from jaxcodec.coding.container import read_header
from jaxcodec.errors import BadOption, CorruptFile, WrongWeights
from jaxcodec.zoo.weights import Weights, load_weights, save_weights
from tests.codecs.autoencoders import kodak_crops, random_params
from tests.codecs.golden_codecs import fixture_codec, fixture_weights, levels_apart, photo, weights_path


def test_steps_between_two_rates_have_scales_in_between():
    log_scales = np.log([[1.0, 2.0], [4.0, 2.0], [4.0, 32.0]])
    for rate in range(3):
        np.testing.assert_allclose(interpolated_steps(log_scales, rate), np.exp(-log_scales[rate]))
    np.testing.assert_allclose(interpolated_steps(log_scales, 0.5), [1 / 2, 1 / 2])
    np.testing.assert_allclose(interpolated_steps(log_scales, 1.25), [1 / 4, 1 / 4])
    np.testing.assert_allclose(interpolated_steps(log_scales[:1], 0.0), [1, 1 / 2])


@pytest.fixture(scope="module")
def coder():
    return fixture_codec("theis2017")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """A network that is about as good as the fixture, with rungs twice as far apart: path and qualities."""
    weights, rng = fixture_weights("theis2017"), np.random.default_rng(5)
    config, crops = AutoencoderConfig(**weights.config), kodak_crops(128)
    params = jax.tree.map(lambda p: p * rng.normal(1.0, 0.003, p.shape).astype(np.float32), weights.params)
    return export(
        tmp_path_factory.mktemp("second"),
        config=config,
        params=params,
        crops=list(crops),
        ladder=LadderConfig(classes=2, block=2, spacing=20),
    )


def test_qualities_are_spaced_as_asked_for_and_mean_powers_of_two_of_the_rate(second):
    path, qualities = second
    codec = load("theis2017", weights=path)
    assert codec.qualities == tuple(qualities)
    assert len(qualities) >= 5
    hundredths = np.round(100 * np.array(qualities)).astype(int)
    assert (np.diff(hundredths) <= 20).all()
    assert ((hundredths % 20 == 0) | (hundredths % 50 == 0)).all()
    for quality in qualities:
        assert codec.expected_bpp(quality) == pytest.approx(2 ** (quality - 4), rel=0.1)


def test_a_quality_between_two_rungs_takes_the_upper_one_and_gives_up_more_latents(coder):
    image = photo(96, 128, name="kodim23.png", top=100, left=200)
    low, high = coder.qualities[1:3]
    between = coder.encode(image, quality=0.5 * (low + high))
    assert read_header(between).quality == round(100 * high)
    upper = coder.encode(image, quality=high)
    assert len(between) < len(upper)
    assert np.abs(coder.decode_latents(between)).sum() < np.abs(coder.decode_latents(upper)).sum()
    assert coder.encode(image) == coder.encode(image, quality=coder.default_quality)


def test_the_rate_rises_with_the_quality_and_the_error_falls(coder):
    image = photo(128, 160, name="kodim23.png", top=100, left=200)
    prepared = coder.prepare(image)
    files = [prepared(quality) for quality in coder.qualities]
    # Neighbours are 7 % apart in rate; every third 23 %.
    assert all(len(after) > len(before) for before, after in itertools.pairwise(files[::3]))
    assert len(files[-1]) > 2 * len(files[0])
    errors = [np.square(coder.decode(data).astype(float) - image).mean() for data in (files[0], files[-1])]
    assert errors[1] < errors[0]


def test_an_ensemble_takes_the_network_with_the_least_distortion(coder, second):
    path, _ = second
    alone = [coder, load("theis2017", weights=path)]
    ensemble = load("theis2017", weights=[weights_path("theis2017"), path])
    assert set(ensemble.qualities) == set(alone[0].qualities) | set(alone[1].qualities)
    shared = sorted(set(alone[0].qualities) & set(alone[1].qualities))
    assert len(shared) >= 3
    colourful = photo(64, 96, name="kodim23.png", top=150, left=250)
    grey = photo(64, 96, name="kodim20.png", top=150, left=100)[..., 1]
    images = [colourful, grey, np.full((20, 20, 3), (200, 30, 40), np.uint8)]
    images += [photo(64, 64, name=f"kodim{number}.png", top=120, left=200) for number in (13, 15, 19)]
    taken = set()
    for quality in shared[:: max(1, len(shared) // 6)]:
        files = ensemble.encode_batch(images, quality=quality)
        assert files == [ensemble.encode(image, quality=quality) for image in images]
        for image, data in zip(images, files, strict=True):
            candidates = [codec.encode(image, quality=quality) for codec in alone]
            colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
            whole = [codec.encode(colour, quality=quality) for codec in alone]
            errors = [
                np.square(codec.decode(file).astype(float) - colour).mean()
                for codec, file in zip(alone, whole, strict=True)
            ]
            best = int(np.argmin(errors))
            taken.add(best)
            assert data == candidates[best]
            # The hash in the header tells which network it was.
            assert (
                read_header(data).weights_hash == load_weights([weights_path("theis2017"), path][best]).hash
            )
            assert levels_apart(ensemble.decode(data), alone[best].decode(data)) == 0
            assert (
                levels_apart(decode(data, weights=[path, weights_path("theis2017")]), ensemble.decode(data))
                == 0
            )
            with pytest.raises(WrongWeights, match="not installed"):
                alone[1 - best].decode(data)
    assert taken == {0, 1}  # or nothing was chosen between


def test_an_ensemble_codes_with_the_only_network_of_a_quality(coder, second):
    path, qualities = second
    ensemble = load("theis2017", weights=[path, weights_path("theis2017")])
    only = next(quality for quality in coder.qualities if quality not in qualities)
    image = photo(30, 30)
    assert ensemble.encode(image, quality=only) == coder.encode(image, quality=only)


def test_one_rate_makes_a_ladder_of_one_quality(tmp_path, key):
    config = AutoencoderConfig(8, 6, 1, 3, (0.01,))
    crops = kodak_crops(64)
    params = from_principal_components(random_params(config, bias=0.0), crops, config)
    ladder = LadderConfig(classes=1, block=2, spacing=7)
    path, qualities = export(tmp_path, config=config, params=params, crops=list(crops), ladder=ladder)
    codec = load("theis2017", weights=path)
    assert codec.qualities == codec.ladder == tuple(qualities)
    assert len(qualities) == 1
    assert codec.expected_bpp(qualities[0]) == pytest.approx(2 ** (qualities[0] - 4), rel=0.005)
    assert codec.decode(codec.encode(crops[0])).shape == (64, 64, 3)
    # What further training begins with is in the file, too.
    kept = load_weights(path).params
    assert jax.tree.map(np.shape, kept) == jax.tree.map(np.shape, params)
    np.testing.assert_allclose(kept["log_scales"], params["log_scales"], rtol=1e-3, atol=1e-3)


def test_channels_that_training_did_not_reach_are_coded_as_zeros(tmp_path, key):
    config = AutoencoderConfig(8, 6, 1, 3, (0.01,))
    crops = kodak_crops(64)
    params = from_principal_components(random_params(config, bias=0.0), crops, config)
    ladder = LadderConfig(classes=1, block=2, spacing=7)
    path, _ = export(
        tmp_path,
        config=config,
        params={**params, "enabled": np.float32(4)},
        crops=list(crops),
        ladder=ladder,
    )
    codec = load("theis2017", weights=path)
    symbols = codec.decode_latents(codec.encode(crops[0]))
    assert (symbols[..., 4:] == 0).all()
    assert (np.abs(symbols[..., :4]).max(axis=(0, 1)) > 0).all()


def test_the_halo_covers_what_three_blocks_see(key):
    # Random weights see far: pixels at the edge of their reach count as much as near ones.
    config = AutoencoderConfig(channels=8, latent_channels=4, blocks=3)
    weights = random_params(config)
    network = AutoencoderCodec("theis2017", []).build(
        Weights("theis2017", 0, config.to_dict(), weights, {}, b"", Path())
    )
    image = photo(200, 168)
    latents, pictures = [], []
    for shape in ((96, 112), (208, 176)):
        codec = AutoencoderCodec("theis2017", [], options=TransformOptions(window_shapes=(shape,)))
        latents += codec.analyse(network, [image])
        pictures += codec.synthesise(network, latents[:1], [image.shape[:2]])
    assert network.halo == 40
    np.testing.assert_allclose(latents[0], latents[1], rtol=1e-3, atol=1e-4)
    assert np.ptp(pictures[0]) > 100
    assert levels_apart(*pictures) <= 1


def test_a_damaged_ladder_is_named_when_it_is_used(tmp_path):
    weights = fixture_weights("theis2017")
    image = photo(20, 20)

    def codec(**tables):
        changed = {name: array for name, array in (weights.tables | tables).items() if array is not None}
        fields = {"codec": "theis2017", "quality": 0, "config": weights.config, "params": weights.params}
        return load("theis2017", weights=save_weights(tmp_path, **fields, tables=changed))

    counts = weights.tables["ladder_counts"].copy()
    counts[0] += 1
    broken = codec(ladder_counts=counts)
    with pytest.raises(CorruptFile, match="rung 0"):
        broken.encode(image, quality=0.6)
    assert broken.decode(broken.encode(image, quality=0.7)).shape == image.shape
    with pytest.raises(CorruptFile, match="'ladder_weights' is missing"):
        codec(ladder_weights=None).encode(image)
    fewer = AutoencoderConfig(**{**weights.config, "latent_channels": 7})
    path = save_weights(
        tmp_path,
        codec="theis2017",
        quality=0,
        config=fewer.to_dict(),
        params=weights.params,
        tables=weights.tables,
    )
    with pytest.raises(WrongWeights, match="8 tables for 7 latent channels"):
        load("theis2017", weights=path).encode(image)


def test_files_that_belong_to_another_codec_are_refused(tmp_path):
    with pytest.raises(WrongWeights, match="weights of balle2017"):
        load("theis2017", weights=[weights_path("theis2017"), weights_path("bls2017")])
    with pytest.raises(BadOption, match="empty"):
        load("theis2017", weights=[])
    with pytest.raises(WrongWeights, match="missing"):
        load("theis2017", weights=tmp_path / "missing.safetensors")
