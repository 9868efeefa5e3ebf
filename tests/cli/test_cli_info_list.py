"""`info` and `list`: what they print, as text and as JSON."""

import json

import numpy as np
import pytest

from jaxcodec.cli.list_codecs import span
from jaxcodec.codecs.registry import available, load
from jaxcodec.coding.container import Header, pack


@pytest.fixture
def coded(weights):
    """A golden file: 64 x 48 in colour, written by the fixture network bls2017."""
    return weights("bls2017").parents[1] / "files" / "bls2017_photo.jxc"


def test_info_of_a_jxc_file_gives_its_header(coded, weights, jaxcodec):
    code, out, err = jaxcodec("info", coded, "--json")
    size = coded.stat().st_size
    assert (code, err) == (0, "")
    fields = json.loads(out)
    assert fields.pop("chunk_bytes")[0] < size
    assert fields == {
        "file": str(coded),
        "format": "jxc",
        "codec": "balle2017",
        "coder": "constriction",
        "quality": 1,
        "width": 64,
        "height": 48,
        "channels": 3,
        "bit_depth": 8,
        "weights": weights("bls2017").stem.rpartition("-")[2],
        "weights_installed": False,
        "bytes": size,
        "bpp": 8 * size / (64 * 48),
        "chunks": 1,
    }


def test_info_as_text_has_a_line_per_field(coded, jaxcodec):
    fields = json.loads(jaxcodec("info", coded, "--json")[1])
    code, out, _ = jaxcodec("info", coded)
    assert code == 0
    assert len(out.splitlines()) == len(fields)
    assert "weights installed  no\n" in out


def test_info_tells_how_far_a_file_is_from_a_rate(save, jaxcodec):
    picture = save("a.jpg")
    bpp = json.loads(jaxcodec("info", picture, "--json")[1])["bpp"]
    for target, gap in ((2 * bpp, "50.0 % below"), (bpp / 1.25, "25.0 % above")):
        fields = json.loads(jaxcodec("info", picture, "--json", "--bpp", target)[1])
        assert fields["gap"] == f"{gap} {target:g}"


def test_info_of_a_ladder_shows_the_quality_that_was_asked_for(tmp_path, jaxcodec):
    codec, picture = load("balle2017"), np.zeros((16, 16, 3), np.uint8)
    quality = next(quality for quality in codec.qualities if quality != int(quality))
    (tmp_path / "a.jxc").write_bytes(codec.encode(picture, quality=quality))
    assert json.loads(jaxcodec("info", tmp_path / "a.jxc", "--json")[1])["quality"] == quality


@pytest.mark.parametrize(
    ("name", "file_format", "codec"),
    [("a.jpg", "JPEG", "jpeg"), ("a.webp", "WebP", "webp"), ("a.jp2", "JPEG 2000", "jpeg2000")],
)
def test_info_of_other_formats_gives_format_and_size(name, file_format, codec, save, jaxcodec):
    picture = save(name)
    size = picture.stat().st_size
    code, out, _ = jaxcodec("info", picture, "--json")
    assert code == 0
    assert json.loads(out) == {
        "file": str(picture),
        "format": file_format,
        "codec": codec,
        "width": 56,
        "height": 40,
        "channels": 3,
        "bytes": size,
        "bpp": 8 * size / (40 * 56),
    }


def test_info_shows_the_header_of_a_file_whose_end_is_missing(jaxcodec, tmp_path):
    header = Header(
        codec_id=4,
        coder_id=77,
        weights_hash=b"\0\0\0\0",
        width=9,
        height=5,
        channels=1,
        bit_depth=8,
        quality=3,
    )
    path = tmp_path / "cut.jxc"
    path.write_bytes(pack(header, [b"first", b"second", b"third"])[:-8])
    code, out, err = jaxcodec("info", path, "--json")
    fields = json.loads(out)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"jaxcodec: {path}: the file ends")
    assert (fields["codec"], fields["coder"]) == ("toderici2017", "number 77, unknown to this version")
    assert (fields["width"], fields["weights"], fields["weights_installed"], fields["chunks"]) == (
        9,
        None,
        None,
        2,
    )
    assert (fields["chunk_bytes"], fields["cut"]) == ([5, 6], True)


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x8aJX\n"])
def test_info_of_a_bad_file_is_one_line(content, jaxcodec, tmp_path):
    path = tmp_path / "bad.jxc"
    if content is not None:
        path.write_bytes(content)
    code, out, err = jaxcodec("info", path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"jaxcodec: {path}: ")


def test_list_has_every_codec(jaxcodec):
    code, out, err = jaxcodec("list", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["codecs"]
    assert [row["name"] for row in rows] == [codec.name for codec in available()]
    by_name = {row["name"]: row for row in rows}
    assert by_name["jpeg"] == {
        "name": "jpeg",
        "kind": "classical",
        "qualities": list(range(1, 101)),
        "extension": ".jpg",
        "requires": None,
        "installed": True,
        "description": by_name["jpeg"]["description"],
    }
    assert by_name["jxl"]["requires"] == "jaxcodec[codecs]"
    assert all(row["installed"] for row in rows if row["kind"] == "classical" and not row["requires"])


def test_list_as_text_has_a_row_per_codec(jaxcodec):
    code, out, _ = jaxcodec("list")
    header, *rows = out.splitlines()
    assert code == 0
    assert header.split() == ["name", "kind", "qualities", "files", "installed", "description"]
    assert [row.split()[0] for row in rows] == [codec.name for codec in available()]
    assert "1..100" in rows[-1]


@pytest.mark.parametrize(
    ("qualities", "shown"),
    [((1.0, 2.0, 3.0), "1..3"), ((1, 2, 4), "1,2,4"), ((1.16, 2, 5.5), "1.16..5.5 (fractions)"), ((), "")],
)
def test_qualities_are_listed_in_short_whatever_type_of_number_they_have(qualities, shown):
    assert span(qualities) == shown
