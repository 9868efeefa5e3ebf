"""Batches: what counts as one failure among others, and what ends the batch."""

from pathlib import Path

import pytest

from jaxcodec.cli.console import message_of, run_batch, table
from jaxcodec.cli.files import Job
from jaxcodec.errors import BadImage

JOBS = [Job(Path(name), None) for name in ("a", "b", "c")]


def failing_at_b(error):
    done = []

    def work(job):
        if job.name == "b":
            raise error
        done.append(job.name)

    return work, done


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BadImage("is no\npicture"), "b: is no picture"),
        (BadImage("b is no picture"), "b is no picture"),
        (PermissionError(13, "Permission denied", "there"), "b: there: Permission denied"),
        (MemoryError(), "b: not enough memory; use a smaller picture, or close other programs"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 9 GB"),
            "b: not enough memory; use a smaller picture, or close other programs",
        ),
    ],
)
def test_what_users_and_machines_cause_is_a_line_and_the_batch_goes_on(error, line, capsys):
    work, done = failing_at_b(error)
    assert run_batch(JOBS, work, action="working") == 1
    assert done == ["a", "c"]
    assert capsys.readouterr().err == f"jaxcodec: {line}\n"


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), RuntimeError("a bug"), KeyboardInterrupt(), BrokenPipeError()]
)
def test_bugs_interrupts_and_a_closed_pipe_end_the_batch(error):
    work, done = failing_at_b(error)
    with pytest.raises(type(error)):
        run_batch(JOBS, work, action="working")
    assert done == ["a"]


def test_an_error_without_words_is_named():
    assert message_of(BadImage()) == "BadImage"


def test_a_table_aligns_its_columns():
    assert table(("name", "n"), [("a", "1"), ("long name", "100")], right=(1,)).splitlines() == [
        "name         n",
        "a            1",
        "long name  100",
    ]
