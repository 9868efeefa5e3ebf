"""Training metrics as JSON lines, one object per log line, and as TensorBoard events when asked."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

from absl import logging
from etils import epath

from jaxcodec.errors import MissingDependency


class MetricsWriter:
    """Write scalars to `metrics.jsonl` and to the log; a context manager.

    In a bucket, where files cannot grow, the file is written anew by `flush`.

    Parameters
    ----------
    folder
        Created when missing; local or `gs://`.
    resumed_at
        Lines of an existing file that are later than this step are dropped: the steps will be run again.
    tensorboard
        Also write TensorBoard events there.

    Raises
    ------
    MissingDependency
        If TensorBoard events are asked for and tensorboardX is not installed.
    """

    def __init__(self, folder: epath.PathLike, *, resumed_at: int = 0, tensorboard: bool = False) -> None:
        path = epath.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self._path = path / "metrics.jsonl"
        self._grows = "://" not in str(folder)
        self._lines: list[str] = []
        if self._path.exists():
            found = self._path.read_text().splitlines()
            self._lines = [line for line in found if _step_of(line) <= resumed_at]
            if len(self._lines) < len(found):
                self._rewrite()
        self._events: Any = None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise MissingDependency(
                    "--tensorboard needs tensorboardX: pip install 'jaxcodec[tensorboard]'"
                ) from error
            self._events = SummaryWriter(str(folder), purge_step=resumed_at + 1)

    def _rewrite(self) -> None:
        text = "".join(line + "\n" for line in self._lines)
        if self._grows:
            temporary = self._path.with_name("metrics.jsonl.tmp")
            temporary.write_text(text)
            temporary.replace(self._path)
        else:  # a bucket shows an object only when it is whole
            self._path.write_text(text)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Write one line: the step and the scalars."""
        line = json.dumps({"step": step, **scalars})
        if self._grows:
            with self._path.open("a") as file:
                file.write(line + "\n")
        else:
            self._lines.append(line)
        if self._events is not None:
            for name, value in scalars.items():
                self._events.add_scalar(name, value, step)
        logging.info("step %d  %s", step, "  ".join(f"{name} {value:.5g}" for name, value in scalars.items()))

    def flush(self) -> None:
        """Make everything visible to readers."""
        if not self._grows:
            self._rewrite()
        if self._events is not None:
            self._events.flush()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        if self._events is not None:
            self._events.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, from a kill in the middle of writing
