"""Curves out of result files, the table of BD-rates, and the plot."""

import io
import json

import numpy as np
import pytest
from bjontegaard import bd_rate as reference_bd_rate
from PIL import Image

from jaxcodec.errors import BadOption
from jaxcodec.evaluation.comparison import (
    Curve,
    choose_anchor,
    compare,
    curve_of,
    format_table,
    read_curves,
    rising,
    with_distinct_names,
)
from jaxcodec.evaluation.plot import draw, plot_bytes

ANCHOR = Curve("jpeg", ((0.2, 27.0), (0.5, 31.0), (1.0, 34.0), (2.0, 38.0)), ((0.2, 9.0), (1.0, 15.0)))
TEST = Curve("ours", ((0.1, 27.5), (0.3, 31.5), (0.7, 35.0), (1.5, 39.0)), ((0.1, 9.0), (0.5, 15.0)))


def record(**results):
    return {"name": "x", "description": "", "results": results}


def test_a_curve_is_sorted_by_rate_with_ms_ssim_in_decibels():
    curve = curve_of(record(**{"bpp": [1.0, 0.5], "psnr-rgb": [34, 30], "ms-ssim-rgb": [0.99, 0.9]}))
    assert curve.psnr == ((0.5, 30.0), (1.0, 34.0))
    np.testing.assert_allclose(curve.ms_ssim, [(0.5, 10.0), (1.0, 20.0)])
    assert curve.measured


def test_missing_and_infinite_points_are_no_points():
    curve = curve_of(record(**{"bpp": [1.0, 2.0], "psnr-rgb": [34, None], "ms-ssim-rgb": [0.99, 1.0]}))
    assert (len(curve.psnr), len(curve.ms_ssim)) == (1, 1)
    assert curve_of(record(**{"bpp": [1.0], "psnr-rgb": [34]})).ms_ssim == ()


def test_files_of_ours_and_of_others_are_read(tmp_path):
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    one = record(**{"bpp": [1.0], "psnr-rgb": [34]})
    ours.write_text(json.dumps({"codecs": [one, {**one, "name": "y"}]}))
    theirs.write_text(json.dumps(one))
    assert [curve.name for curve in read_curves(ours)] == ["x", "y"]
    (curve,) = read_curves(theirs)
    assert (curve.name, curve.psnr, curve.measured) == ("x", ((1.0, 34.0),), False)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        '"text"',
        "{}",
        '{"codecs": []}',
        '{"codecs": 3}',
        '{"codecs": [3]}',
        '{"name": "x", "results": {}}',
        '{"name": "x", "results": {"bpp": [1], "psnr-rgb": [1, 2]}}',
        '{"name": "x", "results": {"bpp": ["a"]}}',
    ],
)
def test_another_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(BadOption, match=r"odd\.json"):
        read_curves(path)


def test_the_table_gives_bd_rates_with_their_overlap():
    (row,) = compare([ANCHOR, TEST], ANCHOR)
    expected = reference_bd_rate(
        *map(np.array, (*zip(*ANCHOR.psnr, strict=True), *zip(*TEST.psnr, strict=True))),
        method="pchip",
        min_overlap=0,
    )
    assert row.psnr.value == pytest.approx(expected, abs=1e-6)
    assert (row.psnr.low, row.psnr.high) == (27.5, 38.0)
    assert row.ms_ssim.value == pytest.approx(-50.0)
    lines = format_table([row], ANCHOR).splitlines()
    assert lines[0].startswith("BD-rate against jpeg")
    assert lines[2].split() == ["ours", f"{expected:+.2f}%", "27.50..38.00", "-50.00%", "9.00..15.00"]


def test_a_curve_that_cannot_be_compared_says_why():
    apart = Curve("apart", ((0.1, 50.0), (0.2, 60.0)), ())
    text = format_table(compare([ANCHOR, apart], ANCHOR), ANCHOR)
    assert "apart: no BD-rate in PSNR: the curves have no quality in common" in text
    assert "apart: no BD-rate in MS-SSIM: it has no such values" in text


def test_points_without_a_gain_are_left_out_and_told():
    assert rising(((1.0, 30.0), (0.5, 30.0), (0.5, 29.0), (2.0, 29.5), (3.0, 31.0))) == (
        (0.5, 30.0),
        (3.0, 31.0),
    )
    wavy = Curve("wavy", (*TEST.psnr, (0.8, 35.0)), TEST.ms_ssim)
    (row,) = compare([ANCHOR, wavy], ANCHOR)
    assert row.psnr == compare([ANCHOR, TEST], ANCHOR)[0].psnr
    assert "wavy: left out, as costing bits without a gain: 1 of its points" in format_table([row], ANCHOR)


def test_the_anchor_is_the_measured_jpeg_else_one_read_else_the_first():
    read = Curve("JPEG", (), (), measured=False)
    assert choose_anchor([read, TEST, ANCHOR]) is ANCHOR
    assert choose_anchor([TEST, read]) is read
    assert choose_anchor([TEST]) is TEST


def test_curves_of_one_name_are_told_apart_by_their_files():
    read = Curve("jpeg", (), (), measured=False)
    names = [
        curve.name for curve in with_distinct_names([(ANCHOR, ""), (TEST, ""), (read, "old"), (read, "new")])
    ]
    assert names == ["jpeg", "ours", "jpeg [old]", "jpeg [new]"]


def test_a_plot_has_a_panel_per_measure_and_a_line_per_curve():
    pytest.importorskip("matplotlib")
    only_psnr = Curve("third", ((0.3, 30.0), (9.0, 60.0)), (), measured=False)
    figure = draw([ANCHOR, TEST, only_psnr], title="Three")
    psnr, ms_ssim = figure.axes
    assert [line.get_label() for line in psnr.lines] == ["jpeg", "ours", "third"]
    assert [line.get_label() for line in ms_ssim.lines] == ["jpeg", "ours"]
    assert [line.get_linestyle() for line in psnr.lines] == ["-", "-", "--"]
    # all of the measured curve that ends first is seen, and not all of the one that goes on and on
    assert 1.5 < psnr.get_xlim()[1] < 2.5
    np.testing.assert_array_equal(psnr.lines[1].get_xydata(), TEST.psnr)


def test_a_plot_is_a_file_of_its_extension():
    pytest.importorskip("matplotlib")
    with Image.open(io.BytesIO(plot_bytes([ANCHOR, TEST]))) as picture:
        assert picture.format == "PNG"
    assert plot_bytes([ANCHOR], extension=".PDF").startswith(b"%PDF")
    assert b"<svg" in plot_bytes([ANCHOR], extension=".svg")
    with pytest.raises(BadOption, match=r"\.gif"):
        plot_bytes([ANCHOR], extension=".gif")
