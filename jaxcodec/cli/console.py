"""What the user sees: lines on stdout and stderr, progress bars, and batches that go on after a failure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TextIO, TypeVar

from jaxcodec.errors import JaxcodecError

Item = TypeVar("Item")


class Named(Protocol):
    """What a batch is of: `name` stands in messages."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...


def say(line: str, *, file: TextIO | None = None) -> None:
    """Print a line, on stdout by default, above a progress bar if there is one."""
    from tqdm import tqdm

    stream = file or sys.stdout
    coding = stream.encoding or "utf-8"
    # A file name may hold what the terminal's encoding does not.
    tqdm.write(line.encode(coding, "backslashreplace").decode(coding), file=stream)


def note(line: str) -> None:
    """Print a remark on stderr."""
    say(line, file=sys.stderr)


def fail(message: str) -> None:
    """Print what could not be done, as one line on stderr."""
    note(f"jaxcodec: {' '.join(message.split())}")


def message_of(error: BaseException) -> str:
    """Return an error as a sentence for the user."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _is_out_of_memory(error)):
        return "not enough memory; use a smaller picture, or close other programs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _is_out_of_memory(error: RuntimeError) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)  # jax's own error, from an accelerator


@contextmanager
def progress_bar(total: int, action: str, unit: str) -> Iterator[Callable[..., None]]:
    """Show a bar while inside, if stderr is a terminal.

    The value is to be called after each step, with the name of what comes next.
    """
    from tqdm import tqdm

    with tqdm(total=total, desc=action, unit=unit, disable=None, leave=False, file=sys.stderr) as bar:

        def step(following: str = "") -> None:
            bar.update()
            if following:
                bar.set_description_str(f"{action} {following}")

        bar.refresh()
        yield step


@contextmanager
def steps_bar(name: str) -> Iterator[None]:
    """Show a second bar while a codec reports its steps with one picture, if stderr is a terminal."""
    from tqdm import tqdm

    from jaxcodec.codecs.progress import listening

    if not sys.stderr.isatty():
        yield
        return
    with tqdm(desc=name, unit="step", leave=False, file=sys.stderr, delay=1.0) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        with listening(show):
            yield


def run_batch(items: Sequence[Named], work: Callable[[Item], None], *, action: str) -> int:
    """Do `work` for each item, with a progress bar, and return how many could not be done.

    Those print one line each. A reader of stdout that has gone (`BrokenPipeError`) ends it all.
    """
    failures = 0
    with progress_bar(len(items), action, "file") as step:
        for number, item in enumerate(items):
            try:
                with steps_bar(item.name):
                    work(item)  # pyrefly: ignore[bad-argument-type]
            except BrokenPipeError:
                raise
            except (JaxcodecError, OSError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
                    raise
                message = message_of(error)
                fail(message if item.name in message else f"{item.name}: {message}")
                failures += 1
            step(items[number + 1].name if number + 1 < len(items) else "")
    return failures


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Return rows of cells in aligned columns; the columns whose numbers are in `right` are flush right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
