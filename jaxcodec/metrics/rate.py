"""Rate: what a file costs per pixel of the picture it holds."""

from __future__ import annotations


def bits_per_pixel(num_bytes: int, height: int, width: int) -> float:
    """Bits per pixel, `8 * num_bytes / (height * width)`.

    Parameters
    ----------
    num_bytes
        Size of the whole file, headers included.
    height, width
        True size of the picture, before any padding. A pixel counts once, however many channels it has.

    Raises
    ------
    ValueError
        If the size is negative or the picture has no pixel.
    """
    if num_bytes < 0:
        raise ValueError(f"num_bytes is {num_bytes}; a file has at least 0 bytes")
    if height < 1 or width < 1:
        raise ValueError(f"the picture is {height} x {width}; height and width must be at least 1")
    return 8.0 * num_bytes / (height * width)
