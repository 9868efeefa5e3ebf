import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

from jaxcodec.errors import WrongWeights
from jaxcodec.zoo.weights import flatten, hash_of, load_weights, round_params, save_weights, unflatten

CONFIG = {"transform": "bls2017", "channels": 4}


def example(rng):
    params = {
        "analysis": {"convolution_0": {"kernel": rng.standard_normal((3, 3, 3, 4)), "bias": np.zeros(4)}},
        "prior": {"scale": rng.standard_normal(4).astype(np.float32)},
    }
    tables = {
        "counts": np.array([1, 65535], np.uint16),
        "lengths": np.array([2], np.uint16),
        "offsets": np.array([-3], np.int32),
    }
    return params, tables


def save(folder, rng, **changes):
    params, tables = example(rng)
    fields = {"codec": "balle2017", "quality": 3, "config": CONFIG, "params": params, "tables": tables}
    return save_weights(folder, **(fields | changes))


def test_what_is_saved_is_read_again(tmp_path, rng):
    params, tables = example(rng)
    path = save_weights(tmp_path, codec="balle2017", quality=3, config=CONFIG, params=params, tables=tables)
    read = load_weights(str(path))
    assert (read.codec, read.quality, read.config, read.path) == ("balle2017", 3, CONFIG, path)
    expected, actual = flatten(round_params(params)), flatten(read.params)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].dtype == np.float32
        np.testing.assert_array_equal(actual[name], value)
    assert read.tables.keys() == tables.keys()
    for name, value in tables.items():
        assert read.tables[name].dtype == value.dtype
        np.testing.assert_array_equal(read.tables[name], value)


def test_the_hash_is_that_of_the_content_and_stands_in_the_name(tmp_path, rng):
    path = save(tmp_path, rng)
    digest = hashlib.sha256(path.read_bytes()).digest()[:4]
    assert load_weights(path).hash == hash_of(path.read_bytes()) == digest
    assert path.name == f"balle2017-{digest.hex()}.safetensors"


def test_the_same_network_gives_the_same_file_and_any_other_another(tmp_path):
    def seeded():
        return np.random.default_rng(1)

    path = save(tmp_path, seeded())
    content = path.read_bytes()
    assert save(tmp_path, seeded(), config=dict(reversed(CONFIG.items()))) == path
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing half-written stays
    params, tables = example(seeded())
    params["prior"]["scale"] = params["prior"]["scale"] + np.float32(0.01)
    others = [
        save(tmp_path, seeded(), params=params),
        save(tmp_path, seeded(), quality=4),
        save(tmp_path, seeded(), config={**CONFIG, "channels": 5}),
        save(tmp_path, seeded(), tables={**tables, "offsets": np.array([-2], np.int32)}),
    ]
    assert len({path, *others}) == 5
    assert path.read_bytes() == content


def test_rounding_parameters_is_what_saving_does_and_nothing_more(rng):
    params, _ = example(rng)
    once = round_params(params)
    for name, value in flatten(once).items():
        np.testing.assert_array_equal(value, flatten(params)[name].astype(np.float16))
        np.testing.assert_array_equal(flatten(round_params(once))[name], value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 70000.0])
def test_a_parameter_that_float16_cannot_hold_is_refused(value):
    with np.errstate(over="ignore"), pytest.raises(WrongWeights, match="gdn_0/beta"):
        round_params({"gdn_0": {"beta": np.array([1.0, value], np.float32)}})


def test_flat_names_and_trees_are_inverse():
    tree = {"b": {"c": {"d": np.ones(2)}, "a": np.zeros(1)}, "a": np.ones(3)}
    flat = flatten(tree)
    assert list(flat) == ["a", "b/a", "b/c/d"]
    again = unflatten(flat)
    assert flatten(again).keys() == flat.keys()
    assert again["b"]["c"]["d"] is flat["b/c/d"]


def test_a_missing_file_raises_wrong_weights_with_its_name(tmp_path):
    with pytest.raises(WrongWeights, match=r"missing\.safetensors.*No such file"):
        load_weights(tmp_path / "missing.safetensors")
    with pytest.raises(WrongWeights, match="directory"):
        load_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_safetensors_raises_wrong_weights(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WrongWeights, match="not a jaxcodec weight file"):
        load_weights(path)


def test_a_cut_weight_file_raises_wrong_weights(tmp_path, rng):
    path = save(tmp_path, rng)
    content = path.read_bytes()
    for length in (4, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(WrongWeights):
            load_weights(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"other": "1"},
        {"jaxcodec": "not json"},
        {"jaxcodec": "[]"},
        {"jaxcodec": "{}"},
        {"jaxcodec": json.dumps({"format": "1", "codec": "balle2017", "quality": "x", "config": {}})},
        {"jaxcodec": json.dumps({"format": "1", "codec": "balle2017", "quality": 1, "config": 3})},
    ],
)
def test_safetensors_of_another_program_raise_wrong_weights(tmp_path, metadata):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": np.ones(3, np.float32)}, metadata))
    with pytest.raises(WrongWeights, match="not a jaxcodec weight file"):
        load_weights(path)


def test_a_later_weight_format_raises_wrong_weights(tmp_path):
    header = {"format": "2", "codec": "balle2017", "quality": 1, "config": {}}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": np.ones(3, np.float32)}, {"jaxcodec": json.dumps(header)}))
    with pytest.raises(WrongWeights, match="weight format 2"):
        load_weights(path)


def test_names_that_make_no_tree_raise_wrong_weights(tmp_path):
    header = {"format": "1", "codec": "balle2017", "quality": 1, "config": {}}
    arrays = {"params/a": np.ones(3, np.float16), "params/a/b": np.ones(3, np.float16)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save(arrays, {"jaxcodec": json.dumps(header)}))
    with pytest.raises(WrongWeights, match="not a jaxcodec weight file"):
        load_weights(path)
