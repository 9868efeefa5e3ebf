"""Training metrics as JSON lines, one object per log point.

A run that was killed and resumed repeats the steps since its last checkpoint: of lines with the same step, the
last one counts.
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import logging


class MetricsWriter:
    """Append scalars to `metrics.jsonl` and to the log.

    Parameters
    ----------
    folder
        Created when missing; an existing file is continued.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Write one line: the step and the scalars."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        shown = "  ".join(f"{name} {value:.5g}" for name, value in scalars.items())
        logging.info("step %d  %s", step, shown)
