"""Files written by earlier versions decode for ever: only add some (scripts/make_golden_files.py)."""

import hashlib

import numpy as np
import pytest
from PIL import Image

import jaxcodec
from jaxcodec.coding.container import read_header
from tests.codecs.golden_codecs import (
    GOLDEN,
    INDEX,
    NETWORKS,
    fixture_codec,
    fixture_rung,
    fixture_weights,
    golden_file,
    levels_apart,
    photo,
    weights_path,
)

FILES = INDEX["files"]
WITHOUT_WEIGHTS = INDEX["without_weights"]


def network_of(name):
    return next(network for network in NETWORKS if INDEX["weights"][network] == FILES[name]["weights"])


def sha256_of_symbols(symbols):
    return hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_decodes_to_the_symbols_it_was_written_from(name):
    row, data = FILES[name], golden_file(name)
    assert hashlib.sha256(data).hexdigest() == row["sha256"], "the golden file itself was changed"
    symbols = fixture_codec(network_of(name)).decode_latents(data)
    assert symbols.dtype == np.int32
    assert list(symbols.shape) == row["symbols_shape"]
    assert sha256_of_symbols(symbols) == row["symbols_sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_decodes_to_its_picture(name):
    row = FILES[name]
    decoded = fixture_codec(network_of(name)).decode(golden_file(name))
    assert decoded.shape[:2] == (row["height"], row["width"])
    assert decoded.ndim == (3 if row["channels"] == 3 else 2)
    if row["picture"] is not None:
        with Image.open(GOLDEN / "files" / row["picture"]) as picture:
            assert levels_apart(decoded, np.asarray(picture)) <= 1


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_golden_file_of_a_codec_without_weights_decodes_to_its_picture(name):
    row, data = WITHOUT_WEIGHTS[name], golden_file(name)
    assert hashlib.sha256(data).hexdigest() == row["sha256"], "the golden file itself was changed"
    with Image.open(GOLDEN / "files" / row["picture"]) as picture:
        # CocoNet evaluates a network in float32; the others decode to the very picture.
        most = 1 if row["codec"] == "coconet" else 0
        assert levels_apart(jaxcodec.decode(data), np.asarray(picture)) <= most


def test_the_golden_files_cover_what_can_go_wrong():
    sizes = {(row["height"], row["width"]) for row in FILES.values()}
    assert (1, 1) in sizes
    assert any(max(size) > 256 for size in sizes)
    assert any(row["channels"] == 1 for row in FILES.values())
    assert {row["codec"] for row in FILES.values()} == {"balle2017", "bmshj2018", "theis2017"}
    escaped = {}
    for name in FILES:
        network = network_of(name)
        symbols = fixture_codec(network).decode_latents(golden_file(name))
        quality = read_header(golden_file(name)).quality / 100 if network == "theis2017" else None
        classes = fixture_rung(network, quality).tables.classes
        # Outside of the tables of every class: an escape, whichever class its block has.
        escaped[name] = min(len(tables.to_indices(symbols)[1]) for tables in classes)
        if symbols.size > 8:
            assert np.count_nonzero(symbols) > symbols.size / 4
    assert sum(count >= 16 for count in escaped.values()) >= 4
    assert sum(count == 0 for count in escaped.values()) >= 3


def test_the_fixture_weights_are_small_and_named_by_their_hash():
    paths = [weights_path(network) for network in NETWORKS]
    assert sum(path.stat().st_size for path in paths) <= 150_000
    for path, network in zip(paths, NETWORKS, strict=True):
        assert path.stem.endswith("-" + fixture_weights(network).hash.hex())
        assert path.stem.endswith("-" + hashlib.sha256(path.read_bytes()).hexdigest()[:8])


@pytest.mark.parametrize("name", [name for name, row in FILES.items() if row["picture"] is not None])
def test_the_header_says_what_the_index_does(name):
    row, header = FILES[name], read_header(golden_file(name))
    assert (header.width, header.height, header.channels) == (row["width"], row["height"], row["channels"])
    assert header.weights_hash == fixture_weights(network_of(name)).hash


@pytest.mark.parametrize("network", NETWORKS)
def test_files_of_a_batch_of_8_decode_the_same_one_by_one(network):
    images = [photo(h, w, top=50 * k) for k, (h, w) in enumerate(
        [(64, 48), (100, 30), (7, 5), (1, 1), (200, 256), (256, 256), (17, 90), (48, 270)]
    )]  # fmt: skip
    in_eights = fixture_codec(network, window_batch=8)
    in_ones = fixture_codec(network, window_batch=1)
    files = in_eights.encode_batch(images)
    written = in_eights.latents(images)
    together = in_eights.decode_batch(files)
    for image, data, symbols, picture in zip(images, files, written, together, strict=True):
        # The symbols are data: identical. Pixels come from float arithmetic, in which a batch may add up in
        # another order.
        np.testing.assert_array_equal(in_ones.decode_latents(data), symbols)
        np.testing.assert_array_equal(in_eights.decode_latents(data), symbols)
        assert picture.shape == image.shape
        assert levels_apart(in_ones.decode(data), picture) <= 1
        assert levels_apart(in_eights.decode(data), picture) <= 1
