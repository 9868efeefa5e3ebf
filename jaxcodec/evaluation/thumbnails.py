"""Thumbnails of 32 x 32 pixels at a few dozen bytes: networks beside headerless JPEG, JPEG 2000 and WebP, by SSIM.

What counts: of the networks the bits (a chunk per stage); of JPEG (4:2:0, the standard's Huffman tables, since tables
of its own would be free) what lies between the header of its scan and the end marker; of JPEG 2000 (9/7) what
follows the start of data; of WebP all but 30 bytes. Headers are left out as in Toderici et al. (ICLR 2016), since any
of them is larger than the thumbnail. The classical codecs cannot hit a size: each has one quality for all
thumbnails, the one whose mean is nearest above, as in the paper's table; beside it stands the SSIM interpolated to the
very size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxcodec.codecs.base import unpack_iterations
from jaxcodec.codecs.toderici2016.codec import THUMBNAIL, load_toderici2016
from jaxcodec.errors import BadOption
from jaxcodec.metrics.psnr import psnr
from jaxcodec.metrics.ssim import ssim

DEFINITION = (
    "SSIM (Wang et al. 2004) of 8-bit pixels: 11x11 Gaussian window of sigma 1.5, windows inside the thumbnail, "
    "K1 0.01, K2 0.03, the mean over R, G, B and thumbnails"
)


@dataclass(frozen=True)
class Classical:
    """A codec without its header.

    Attributes
    ----------
    name
        As in the table.
    settings
        Values of its quality, ascending in size.
    encode
        `encode(picture, setting)`, the whole file.
    counted
        How many bytes of a file count.
    """

    name: str
    settings: tuple[float, ...]
    encode: Callable[[Image.Image, float], bytes]
    counted: Callable[[bytes], int]


def _saved(picture: Image.Image, **arguments: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **arguments)
    return buffer.getvalue()


def _jpeg(picture: Image.Image, quality: float) -> bytes:
    return _saved(picture, format="JPEG", quality=int(quality), subsampling="4:2:0", optimize=False)


def _jpeg2000(picture: Image.Image, size: float) -> bytes:
    # A size for each thumbnail and three resolutions: of what was tried (a PSNR for each; 1 to 6) the best by far.
    return _saved(
        picture,
        format="JPEG2000",
        no_jp2=True,
        irreversible=True,
        mct=1,
        quality_mode="rates",
        quality_layers=[3 * THUMBNAIL**2 / size],
        num_resolutions=3,
    )


def _webp(picture: Image.Image, quality: float) -> bytes:
    return _saved(picture, format="WEBP", quality=int(quality), method=6)


def jpeg_scan_bytes(data: bytes) -> int:
    """Bytes between the header of the scan and the end marker of a JPEG file of one scan."""
    position = 2
    while data[position + 1] != 0xDA:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data) - 2 - position


def jpeg2000_data_bytes(data: bytes) -> int:
    """Bytes between the start of data and the end marker of a JPEG 2000 codestream of one tile."""
    return len(data) - 2 - (data.index(b"\xff\x93") + 2)


def webp_data_bytes(data: bytes) -> int:
    """Bytes of a lossy WebP file but for RIFF's (12), the chunk's (8) and the frame's header (10)."""
    return len(data) - 30


CLASSICAL = (
    Classical("JPEG", tuple(range(1, 101)), _jpeg, jpeg_scan_bytes),
    Classical("JPEG 2000", tuple(range(150, 600, 2)), _jpeg2000, jpeg2000_data_bytes),
    Classical("WebP", tuple(range(101)), _webp, webp_data_bytes),
)


def score(thumbnails: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    """SSIM, its standard error over the thumbnails, and PSNR in dB, of uint8 `[n, 32, 32, 3]`."""
    a, b = thumbnails.astype(np.float32), decoded.astype(np.float32)
    values = np.asarray(jax.jit(ssim)(a / 255.0, b / 255.0), np.float64)
    decibels = np.asarray(psnr(a / 255.0, b / 255.0), np.float64)
    return {
        "ssim": float(values.mean()),
        "standard_error": float(values.std() / math.sqrt(len(values))),
        "psnr": float(decibels[np.isfinite(decibels)].mean()),
    }


class Ladder:
    """A classical codec on the thumbnails: its mean size, and score, at each setting; nothing is done twice."""

    def __init__(self, codec: Classical, thumbnails: np.ndarray) -> None:
        self._codec, self._thumbnails = codec, thumbnails
        self._files: dict[int, list[bytes]] = {}

    def mean_bytes(self, index: int) -> float:
        """Counted bytes per thumbnail."""
        if index not in self._files:
            setting = self._codec.settings[index]
            self._files[index] = [self._codec.encode(Image.fromarray(x), setting) for x in self._thumbnails]
        return float(np.mean([self._codec.counted(data) for data in self._files[index]]))

    def at(self, index: int) -> dict[str, float]:
        """Setting, mean size and score."""
        size = self.mean_bytes(index)
        pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in self._files[index]]
        decoded = np.stack([np.asarray(picture) for picture in pictures])
        return {
            "setting": self._codec.settings[index],
            "mean_bytes": size,
            **score(self._thumbnails, decoded),
        }

    def row(self, target: float) -> dict[str, Any]:
        """The setting whose mean is nearest above the target, and the SSIM interpolated to the target."""
        low, high = -1, len(self._codec.settings) - 1  # sizes grow with the setting
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.mean_bytes(middle) >= target else (middle, high)
        above = self.at(high)
        interpolated = above["ssim"] if above["mean_bytes"] == target else None
        if low >= 0 and interpolated is None and above["mean_bytes"] > target:
            below = self.at(low)
            share = (target - below["mean_bytes"]) / (above["mean_bytes"] - below["mean_bytes"])
            interpolated = below["ssim"] + share * (above["ssim"] - below["ssim"])
        return {
            "codec": self._codec.name,
            "target_bytes": target,
            **above,
            "ssim_at_target": interpolated,
        }


def network_rows(
    label: str, path: Path | None, thumbnails: np.ndarray, targets: Sequence[float], *, curve: bool
) -> list[dict[str, Any]]:
    """A network at each target that is a whole number of stages; the files are decoded, not simulated."""
    codec = load_toderici2016(path)
    config, count = codec.config, len(thumbnails)
    per_stage = config.bits * (THUMBNAIL // config.patch) ** 2 / 8
    wanted = {target: round(target / per_stage) for target in targets}
    for target, stages in wanted.items():
        if stages * per_stage != target or stages not in codec.qualities:
            raise BadOption(
                f"{label}: {target:g} bytes are no whole number of its {config.stages} stages of {per_stage:g}"
            )
    data = codec.encode_thumbnails(thumbnails, quality=max(wanted.values()))
    header, chunks = unpack_iterations(data)
    rows = []
    for target, stages in wanted.items():
        decoded = codec.decode_thumbnails(data, iterations=stages)
        rows.append(
            {
                "codec": label,
                "target_bytes": target,
                "weights": header.weights_hash.hex(),
                "network": config.to_dict(),
                "setting": stages,
                "mean_bytes": sum(map(len, chunks[:stages])) / count,
                **score(thumbnails, decoded),
            }
        )
        rows[-1]["ssim_at_target"] = rows[-1]["ssim"]
    if curve:
        tall = thumbnails.reshape(-1, THUMBNAIL, 3)
        seen = codec.reconstructions(tall, quality=config.stages).reshape(-1, *thumbnails.shape)
        scores = [score(thumbnails, stage) for stage in seen]
        rows[-1]["curve"] = {
            "bytes": [per_stage * (stage + 1) for stage in range(len(scores))],
            "ssim": [row["ssim"] for row in scores],
            "psnr": [row["psnr"] for row in scores],
        }
    return rows


def table(rows: Sequence[dict[str, Any]], targets: Sequence[float]) -> str:
    """One line per codec: mean bytes, SSIM and PSNR for each target; the best SSIM last."""
    names = list(dict.fromkeys(row["codec"] for row in rows))
    by_name = {name: {row["target_bytes"]: row for row in rows if row["codec"] == name} for name in names}
    names.sort(key=lambda name: by_name[name][targets[-1]]["ssim"])
    head = "".join(f" | {target:5g} B: bytes   SSIM  +-      at {target:g} B   PSNR" for target in targets)
    lines = [f"{'':24}{head}"]
    for name in names:
        cells = []
        for target in targets:
            row = by_name[name][target]
            at = "-" if row["ssim_at_target"] is None else f"{row['ssim_at_target']:.4f}"
            cells.append(
                f" | {row['mean_bytes']:14.1f} {row['ssim']:6.4f} {row['standard_error']:6.4f}"
                f" {at:>9} {row['psnr']:6.2f}"
            )
        lines.append(f"{name:24}" + "".join(cells))
    return "\n".join(lines)
