"""The command that packs pictures into records, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("array_record", reason="records need jaxcodec[train]")

from jaxcodec.data.records import RecordSource, cut_tiles

ROOT = Path(__file__).parents[2]
FLAGS = ("--shards=3", "--tile_size=16")


def prepare(place, output, *arguments):
    command = [sys.executable, str(ROOT / "scripts/prepare_dataset.py")]
    command += [f"--input={place}", f"--output={output}", *FLAGS, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    sizes = [(40, 25), (16, 16), (33, 50), (20, 90), (17, 17), (64, 64), (30, 30)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    """Seven pictures, a small one and two that cannot be read, in two folders."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep").mkdir()
    for k, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / ("deep" if k % 2 else ".") / f"{k}.png")
    Image.fromarray(pictures[0][:9, :12]).save(folder / "small.png")
    (folder / "text.png").write_text("text")
    (folder / "deep" / "cut.png").write_bytes((folder / "deep" / "5.png").read_bytes()[:500])
    return folder


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    """The finished folder and the process that made it, with two workers."""
    output = tmp_path_factory.mktemp("records") / "new"
    done = prepare(f"{photos}/**/*.png", output, "--min_size=16", "--workers=2")
    assert done.returncode == 0, done.stderr
    return output, done


def test_every_tile_of_every_picture_is_in_the_records(prepared, pictures):
    source = RecordSource(prepared[0])
    expected = sorted(t.tobytes() for pixels in pictures for t in cut_tiles(pixels, 16))
    assert sorted(source[k].tobytes() for k in range(len(source))) == expected
    index = source.index
    assert (index.pictures, index.records, index.smallest_side, index.tile_size) == (7, len(expected), 16, 16)
    assert index.pixels == 256 * len(expected)


def test_pictures_left_out_are_reported_with_the_reason(prepared):
    output, done = prepared
    assert "unreadable: text.png: is not a picture" in done.stderr
    assert "unreadable: deep/cut.png: is damaged or cut" in done.stderr
    assert "too small: small.png: 12x9" in done.stderr
    assert "left out 2 unreadable and 1 small" in done.stderr
    assert "Traceback" not in done.stderr
    assert "%|" not in done.stderr, "the progress bar is for terminals"
    index = json.loads((output / "index.json").read_text())
    assert [name for name, _ in index["unreadable"]] == ["deep/cut.png", "text.png"]
    assert index["too_small"] == [["small.png", "12x9"]]


def test_one_worker_writes_the_same_bytes_as_two(prepared, photos, tmp_path):
    done = prepare(f"{photos}/**/*.png", tmp_path, "--min_size=16", "--workers=1")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(prepared[0])


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(prepared, photos, tmp_path):
    for name, data in contents(prepared[0]).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    kept, lost, cut = sorted(tmp_path.glob("*.array_record"))
    (tmp_path / "index.json").unlink()
    lost.unlink()
    lost.with_suffix(".tmp").write_bytes(b"as a process leaves it that is killed")
    cut.write_bytes(cut.read_bytes()[:1000])
    before = kept.stat()
    done = prepare(f"{photos}/**/*.png", tmp_path, "--min_size=16", "--workers=1")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(prepared[0])
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert "unreadable: text.png" in done.stderr


def test_other_settings_are_refused_until_forced(photos, tmp_path):
    assert prepare(photos, tmp_path, "--workers=1", "--encoding=webp").returncode == 0
    first = contents(tmp_path)
    refused = prepare(photos, tmp_path, "--workers=1", "--encoding=raw", "--min_size=16")
    assert refused.returncode == 1
    assert "other --encoding and --min_size" in refused.stderr
    assert "--force" in refused.stderr
    assert contents(tmp_path) == first
    other = prepare(f"{photos}/deep", tmp_path, "--workers=1", "--encoding=webp")
    assert other.returncode == 1
    assert "other pictures in --input" in other.stderr
    forced = prepare(photos, tmp_path, "--workers=1", "--encoding=raw", "--shards=2", "--force")
    assert forced.returncode == 0, forced.stderr
    assert RecordSource(tmp_path).index.encoding == "raw"
    assert len(list(tmp_path.glob("shard-*"))) == 2


def test_a_folder_without_a_readable_picture_ends_with_an_error(tmp_path):
    (tmp_path / "text.png").write_text("text")
    done = prepare(tmp_path, tmp_path / "records", "--workers=1")
    assert done.returncode == 1
    assert "unreadable: text.png" in done.stderr
    assert "none of the 1 pictures can be used" in done.stderr
    assert not (tmp_path / "records" / "index.json").exists()
    empty = prepare(tmp_path / "nowhere", tmp_path / "records")
    assert empty.returncode == 1
    assert "no pictures here" in empty.stderr
    assert "Traceback" not in done.stderr + empty.stderr
