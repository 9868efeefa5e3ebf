"""What a run costs: a trace of some steps for xprof, and the device's memory."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import jax
from absl import logging
from etils import epath


class ProfileWindow:
    """Traces a window of steps into a folder, on process 0; a context manager.

    Parameters
    ----------
    folder
        Gets the trace; `xprof --logdir FOLDER` shows it.
    window
        First step and number of steps, or None for no trace. Chunks are traced whole.
    """

    def __init__(self, folder: epath.Path, window: tuple[int, int] | None) -> None:
        self._folder = folder
        self._window = window if jax.process_index() == 0 else None
        self._tracing = False

    def before(self, step: int, state: Any) -> None:
        """Start the trace if `step`, the next to run, is in the window."""
        if self._window is not None and not self._tracing and step >= self._window[0]:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def after(self, step: int, state: Any) -> None:
        """Stop the trace if the window's steps are run; `step` is the next to run."""
        if self._window is not None and self._tracing and step >= sum(self._window):
            jax.block_until_ready(state)
            self._finish()

    def _finish(self) -> None:
        jax.profiler.stop_trace()
        logging.info("trace written to %s; look at it with xprof --logdir", self._folder)
        self._tracing, self._window = False, None

    def __enter__(self) -> ProfileWindow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracing:
            self._finish()


def device_memory() -> dict[str, float]:
    """Peak GiB in use on this process's first device; empty where the device does not tell (CPUs)."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" not in statistics:
        return {}
    return {"device_memory_gib": statistics["peak_bytes_in_use"] / 2**30}
