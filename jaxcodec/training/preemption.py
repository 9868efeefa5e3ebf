"""Being asked to stop: SIGTERM, as spot machines, schedulers and `kill` send it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxcodec.errors import JaxcodecError

PREEMPTED_EXIT_CODE = 75
"""What a training command exits with after it was asked to stop and has saved (EX_TEMPFAIL: try again)."""


class Preempted(JaxcodecError):
    """The run was asked to stop and has saved its state; the same command goes on."""


class PreemptionNotice:
    """Notices SIGTERM while it is entered; the step under way ends and the loop asks `reached`.

    Under `jax.distributed` the runtime catches the signal, on whichever process it arrives, and all
    processes agree on one chunk after which to stop. Otherwise a handler of Python does.
    """

    def __init__(self) -> None:
        self._noticed = threading.Event()
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> PreemptionNotice:
        # Python only lets the main thread handle signals; elsewhere the caller has to.
        if not jax.distributed.is_initialized() and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._notice)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._noticed.set()

    def reached(self, chunk: int) -> bool:
        """Whether to save and stop now; every process asks it once for every chunk, counted from any number."""
        if jax.distributed.is_initialized():
            return multihost_utils.reached_preemption_sync_point(chunk)
        return self._noticed.is_set()
