"""Colours of any Pillow picture -> 8-bit sRGB or grey, by its embedded ICC profile where there is one.

Conversions use relative colorimetric intent with black-point compensation, as browsers and editors do.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_GREY_MODES = ("1", "L")
_WITHOUT_PROFILE = "sRGB"


def to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[str]]:
    """Return the picture in mode `L` or `RGB`, and sentences on what was converted.

    Parameters
    ----------
    picture
        Any 8-bit mode without alpha.
    profile
        The embedded ICC profile, if any. A grey picture stays grey. A profile that is sRGB but for rounding
        (no colour moves by more than one level) leaves the pixels untouched; one that cannot be used is
        ignored, with a note.
    """
    notes = []
    if picture.mode == "P":
        notes.append("The palette was expanded to RGB.")
        picture = picture.convert("RGB")
    elif picture.mode == "1":
        notes.append("The 1-bit picture was converted to 8-bit grey.")
        picture = picture.convert("L")
    elif picture.mode == "RGBX":
        notes.append("A fourth channel of no stated meaning was dropped.")
        picture = picture.convert("RGB")
    elif picture.mode not in ("L", "RGB", "CMYK"):
        notes.append(f"The colours were converted from {picture.mode} to sRGB.")
        return picture.convert("RGB"), notes  # L*a*b* and the like state their colours themselves

    if profile:
        converted, note = _apply(picture, profile)
        notes += [note] if note else []
        if converted is not None:
            return converted, notes
    if picture.mode == "CMYK":
        notes.append("The colours were converted from CMYK without a profile and are approximate.")
        picture = picture.convert("RGB")
    return picture, notes


def _apply(picture: Image.Image, data: bytes) -> tuple[Image.Image | None, str]:
    """Return the picture converted by the profile, or None where the profile is of no use, and a note."""
    ignored = f"was ignored, and the colours were taken as {_WITHOUT_PROFILE}"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = " ".join((ImageCms.getProfileDescription(profile) or "unnamed").split())
        space = profile.profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, f"The embedded colour profile cannot be read; it {ignored}."
    grey = picture.mode == "L"
    source = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(space)
    if source is None or (source != picture.mode and not (grey and source == "RGB")):
        return None, f"The embedded colour profile ({name}) is for {space}, not {picture.mode}; it {ignored}."
    try:
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            source,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if source != "CMYK" and _changes_nothing(transform, source):
            return picture, ""
        converted = ImageCms.applyTransform(picture.convert(source), transform)
    except (ImageCms.PyCMSError, ValueError) as error:
        return None, f"The embedded colour profile ({name}) cannot be applied ({error}); it {ignored}."
    assert converted is not None  # only in-place transforms return None
    if grey:  # a neutral colour stays neutral: its three channels are one and the same
        return converted.getchannel("G"), f"The greys were converted from the profile {name} to that of sRGB."
    return converted, f"The colours were converted from the profile {name} to sRGB."


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether no colour of a regular cube, or no grey, moves by more than one level."""
    if mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        levels = np.linspace(0, 255, 16).astype(np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
        probe = Image.fromarray(np.ascontiguousarray(cube.reshape(16, 256, 3)))
    result = ImageCms.applyTransform(probe, transform)
    assert result is not None
    moved = np.asarray(result).astype(int) - np.asarray(probe.convert("RGB"))
    return int(np.abs(moved).max()) <= 1
