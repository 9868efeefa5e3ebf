import hashlib
import json

import pytest

import jaxcodec
from jaxcodec.zoo import manifest
from jaxcodec.zoo.weights import load_weights

REAL = manifest.ZOO / "manifest.json"
MEGABYTE = 10**6


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """An empty zoo, into which a test writes rows."""

    def write(*rows):
        (tmp_path / "manifest.json").write_text(json.dumps({"weights": rows}), encoding="utf-8")
        manifest.entries.cache_clear()

    monkeypatch.setattr(manifest, "ZOO", tmp_path)
    manifest.entries.cache_clear()
    yield write
    manifest.entries.cache_clear()


def row(codec, quality, digits, *, current=True, **details):
    file = f"{codec}-{digits}.safetensors"
    return {"codec": codec, "quality": quality, "file": file, "current": current, **details}


def test_without_a_manifest_nothing_is_installed(zoo):
    assert manifest.entries() == ()
    assert manifest.qualities("balle2017") == ()
    assert manifest.find(bytes(4)) is None


def test_qualities_are_those_of_the_current_rows_ascending(zoo):
    zoo(
        row("balle2017", 3, "00000003"),
        row("balle2017", 1, "00000001", data="photos", seconds=600),
        row("balle2017", 2, "00000002", current=False),
        row("bmshj2018", 5, "00000005"),
    )
    assert manifest.qualities("balle2017") == (1, 3)
    assert [entry.hash for entry in manifest.current("balle2017")] == ["00000001", "00000003"]
    assert manifest.current("balle2017")[0].details == {"data": "photos", "seconds": 600}
    assert manifest.qualities("toderici2016") == ()


def test_a_superseded_file_is_still_found_by_its_hash(zoo, tmp_path):
    zoo(row("balle2017", 2, "0000abcd", current=False), row("balle2017", 2, "12345678"))
    found = manifest.find(bytes.fromhex("0000abcd"))
    assert found == tmp_path / "weights" / "balle2017-0000abcd.safetensors"
    assert manifest.find(bytes.fromhex("deadbeef")) is None


@pytest.mark.skipif(not REAL.exists(), reason="no weights are shipped yet")
class TestShippedWeights:
    def test_every_row_is_the_file_that_it_names(self):
        for entry in manifest.entries():
            content = entry.file.read_bytes()
            assert hashlib.sha256(content).hexdigest()[:8] == entry.hash, entry.file.name
            weights = load_weights(entry.file)
            assert entry.file.stem == f"{weights.codec}-{entry.hash}"
            # A variant's files are those of the codec whose networks they hold.
            assert entry.codec in (weights.codec, f"{weights.codec}-pq")
            assert weights.quality == entry.quality

    def test_every_file_has_a_row(self):
        rows = [entry.file.name for entry in manifest.entries()]
        assert sorted(rows) == sorted(path.name for path in (manifest.ZOO / "weights").iterdir())
        assert len(set(rows)) == len(rows)

    def test_a_codec_has_one_current_file_per_quality(self):
        for codec in {entry.codec for entry in manifest.entries()}:
            qualities = manifest.qualities(codec)
            assert len(set(qualities)) == len(qualities)

    def test_no_file_is_over_20_mb_and_all_are_within_95(self):
        sizes = [entry.file.stat().st_size for entry in manifest.entries()]
        assert max(sizes) <= 20 * MEGABYTE
        assert sum(sizes) <= 95 * MEGABYTE

    def test_every_row_says_where_its_weights_come_from(self):
        # DESIGN 9: training command, data and its licence, device time, measured curve.
        for entry in manifest.entries():
            assert entry.details, entry.file.name

    def test_the_codecs_offer_the_qualities_of_the_manifest(self):
        offered = {info.name: info.qualities for info in jaxcodec.available()}
        restorers = {"reccnn"}  # for files that exist: no codec
        for codec in {entry.codec for entry in manifest.entries()} - restorers:
            assert offered[codec] == manifest.qualities(codec)
