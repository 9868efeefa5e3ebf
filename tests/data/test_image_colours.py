"""Profiles, CMYK and Lab: what is not sRGB becomes sRGB."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxcodec.data.images import read_image
from tests.data.pictures import photo, saved

# XYZ under D50 of the primaries, column by column (Lindbloom for sRGB; Apple's profile for Display P3).
SRGB_D50 = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
P3_D50 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
D50 = np.array([0.9642, 1.0, 0.8249])


def icc_profile(space, connection, tags, *, device=b"mntr"):
    """An ICC v2 profile (ICC.1:2001-04) of the given colour space and tags."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    name = b"test " + space.strip() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50),
    } | {
        tag: (b"XYZ \0\0\0\0" + fixed(*value) if isinstance(value, tuple) else value)
        for tag, value in tags.items()
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, value in tags.items():
        value += bytes(-len(value) % 4)
        table += tag + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(
        ">I4sI4s4s4s12s4s", start + len(body), b"", 0x02400000, device, space, connection, b"", b"acsp"
    )
    head += bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + table + body


def gamma_curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def display_p3(gamma=2.2):
    primaries = {tag: tuple(P3_D50[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return icc_profile(
        b"RGB ", b"XYZ ", primaries | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_curve(gamma))
    )


def grey_profile(gamma):
    return icc_profile(b"GRAY", b"XYZ ", {b"kTRC": gamma_curve(gamma)})


def cmyk_profile(lab_of_inks):
    """A profile with a 2x2x2x2 table; `lab_of_inks` takes four inks of 0 or 1."""
    ramp = bytes(range(256))
    corners = b""
    for i in range(16):
        lightness, a, b = lab_of_inks(i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1)
        corners += bytes([round(lightness * 2.55), a + 128, b + 128])
    identity = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + corners + ramp * 3
    return icc_profile(b"CMYK", b"Lab ", {b"A2B0": table}, device=b"prtr")


def srgb_levels(xyz_d50):
    linear = np.clip(xyz_d50 @ np.linalg.inv(SRGB_D50).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def xyz_of_lab(lab):
    lightness, a, b = lab
    f = np.array([(lightness + 16) / 116 + a / 500, (lightness + 16) / 116, (lightness + 16) / 116 - b / 200])
    return D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))


def test_a_wide_gamut_profile_is_converted_to_srgb():
    pixels = photo()
    loaded = read_image(saved(pixels, icc_profile=display_p3()))
    xyz = (pixels / 255) ** 2.2 @ P3_D50.T
    assert np.abs(loaded.pixels - srgb_levels(xyz)).max() < 2.5
    assert np.abs(loaded.pixels.astype(int) - pixels).max() > 5
    assert loaded.notes == ("The colours were converted from the profile test RGB to sRGB.",)


def test_a_grey_profile_keeps_the_picture_grey():
    pixels = photo()[..., 0]
    loaded = read_image(saved(pixels, icc_profile=grey_profile(1.0)))
    expected = srgb_levels((pixels / 255)[..., None] * (SRGB_D50 @ np.ones(3)))[..., 1]
    assert loaded.pixels.shape == pixels.shape
    assert np.abs(loaded.pixels - expected).max() < 1.5
    assert "profile test GRAY" in loaded.notes[0]


def test_a_colour_profile_on_a_grey_picture_is_followed():
    pixels = photo()[..., 0]
    loaded = read_image(saved(pixels, icc_profile=display_p3(gamma=1.0)))
    expected = srgb_levels((pixels / 255)[..., None] * (P3_D50 @ np.ones(3)))[..., 1]
    assert np.abs(loaded.pixels - expected).max() < 1.5


def test_a_profile_that_is_srgb_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    loaded = read_image(saved(photo(), icc_profile=profile))
    np.testing.assert_array_equal(loaded.pixels, photo())
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (b"no profile", "cannot be read"),
        (display_p3()[:200], "ignored"),
        (grey_profile(1.0), "is for GRAY, not RGB"),
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), "is for Lab, not RGB"),
    ],
    ids=["garbage", "cut", "grey on colour", "lab"],
)
def test_a_profile_of_no_use_is_ignored_with_a_note(profile, words):
    loaded = read_image(saved(photo(), icc_profile=profile))
    np.testing.assert_array_equal(loaded.pixels, photo())
    assert len(loaded.notes) == 1
    assert words in loaded.notes[0]
    assert "ignored" in loaded.notes[0]


def test_cmyk_is_converted_by_its_profile():
    def lab(c, m, y, k):
        return (0, 0, 0) if k or c + m + y > 1 else {(1, 0, 0): (55, -20, -25)}.get((c, m, y), (100, 0, 0))

    inks = np.zeros((8, 8, 4), np.uint8)
    inks[4:, :, 0] = 255
    data = saved(Image.fromarray(inks, "CMYK"), "TIFF", icc_profile=cmyk_profile(lab))
    loaded = read_image(data)
    assert np.abs(loaded.pixels[0, 0] - np.array([255, 255, 255])).max() <= 1
    assert np.abs(loaded.pixels[7, 7] - srgb_levels(xyz_of_lab((55, -20, -25)))).max() <= 3
    assert loaded.notes == ("The colours were converted from the profile test CMYK to sRGB.",)


def test_cmyk_without_a_profile_is_converted_with_a_note():
    picture = Image.fromarray(photo()).convert("CMYK")
    loaded = read_image(saved(picture, "JPEG", quality=100))
    assert loaded.pixels.shape == photo().shape
    assert np.abs(loaded.pixels.astype(int) - photo()).mean() < 3
    assert "without a profile" in loaded.notes[0]


def test_lab_is_converted_to_srgb_with_a_note():
    lab = np.full((4, 4, 3), (140, 20, 235), np.uint8)  # b* is signed: 235 is -21
    loaded = read_image(saved(Image.fromarray(lab, "LAB"), "TIFF"))
    expected = srgb_levels(xyz_of_lab((140 / 2.55, 20, -21)))
    assert np.abs(loaded.pixels[0, 0] - expected).max() < 2.5
    assert "from LAB" in loaded.notes[0]
