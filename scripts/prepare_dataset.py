r"""Pack pictures into array_record shards, which training streams without decoding.

    python scripts/prepare_dataset.py --input='photos/**/*.png' --output=data/photos --min_size=256

reads a folder or a pattern (`**` enters folders) and writes OUTPUT/shard-*.array_record and OUTPUT/index.json; then
`--train_data=data/photos` trains on them. Raw tiles take 3 bytes a pixel and need no decoding; WebP takes about half
of the space and some milliseconds per tile. Pictures that cannot be read are named at the end and left out.

Interrupted, the same command goes on where it stopped. The shards do not depend on the number of workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.data.images import read_image
from jaxcodec.data.records import (
    ENCODINGS,
    EXTENSION,
    INDEX_NAME,
    RecordIndex,
    Shard,
    as_rgb,
    cut_tiles,
    encode_record,
    write_index,
    write_shard,
)
from jaxcodec.errors import BadImage, BadOption, JaxcodecError

_INPUT = flags.DEFINE_string(
    "input", None, "Folder of pictures, or a pattern in quotes; ** enters folders.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the shards; made if there is none.", required=True)
_SHARDS = flags.DEFINE_integer("shards", 64, "Files to write, at most one per picture.", lower_bound=1)
_TILE_SIZE = flags.DEFINE_integer(
    "tile_size", 512, "Cut pictures into overlapping tiles of this side; 0 keeps them whole.", lower_bound=0
)
_ENCODING = flags.DEFINE_enum("encoding", "raw", ENCODINGS, "Of a record: uncompressed, or lossless WebP.")
_MIN_SIZE = flags.DEFINE_integer(
    "min_size", 1, "Leave out pictures with a shorter side; --crop_size of the training.", lower_bound=1
)
_WORKERS = flags.DEFINE_integer("workers", None, "Processes; by default one per CPU core.", lower_bound=1)
_FORCE = flags.DEFINE_boolean(
    "force", False, "Begin anew where OUTPUT was made from other pictures or flags."
)

_PROGRESS = "progress"  # in the output: the plan, and a report per finished shard


@dataclass(frozen=True)
class ShardTask:
    """What one process does at a time.

    Attributes
    ----------
    path, report
        The shard, and the file that says it is finished.
    pictures
        File and the name to report it by.
    encoding, tile_size, min_size
        As the flags; `tile_size` None for whole pictures.
    """

    path: Path
    report: Path
    pictures: tuple[tuple[Path, str], ...]
    encoding: str
    tile_size: int | None
    min_size: int

    def finished(self) -> dict[str, Any] | None:
        """Return the report if the shard is written whole."""
        if not self.report.is_file():
            return None
        report = json.loads(self.report.read_bytes())
        size = report["shard"]["size"]
        return report if not size or (self.path.is_file() and self.path.stat().st_size == size) else None

    def run(self) -> dict[str, Any]:
        """Write the shard under another name, rename it, and return the report."""
        unreadable: list[list[str]] = []
        too_small: list[list[str]] = []
        sides: list[tuple[int, int]] = []

        def records() -> Iterator[bytes]:
            for path, name in self.pictures:
                try:
                    pixels = as_rgb(read_image(path).pixels)
                    if min(pixels.shape[:2]) < self.min_size:
                        too_small.append([name, f"{pixels.shape[1]}x{pixels.shape[0]}"])
                        continue
                    tiles = list(cut_tiles(pixels, self.tile_size))
                    encoded = [encode_record(tile, self.encoding) for tile in tiles]
                except JaxcodecError as error:
                    unreadable.append([name, str(error).removeprefix(f"{path}: ")])
                    continue
                sides.extend(tile.shape[:2] for tile in tiles)
                yield from encoded

        # By process: one that outlives a killed command may still be writing.
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        write_shard(temporary, records())
        if sides:
            os.replace(temporary, self.path)
        else:
            temporary.unlink()
        shard = Shard(
            file=self.path.name,
            size=self.path.stat().st_size if sides else 0,
            records=len(sides),
            pixels=int(np.prod(sides, axis=1).sum()) if sides else 0,
            smallest_side=min(map(min, sides), default=0),
        )
        report = {"shard": asdict(shard), "unreadable": unreadable, "too_small": too_small}
        write_bytes(self.report, json.dumps(report).encode(), force=True)
        return report


def plan(
    pictures: Sequence[Path], output: Path, *, force: bool, shards: int, **settings: Any
) -> list[ShardTask]:
    """Return the tasks, after making sure that `output` is empty or was begun by the same plan.

    Raises
    ------
    BadOption
        If it was begun from other pictures or with other settings and `force` is False, or cannot be written.
    """
    common = Path(os.path.commonpath([path.parent for path in pictures]))
    names = [path.relative_to(common).as_posix() for path in pictures]
    shards = min(shards, len(pictures))
    inputs = [[name, path.stat().st_size] for name, path in zip(names, pictures, strict=True)]
    wanted = {"version": 1, "shards": shards, **settings, "pictures": inputs}
    progress = output / _PROGRESS
    try:
        progress.mkdir(parents=True, exist_ok=True)
        file = progress / "plan.json"
        begun = json.loads(file.read_bytes()) if file.is_file() else None
        if begun is not None and begun != wanted and not force:
            different = [f"--{name}" for name in ("shards", *settings) if begun.get(name) != wanted[name]]
            raise BadOption(
                f"{output} was begun with other {' and '.join(different) or 'pictures in --input'}; "
                "choose another --output, or begin anew with --force"
            )
        for path in output.glob("shard-*.tmp"):
            path.unlink()
        if begun != wanted:
            for path in (*output.glob(f"shard-*{EXTENSION}"), output / INDEX_NAME):
                path.unlink(missing_ok=True)
            shutil.rmtree(progress)
            progress.mkdir()
            write_bytes(file, json.dumps(wanted).encode())
    except OSError as error:
        raise BadOption(f"{output} cannot be written: {error.strerror or error}") from error
    return [
        ShardTask(
            path=output / f"shard-{k:05d}-of-{shards:05d}{EXTENSION}",
            report=progress / f"{k:05d}.json",
            pictures=tuple(zip(pictures, names, strict=True))[k::shards],
            **settings,
        )
        for k in range(shards)
    ]


def run(tasks: Sequence[ShardTask], *, workers: int) -> list[dict[str, Any]]:
    """Do what is not finished, in that many processes, and return all reports in order.

    Raises
    ------
    BadOption
        If a process dies.
    """
    reports = [task.finished() for task in tasks]
    missing = [k for k, report in enumerate(reports) if report is None]
    total = sum(len(task.pictures) for task in tasks)
    done = total - sum(len(tasks[k].pictures) for k in missing)
    with tqdm(total=total, initial=done, unit="picture", disable=None) as bar:  # None: quiet off a terminal
        if workers == 1 or len(missing) < 2:
            for k in missing:
                reports[k] = tasks[k].run()
                bar.update(len(tasks[k].pictures))
        else:
            # spawn: the parent has threads by now, which do not survive a fork
            context = multiprocessing.get_context("spawn")
            executor = ProcessPoolExecutor(
                min(workers, len(missing)), mp_context=context, initializer=_end_with_parent
            )
            try:
                futures = {k: executor.submit(tasks[k].run) for k in missing}
                for k, future in futures.items():
                    reports[k] = future.result()
                    bar.update(len(tasks[k].pictures))
            except BrokenProcessPool as error:
                raise BadOption(
                    "a process died, perhaps for want of memory; the same command with fewer --workers goes on"
                ) from error
            finally:
                executor.shutdown(cancel_futures=True)
    return [report for report in reports if report is not None]


def _end_with_parent() -> None:
    """Make this process end when the command is killed: the pool alone would leave it waiting for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(
            f"unexpected argument {argv[1]!r}; put a pattern in quotes: --input='photos/*.png'"
        )
    try:
        _prepare()
    except JaxcodecError as error:
        sys.exit(f"error: {error}")


def _prepare() -> None:
    output = Path(_OUTPUT.value)
    pictures = list_images(_INPUT.value)
    settings = {
        "encoding": _ENCODING.value,
        "tile_size": _TILE_SIZE.value or None,
        "min_size": _MIN_SIZE.value,
    }
    tasks = plan(pictures, output, force=_FORCE.value, shards=_SHARDS.value, **settings)
    reports = run(tasks, workers=_WORKERS.value or os.cpu_count() or 1)
    unreadable = sorted((name, reason) for report in reports for name, reason in report["unreadable"])
    too_small = sorted((name, size) for report in reports for name, size in report["too_small"])
    for name, reason in unreadable:
        print(f"unreadable: {name}: {reason}", file=sys.stderr)
    for name, size in too_small:
        print(f"too small: {name}: {size}, --min_size={_MIN_SIZE.value}", file=sys.stderr)
    used = len(pictures) - len(unreadable) - len(too_small)
    if not used:
        raise BadImage(f"{_INPUT.value}: none of the {len(pictures)} pictures can be used")
    shards = [Shard(**report["shard"]) for report in reports]
    index = RecordIndex(
        encoding=_ENCODING.value,
        tile_size=_TILE_SIZE.value or None,
        channels=3,
        pictures=used,
        shards=tuple(shard for shard in shards if shard.records),
        unreadable=tuple(unreadable),
        too_small=tuple(too_small),
    )
    write_index(output, index)
    if unreadable or too_small:
        print(f"left out {len(unreadable)} unreadable and {len(too_small)} small pictures", file=sys.stderr)
    print(f"{index.records} records of {used} pictures in {len(index.shards)} shards: {output / INDEX_NAME}")


if __name__ == "__main__":
    app.run(main)
