"""How far a codec is with a picture, for whoever listens: slow codecs report, a command line draws a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[int, int], None]
"""Takes how many steps are done, and how many there are."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` called by the codecs that report, while inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listened_to() -> bool:
    """Whether anybody listens; if not, a codec need not wait for a step to be complete."""
    return _LISTENER.get() is not None


def report(done: int, total: int) -> None:
    """Tell the listener, if there is one."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(done, total)
