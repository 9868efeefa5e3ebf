import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.codecs.balle2017 import load_balle2017, load_bmshj2018
from jaxcodec.codecs.balle2017.export import coding_tables, export
from jaxcodec.codecs.balle2017.model import TransformCoder, TransformConfig
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import BadOption, WrongWeights
from jaxcodec.zoo.weights import round_params
from tests.codecs.golden_codecs import (
    NETWORKS,
    fixture_codec,
    fixture_weights,
    levels_apart,
    photo,
    weights_path,
)

# What all transform coders have in common is in test_transform_codecs.py.
BALLE = tuple(network for network in NETWORKS if network != "theis2017")


def test_files_of_several_qualities_decode_in_one_batch():
    codec = load_balle2017([weights_path("bls2017"), weights_path("paper")])
    assert codec.qualities == (1, 2)
    image = photo(40, 50)
    files = [codec.encode(image, quality=q) for q in (2, 1, 2)]
    pictures = codec.decode_batch(files)
    assert levels_apart(pictures[0], fixture_codec("paper").decode(files[0])) == 0
    assert levels_apart(pictures[1], fixture_codec("bls2017").decode(files[1])) == 0
    assert levels_apart(pictures[2], pictures[0]) == 0


@pytest.mark.parametrize("network", BALLE)
def test_a_file_is_as_large_as_the_models_own_estimate(network):
    weights = fixture_weights(network)
    config = TransformConfig(**weights.config)
    codec = fixture_codec(network)
    image = photo(512, 768, name="kodim08.png")
    data = codec.encode(image)
    coder = TransformCoder(config)
    likelihoods = coder.apply(
        {"params": weights.params},
        jnp.asarray(codec.decode_latents(data)[None], jnp.float32),
        method=lambda module, y: module.prior(y),
    )
    estimate = float(-jnp.log2(likelihoods).sum()) / 8
    assert estimate > 3000
    assert abs(len(data) - estimate) <= 0.01 * estimate + 24


def test_loading_checks_the_weights_given(tmp_path):
    with pytest.raises(WrongWeights, match="weights of bmshj2018"):
        load_balle2017(weights_path("bmshj2018"))
    with pytest.raises(WrongWeights, match="weights of balle2017"):
        load_bmshj2018([weights_path("bls2017")])
    with pytest.raises(BadOption, match="empty"):
        load_balle2017([])
    with pytest.raises(BadOption, match="quality 1"):
        load_balle2017([weights_path("bls2017"), weights_path("bls2017")])
    with pytest.raises(WrongWeights, match="missing"):
        load_balle2017(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("network", BALLE)
def test_exporting_the_weights_of_a_file_gives_the_file_again(tmp_path, network):
    weights = fixture_weights(network)
    config = TransformConfig(**weights.config)
    path = export(
        tmp_path, codec=weights.codec, quality=weights.quality, config=config, params=weights.params
    )
    assert path.name == weights_path(network).name
    assert path.read_bytes() == weights_path(network).read_bytes()


def test_tables_are_made_from_the_rounded_parameters():
    weights = fixture_weights("bls2017")
    config = TransformConfig(**weights.config)
    params = jax.tree.map(lambda x: x + 1e-5 * np.abs(x), weights.params)
    tables = coding_tables(round_params(params), config)
    stored = CodingTables.from_arrays(weights.tables)
    # 1e-5 is less than float16 resolves.
    np.testing.assert_array_equal(tables.offsets, stored.offsets)
    for a, b in zip(tables.counts, stored.counts, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # By hand, layer by layer: kernel area * inputs * outputs / pixels per output, then GDN's C^2 at that
        # resolution.
        (
            TransformConfig("bls2017", 192, 192),
            81 * 3 * 192 / 16 + 192 * 192 / 16 + 25 * 192 * 192 / 64 + 192 * 192 / 64 + 25 * 192 * 192 / 256,
        ),
        (TransformConfig("paper", 192, 192), 2916 + 2304 + 14400 + 576 + 3600 + 144),
        (TransformConfig("paper", 128, 128), 1944 + 1024 + 6400 + 256 + 1600 + 64),
        (TransformConfig("bmshj2018", 128, 192), 2400 + 4096 + 25600 + 1024 + 6400 + 256 + 2400),
        (TransformConfig("bls2017", 8, 4, image_channels=1), 40.5 + 4 + 25 + 1 + 3.125),
    ],
)
def test_macs_per_pixel_are_those_counted_by_hand(config, expected):
    assert config.macs_per_pixel() == pytest.approx((expected, expected))


def test_halos_cover_what_a_latent_reaches():
    # Reach in pixels: 4 + 2*4 + 2*8 = 28 for 9x9/4, 5x5/2, 5x5/2; 2 + 2*2 + 2*4 + 2*8 = 30 for four 5x5/2.
    for transform in ("paper", "bls2017", "bmshj2018"):
        assert TransformConfig(transform, 8, 8).halo == 32
    config = dataclasses.replace(TransformConfig(), channels=4)
    assert config.to_dict() == {**TransformConfig().to_dict(), "channels": 4}


def test_the_golden_index_names_all_three_transforms():
    configs = [json.loads(json.dumps(fixture_weights(network).config)) for network in BALLE]
    assert {config["transform"] for config in configs} == {"bls2017", "paper", "bmshj2018"}
    assert {config["prior"] for config in configs} == {"deep_factorized", "piecewise_linear"}
