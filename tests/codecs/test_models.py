import shutil

import numpy as np
import pytest

from jaxcodec.codecs.models import Models, describing
from jaxcodec.errors import WrongWeights
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import load_weights, save_weights


@pytest.fixture
def files(tmp_path):
    def save(value):
        params = {"kernel": np.full((2, 3), value, np.float32)}
        return save_weights(tmp_path, codec="some", quality=1, config={"a": 1}, params=params, tables={})

    return [save(1.0), save(2.0)]


def test_a_file_is_read_when_first_needed_and_once(files):
    built = []

    def build(weights):
        built.append(weights.path)
        return weights.hash

    models = Models(files, build)
    assert not built
    assert models.first == models.of_path(files[0]) == load_weights(files[0]).hash
    assert built == files[:1]


def test_the_hash_in_a_file_finds_its_weights(files, tmp_path):
    models = Models(files, lambda weights: weights.path)
    for path in files:
        assert models.of_hash(load_weights(path).hash) == path
    renamed = tmp_path / "mine.safetensors"
    shutil.copy(files[1], renamed)
    assert Models([renamed], lambda weights: weights.path).of_hash(load_weights(renamed).hash) == renamed


def test_the_hash_finds_installed_weights_too(files):
    (entry,) = manifest.current("toderici2016")
    assert Models(files, lambda weights: weights.path).of_hash(bytes.fromhex(entry.hash)) == entry.file


def test_ones_own_file_comes_before_an_installed_one(files, tmp_path):
    (entry,) = manifest.current("toderici2016")
    copy = tmp_path / entry.file.name
    shutil.copy(entry.file, copy)
    assert Models([files[0], copy], lambda weights: weights.path).of_hash(bytes.fromhex(entry.hash)) == copy


def test_weights_that_are_not_there_are_named(files):
    with pytest.raises(WrongWeights, match="weights deadbeef, which are not installed"):
        Models(files, lambda weights: weights).of_hash(bytes.fromhex("deadbeef"))


def test_a_file_whose_content_is_not_what_its_name_says_is_damaged(files):
    wanted = load_weights(files[0]).hash
    shutil.copy(files[1], files[0])
    with pytest.raises(WrongWeights, match=f"{files[0].name} is damaged"):
        Models(files, lambda weights: weights).of_hash(wanted)


def test_weights_of_another_codec_or_another_network_are_refused(files):
    weights = load_weights(files[0])
    with describing(weights, "some"):
        pass
    with (
        pytest.raises(WrongWeights, match="holds weights of some, not of other"),
        describing(weights, "other"),
    ):
        pass
    for error in (TypeError, ValueError, KeyError):
        with pytest.raises(WrongWeights, match=r"of this version: '?why"), describing(weights, "some"):
            raise error("why")
