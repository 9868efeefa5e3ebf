import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

from jaxcodec.errors import WrongWeights
from jaxcodec.zoo.weights import (
    flatten,
    has_ladder,
    hash_of,
    load_weights,
    read_ladder,
    round_params,
    save_weights,
    unflatten,
)

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


# Tables for the network of another file, and ladders


def save_tables(folder, owner, **changes):
    """A file with new tables for the network of `owner`."""
    weights = load_weights(owner)
    tables = {"counts": np.array([2, 65534], np.uint16)}
    return save(folder, np.random.default_rng(0), params=weights, tables=tables, **changes)


def test_a_file_with_tables_only_takes_the_parameters_of_its_neighbour(tmp_path, rng):
    owner = save(tmp_path, rng)
    path = save_tables(tmp_path, owner)
    assert not [name for name in safetensors.numpy.load_file(path) if name.startswith("params/")]
    read, whole = load_weights(path), load_weights(owner)
    assert read.hash == hash_of(path.read_bytes()) != whole.hash
    assert read.tables["counts"].tolist() == [2, 65534]
    expected, actual = flatten(whole.params), flatten(read.params)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value)


def test_a_file_with_tables_only_needs_the_file_beside_it_whatever_the_folder(tmp_path, rng):
    owner = save(tmp_path / "a", rng)
    path = save_tables(tmp_path / "a", owner)
    elsewhere = tmp_path / "b" / path.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(path.read_bytes())
    with pytest.raises(WrongWeights, match=f"{elsewhere.name}.*{owner.name}; put that file beside it"):
        load_weights(elsewhere)
    (elsewhere.parent / owner.name).write_bytes(owner.read_bytes())
    assert flatten(load_weights(elsewhere).params).keys() == flatten(load_weights(owner).params).keys()


def test_a_damaged_or_exchanged_neighbour_is_named(tmp_path, rng):
    owner = save(tmp_path, rng)
    path = save_tables(tmp_path, owner)
    content = owner.read_bytes()
    other = save(tmp_path, rng, quality=9).read_bytes()
    # Another network, a cut file, and the tables themselves, which name their neighbour again.
    for wrong in (other, content[:-10], content[:-1] + bytes([content[-1] ^ 1]), path.read_bytes(), b""):
        owner.write_bytes(wrong)
        with pytest.raises(WrongWeights, match=f"{owner.name} is damaged"):
            load_weights(path)
    owner.write_bytes(content)
    assert load_weights(path).params


def ladder_tables(qualities, bpp):
    return {"ladder_qualities": np.array(qualities, np.int32), "ladder_bpp": np.array(bpp, np.float32)}


def test_the_ladder_of_a_file_is_read_without_the_rest(tmp_path, rng):
    path = save(tmp_path, rng, tables=ladder_tables([120, 125, 1000], [0.25, 0.5, 2.0]))
    assert read_ladder(path) == [(120, 0.25), (125, 0.5), (1000, 2.0)]
    assert has_ladder(path)


@pytest.mark.parametrize(("quality", "hundredths"), [(3, 300), (0, 1)])
def test_a_file_without_a_ladder_serves_its_quality_at_an_unknown_rate(tmp_path, rng, quality, hundredths):
    path = save(tmp_path, rng, quality=quality)
    [(number, bpp)] = read_ladder(path)
    assert number == hundredths
    assert np.isnan(bpp)
    assert not has_ladder(path)


def test_the_ladder_of_no_weight_file_raises_wrong_weights(tmp_path, rng):
    with pytest.raises(WrongWeights, match=r"missing\.safetensors.*No such file"):
        read_ladder(tmp_path / "missing.safetensors")
    path = tmp_path / "x.safetensors"
    for content in (b"", b"\xff" * 100, safetensors.numpy.save({"w": np.ones(3, np.float32)}, None)):
        path.write_bytes(content)
        with pytest.raises(WrongWeights, match=r"x\.safetensors is not a jaxcodec weight file"):
            read_ladder(path)
    for tables in (
        {"ladder_qualities": np.array([1, 2], np.int32)},
        ladder_tables([1, 2], [0.5]),
        ladder_tables([[1, 2]], [0.5]),
    ):
        with pytest.raises(WrongWeights, match="not a jaxcodec weight file"):
            read_ladder(save(tmp_path, rng, tables=tables))
