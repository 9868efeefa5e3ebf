import json

import numpy as np
import pytest

import jaxcodec
from jaxcodec.codecs.balle2017 import load_balle2017_pq
from jaxcodec.coding.container import read_header
from jaxcodec.errors import WrongWeights
from jaxcodec.pq.artefact import Artefact, CodedKernel
from jaxcodec.pq.layouts import count_blocks
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import flatten, has_ladder, load_weights, read_ladder, save_quantised, save_weights
from tests.codecs.golden_codecs import fixture_weights, photo


def quantised(rng, *, quality=2, codec="balle2017"):
    """The small network of the golden files with made-up codes for two of its kernels."""
    weights = fixture_weights("bls2017")
    flat = {name: value for name, value in flatten(weights.params).items() if not name.startswith("prior/")}
    kernels = {}
    for name in ("analysis/convolution_1/kernel", "synthesis/convolution_1/kernel"):
        value = flat.pop(name)
        spread = float(value.std())
        indices = rng.integers(0, 16, count_blocks(value.shape, 5))
        kernels[name] = CodedKernel(value.shape, rng.normal(0, spread, (16, 5)).astype(np.float16), indices)
    others = {name: value.astype(np.float16) for name, value in flat.items()}
    return Artefact(codec, {"quality": quality, "network": weights.config}, kernels, others)


def with_tables(folder, artefact):
    """The artefact's file, and the file with tables that goes with it."""
    path = save_quantised(folder, artefact)
    weights = load_weights(path)
    tables = fixture_weights("bls2017").tables
    return path, save_weights(
        folder,
        codec=weights.codec,
        quality=weights.quality,
        config=weights.config,
        params=weights,
        tables=tables,
    )


def test_a_quantised_network_is_read_as_dense_parameters(tmp_path, rng):
    artefact = quantised(rng)
    path = save_quantised(tmp_path, artefact)
    weights = load_weights(path)
    assert (weights.codec, weights.quality, weights.tables) == ("balle2017", 2, {})
    assert path.name == f"balle2017-{weights.hash.hex()}.pq"
    expected = artefact.parameters()
    found = flatten(weights.params)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_files_carry_a_hash_that_depends_on_the_artefact(tmp_path, rng):
    first, with_first = with_tables(tmp_path, quantised(rng))
    second, with_second = with_tables(tmp_path, quantised(rng))
    assert first != second
    hashes = [load_weights(path).hash for path in (with_first, with_second)]
    assert hashes[0] != hashes[1]
    image = photo(40, 50)
    data = load_balle2017_pq(with_first).encode(image)
    assert read_header(data).weights_hash == hashes[0]
    decoded = jaxcodec.decode(data, weights=with_first)
    assert decoded.shape == image.shape
    with pytest.raises(WrongWeights, match=hashes[0].hex()):
        jaxcodec.decode(data, weights=with_second)


def test_a_variant_in_the_zoo_loads_by_name_and_its_files_decode_as_the_codecs(tmp_path, rng, monkeypatch):
    _, path = with_tables(tmp_path / "weights", quantised(rng))
    row = {"file": path.name, "codec": "balle2017-pq", "quality": 2, "current": True}
    (tmp_path / "manifest.json").write_text(json.dumps({"weights": [row]}))
    monkeypatch.setattr(manifest, "ZOO", tmp_path)
    manifest.entries.cache_clear()
    try:
        codec = jaxcodec.load("balle2017-pq")
        assert (codec.name, codec.qualities) == ("balle2017-pq", (2,))
        image = photo(33, 48)
        data = codec.encode(image)
        np.testing.assert_array_equal(jaxcodec.decode(data, weights=path), codec.decode(data))
    finally:
        manifest.entries.cache_clear()


def test_a_network_without_tables_or_with_a_damaged_owner_is_refused(tmp_path, rng):
    path, tables = with_tables(tmp_path, quantised(rng))
    assert not has_ladder(path)
    with pytest.raises(WrongWeights, match="no coding tables"):
        read_ladder(path)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(WrongWeights, match="damaged"):
        load_weights(tables)
    with pytest.raises(WrongWeights, match=r"bytes of \d+"):
        load_weights(path)
    path.unlink()
    with pytest.raises(WrongWeights, match="put that file beside it"):
        load_weights(tables)
    with pytest.raises(WrongWeights, match="No such file"):
        load_weights(path)
