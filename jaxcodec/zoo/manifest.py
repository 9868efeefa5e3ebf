"""Which weight files are installed: `manifest.json` beside `weights/`.

Reading it needs neither jax nor numpy, so the command line can list codecs at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ZOO = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A row of the manifest.

    Attributes
    ----------
    codec, quality
        What the file is for; quality 0 where it serves several. The codec may be a variant, `<codec>-<variant>`.
    file
        Its path.
    hash
        Eight hexadecimal digits, as in its name.
    current
        Whether new files are written with it; a superseded one still decodes what it wrote.
    details
        Everything else that is recorded: training command, data and licence, time, measured curve.
    """

    codec: str
    quality: int
    file: Path
    hash: str
    current: bool
    details: dict[str, Any]


@cache
def entries() -> tuple[Entry, ...]:
    """All rows, in the order of the file."""
    path = ZOO / "manifest.json"
    if not path.exists():
        return ()
    rows = json.loads(path.read_text(encoding="utf-8"))["weights"]
    return tuple(
        Entry(
            codec=row["codec"],
            quality=row["quality"],
            file=ZOO / "weights" / row["file"],
            hash=Path(row["file"]).stem.rpartition("-")[2],
            current=row["current"],
            details={k: v for k, v in row.items() if k not in ("codec", "quality", "file", "current")},
        )
        for row in rows
    )


def current(codec: str) -> tuple[Entry, ...]:
    """The rows that encode with `codec`, by rising quality."""
    rows = [entry for entry in entries() if entry.codec == codec and entry.current]
    return tuple(sorted(rows, key=lambda entry: entry.quality))


def qualities(codec: str) -> tuple[float, ...]:
    """The qualities that `codec` has weights for, ascending; empty when none are installed.

    Weights that serve several qualities list them in their row under `qualities`.
    """
    rows = [entry.details.get("qualities", [entry.quality]) for entry in current(codec)]
    return tuple(sorted({quality for row in rows for quality in row}))


def add(row: dict[str, Any]) -> None:
    """Write a row to the manifest: codec, quality, file, current, and whatever is to be recorded.

    Earlier rows of the same codec and quality stay, no longer current: what they wrote still decodes.
    """
    path = ZOO / "manifest.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["weights"] if path.exists() else []
    rows = [old for old in rows if old["file"] != row["file"]]
    for old in rows:
        if row["current"] and (old["codec"], old["quality"]) == (row["codec"], row["quality"]):
            old["current"] = False
    rows = sorted([*rows, row], key=lambda r: (r["codec"], r["quality"], not r["current"]))
    path.write_text(json.dumps({"weights": rows}, indent=1) + "\n", encoding="utf-8")
    entries.cache_clear()


def find(weights_hash: bytes) -> Path | None:
    """The installed file with this hash (current or superseded), or None."""
    for entry in entries():
        if entry.hash == weights_hash.hex():
            return entry.file
    return None
