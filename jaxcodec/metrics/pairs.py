"""What the functions that measure 8-bit pictures accept: two uint8 arrays, `[H, W, C]` or `[H, W]`."""

from __future__ import annotations

import numpy as np

from jaxcodec.errors import BadImage


def check_pair(reference: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both pictures as `[H, W, C]`, C = 1 for grey.

    Raises
    ------
    BadImage
        If they are not uint8, differ in shape, are not `[H, W, C]` or `[H, W]`, or have no pixel.
    """
    reference, test = np.asarray(reference), np.asarray(test)
    for name, picture in (("reference", reference), ("test", test)):
        if picture.dtype != np.uint8:
            raise BadImage(
                f"the {name} picture is {picture.dtype}; 8-bit measures need uint8: "
                "round and clip to [0, 255], or use the float functions on [B, H, W, C]"
            )
        if picture.ndim not in (2, 3) or picture.size == 0:
            raise BadImage(
                f"the {name} picture has shape {list(picture.shape)}; give [H, W, C] or [H, W] with pixels"
            )
    if reference.shape != test.shape:
        raise BadImage(
            f"the pictures differ in shape, {list(reference.shape)} and {list(test.shape)}; "
            "crop or decode to the same size and channels first"
        )
    if reference.ndim == 2:
        reference, test = reference[:, :, None], test[:, :, None]
    return reference, test
