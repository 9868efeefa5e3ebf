r"""Kill trainings at random steps, resume them, and compare their logs with an uninterrupted run's, bit for bit.

python -m scripts.check_interruptions --kills=10 --output=results/interruptions.txt

Trains a small network of balle2017 on the CPU by the command that a user runs: once through, then with `--kills`
runs for each of SIGKILL and SIGTERM. A run is killed when its log has reached a step drawn at random, then the same
command is run again until it is complete. Checked for each: the log's losses and all other metrics equal the
uninterrupted run's to the last bit; after SIGTERM the exit code is 75 and the last step that was logged is saved;
after SIGKILL no more is run again than the steps since the last save. Half of the runs stream their data.
Exits with 1 if anything differs.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from jaxcodec.training.preemption import PREEMPTED_EXIT_CODE
from scripts.small_training import command, logged, make_photos, saved_steps, start

_KILLS = flags.DEFINE_integer("kills", 10, "Runs for each of the two signals.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 60, "Length of a run.", lower_bound=20)
_SEED = flags.DEFINE_integer("seed", 0, "Of the steps at which runs are killed.")
_OUTPUT = flags.DEFINE_string("output", None, "Also write what is printed to this file.")

_SAVE_EVERY = 7


def interrupt(arguments: list[str], workdir: Path, *, at: int, number: signal.Signals) -> tuple[str, bool]:
    """Run, kill at a step, resume to the end; return what happened and whether it was as it should be."""
    log = workdir.with_suffix(".log")
    process = start(arguments, log)
    while process.poll() is None and len(logged(workdir)) < at:
        time.sleep(0.002)
    process.send_signal(number)
    code = process.wait()
    reached = logged(workdir)[-1]["step"] if logged(workdir) else 0
    saved = saved_steps(workdir)
    if number == signal.SIGTERM:
        good = code == PREEMPTED_EXIT_CODE and saved[-1:] == [reached]
    else:
        good = code == -signal.SIGKILL and reached - max(saved, default=0) <= 2 * _SAVE_EVERY
    again = start(arguments, log).wait()
    what = (
        f"{number.name} at step {at}: exit {code}, logged to {reached}, saved {saved}; resumed: exit {again}"
    )
    return what, good and again == 0


def check(folder: Path, *, kills: int, steps: int, seed: int) -> tuple[list[str], bool]:
    """Do all runs in `folder`; return the report's lines and whether all is well."""
    photos = make_photos(folder / "photos")
    draw = random.Random(seed)
    lines, well = [], True
    whole = {}
    for loading in ("resident", "stream")[:kills]:
        workdir = folder / f"whole_{loading}"
        code = start(
            command(photos, workdir, steps=steps, data_loading=loading, save_every=_SAVE_EVERY),
            workdir.with_suffix(".log"),
        ).wait()
        whole[loading] = logged(workdir)
        assert code == 0, workdir.with_suffix(".log").read_text()
        assert len(whole[loading]) == steps
        lines.append(f"   {loading:8s} uninterrupted: last loss {whole[loading][-1]['loss']!r}")
        print(lines[-1], flush=True)
    for index in range(2 * kills):
        number = (signal.SIGKILL, signal.SIGTERM)[index % 2]
        loading = ("resident", "stream")[index // 2 % 2]
        workdir = folder / f"run_{index}"
        arguments = command(photos, workdir, steps=steps, data_loading=loading, save_every=_SAVE_EVERY)
        what, good = interrupt(arguments, workdir, at=draw.randrange(2, steps - 10), number=number)
        equal = logged(workdir) == whole[loading]
        well &= good and equal
        verdict = "log equal bit for bit" if equal else "LOG DIFFERS"
        lines.append(
            f"{index + 1:2d} {loading:8s} {what}; {verdict}{'' if good else '; NOT AS IT SHOULD BE'}"
        )
        print(lines[-1], flush=True)
    lines.append("all as it should be" if well else "FAILED")
    return lines, well


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    with tempfile.TemporaryDirectory() as folder:
        lines, well = check(Path(folder), kills=_KILLS.value, steps=_STEPS.value, seed=_SEED.value)
    print(lines[-1])
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text("\n".join(lines) + "\n")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    app.run(main)
