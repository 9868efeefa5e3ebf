"""Training crops streamed from picture files or records by grain, the same however many processes share them.

The crops of global batch n are a function of the data, the seed, the batch size and the augmentation alone: not of
the number of processes, of workers, or of where a run was resumed. So the position of a run in its data is its
step number, and nothing else has to be saved. Crops are uint8 `[B, S, S, 3]`.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxcodec.data.files import list_images
from jaxcodec.data.images import read_image
from jaxcodec.data.records import RecordSource, as_rgb, is_records
from jaxcodec.errors import BadImage, BadOption, MissingDependency

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
_SUPPORT = 2  # source pixels that bicubic interpolation reaches to either side, per unit of reduction
_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Augmentation:
    """How a crop is cut from a picture.

    Attributes
    ----------
    crop_size
        S, pixels per side.
    flip
        Mirror half of the crops, left to right.
    min_scale
        Reduce each picture before cutting, by a factor drawn log-uniformly from [min_scale, 1], but never so
        far that the crop no longer fits; 1 keeps the pixels as they are.
    """

    crop_size: int
    flip: bool = True
    min_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.crop_size < 1:
            raise BadOption(f"--crop_size={self.crop_size} must be at least 1")
        if not 0.0 < self.min_scale <= 1.0:
            raise BadOption(f"--min_scale={self.min_scale} must be above 0 and at most 1")


def crop(pixels: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Cut one random crop: uint8 `[H, W, 3]` -> uint8 `[S, S, 3]`.

    Raises
    ------
    BadImage
        If the picture is smaller than the crop.
    """
    size, (height, width) = augmentation.crop_size, pixels.shape[:2]
    if min(height, width) < size:
        raise BadImage(f"a picture of {width}x{height} is smaller than --crop_size={size}")
    lowest = max(augmentation.min_scale, size / min(height, width))
    scale = math.exp(rng.uniform(math.log(lowest), 0.0))
    rows, columns = (max(size, round(extent * scale)) for extent in (height, width))
    top, left = int(rng.integers(rows - size + 1)), int(rng.integers(columns - size + 1))
    mirrored = augmentation.flip and rng.random() < 0.5
    if (rows, columns) == (height, width):
        part = pixels[top : top + size, left : left + size]
    else:
        part = _reduced(pixels, (rows, columns), top, left, size)
    return _mirrored(part) if mirrored else np.ascontiguousarray(part)


def _mirrored(pixels: np.ndarray) -> np.ndarray:
    out = np.empty(pixels.shape, pixels.dtype)
    for channel in range(3):  # a copy of reversed pixels of three bytes takes six times as long
        out[..., channel] = pixels[:, ::-1, channel]
    return out


def _reduced(pixels: np.ndarray, shape: tuple[int, int], top: int, left: int, size: int) -> np.ndarray:
    """Return `[size, size, 3]` at (top, left) of the picture reduced to `shape`, anti-aliased."""
    begins, ends, box = [], [], []
    for extent, reduced, start in zip(pixels.shape, shape, (top, left), strict=False):
        factor = extent / reduced
        margin = math.ceil(_SUPPORT * factor) + 1
        begin = max(0, math.floor(start * factor) - margin)
        begins.append(begin)
        ends.append(min(extent, math.ceil((start + size) * factor) + margin))
        box.append((start * factor - begin, min((start + size) * factor, extent) - begin))
    # Only what the filter reaches becomes a Pillow picture: of a large photo that is a small part.
    part = Image.fromarray(pixels[begins[0] : ends[0], begins[1] : ends[1]])
    (upper, lower), (near, far) = box
    resized = part.resize((size, size), Image.Resampling.BICUBIC, box=(near, upper, far, lower))
    return np.asarray(resized)


class PictureFiles:
    """Picture files by number, each decoded when it is asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return uint8 `[H, W, 3]`."""
        return as_rgb(read_image(self.paths[number]).pixels)

    def sizes(self) -> list[tuple[int, int]]:
        """Return width and height of each, from the headers."""
        with warnings.catch_warnings():  # of large pictures; read_image has a limit of its own
            warnings.simplefilter("ignore")
            with ThreadPoolExecutor(16) as executor:
                return list(executor.map(_size, self.paths))


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            return picture.size
    except (
        Exception
    ):  # another format, or damaged: this reads the first and says what is wrong with the other
        height, width = read_image(path).pixels.shape[:2]
        return width, height


def open_pictures(place: str | Path, *, crop_size: int = 1) -> PictureFiles | RecordSource:
    """Open a folder or pattern of pictures, or of records as `list_records` takes it.

    Whether each picture holds a crop is found out from headers, or from the index of the records.

    Raises
    ------
    BadImage
        If there is no such place, nothing in it, or pictures smaller than the crop: the first few are named.
    MissingDependency
        If it holds records and array_record is not installed.
    """
    if not os.path.exists(place) and not glob.has_magic(str(place)):
        raise BadImage(f"{place}: there is no such folder or file; give a folder, or a pattern in quotes")
    if is_records(place):
        source = RecordSource(place)
        side = source.index.smallest_side
        if side < crop_size:
            raise BadImage(
                f"{place}: the smallest record has a side of {side} pixels, smaller than --crop_size={crop_size}; "
                f"lower --crop_size, or prepare the records anew with --min_size={crop_size}"
            )
        return source
    source = PictureFiles(list_images(place))
    if crop_size > 1:
        sizes = zip(source.paths, source.sizes(), strict=True)
        small = [f"{path} ({w}x{h})" for path, (w, h) in sizes if min(w, h) < crop_size]
        if small:
            named = ", ".join(small[:3]) + (f" and {len(small) - 3} more" if len(small) > 3 else "")
            raise BadImage(f"smaller than --crop_size={crop_size}: {named}; remove them or lower --crop_size")
    return source


def read_all(place: str | Path) -> list[np.ndarray]:
    """Read every picture or record of a place into memory, uint8 `[H, W, 3]` each; see `total_bytes` first."""
    source = open_pictures(place)
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        return list(executor.map(source.__getitem__, range(len(source))))


def total_bytes(place: str | Path) -> int:
    """Return the size of all pictures of a place as uint8 `[H, W, 3]`, from headers or the records' index."""
    source = open_pictures(place)
    if isinstance(source, RecordSource):
        return 3 * source.index.pixels
    return 3 * sum(width * height for width, height in source.sizes())


@dataclass(frozen=True)
class Stream:
    """An endless stream of batches of crops; each picture gives one crop per epoch, in a new order each time.

    Attributes
    ----------
    place
        As in `open_pictures`.
    batch_size
        B, of all processes together.
    augmentation
        How crops are cut.
    seed
        Of the order and the crops, 0 to 2^32 - 1.
    workers
        Processes that read and cut beside this one; 0 leaves that to threads of this process. They import the
        main module, which therefore has to start its work under `if __name__ == "__main__"`.
    threads
        Threads per reading process, each of which makes a batch of its own.
    """

    place: str
    batch_size: int
    augmentation: Augmentation
    seed: int = 0
    workers: int = 0
    threads: int = field(default_factory=lambda: min(16, os.cpu_count() or 1))

    def __post_init__(self) -> None:
        for flag, least in (("batch_size", 1), ("seed", 0), ("workers", 0), ("threads", 1)):
            if not least <= getattr(self, flag) < 2**32:
                raise BadOption(f"--{flag}={getattr(self, flag)} must be at least {least} and below 2^32")

    @cached_property
    def source(self) -> PictureFiles | RecordSource:
        """The pictures, each found large enough for a crop; raises as `open_pictures` does."""
        return open_pictures(self.place, crop_size=self.augmentation.crop_size)

    def batches(
        self, start: int, *, process_index: int = 0, process_count: int = 1, stack: int | None = None
    ) -> Iterator[np.ndarray]:
        """Return this process's share of the batches from global number `start` on, without end.

        Parameters
        ----------
        start
            Number of the first batch: the step at which the run begins or resumes.
        process_index, process_count
            Which process this is of how many, P. The shares of all, concatenated in order, are the batch.
        stack
            K, to get K batches at a time, put together by a thread while the last K are used.

        Returns
        -------
        Iterator
            Of uint8 `[B/P, S, S, 3]`, or `[K, B/P, S, S, 3]`. Its `close()` ends threads and workers.

        Raises
        ------
        BadOption
            If P does not divide B, or the workers' batches do not fit into shared memory.
        BadImage
            If the place is empty, a picture too small or unreadable; while iterating, if one is damaged.
        MissingDependency
            If grain (or, for records, array_record) is not installed.
        """
        if start < 0 or not 0 <= process_index < process_count or (stack is not None and stack < 1):
            raise ValueError(f"{start=}, {process_index=}, {process_count=}, {stack=}")
        if self.batch_size % process_count:
            raise BadOption(
                f"--batch_size={self.batch_size} does not divide among {process_count} processes; "
                f"choose a multiple of {process_count}"
            )
        share = self.batch_size // process_count
        self._check_shared_memory(share)
        grain = _grain()
        # Seeds and numbers of our own rather than grain's defaults: its next version must give the same crops.
        order = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        dataset = (
            grain.MapDataset.source(self.source)
            .shuffle(seed=order)
            .repeat()
            .map_with_index(partial(_example, augmentation=self.augmentation, seed=self.seed))
            .batch(share)[start * process_count + process_index :: process_count]
            .to_iter_dataset(grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.threads))
        )
        if self.workers:
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers))
        return _iterate(iter(dataset), stack)

    def _check_shared_memory(self, share: int) -> None:
        needed = 4 * self.workers * share * 3 * self.augmentation.crop_size**2
        if self.workers and os.path.isdir(_SHARED_MEMORY):
            free = shutil.disk_usage(_SHARED_MEMORY).free
            if free < needed:  # else a worker dies of SIGBUS in the middle of the run
                raise BadOption(
                    f"--workers={self.workers} need {needed >> 20} MiB in {_SHARED_MEMORY}, which has "
                    f"{free >> 20} free; use --workers=0, or enlarge it (docker run --shm-size)"
                )


def _example(number: int, pixels: np.ndarray, *, augmentation: Augmentation, seed: int) -> np.ndarray:
    # Philox is counter-based: the number goes in the counter's highest word, so that streams do not meet.
    rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, number]))
    return crop(pixels, augmentation, rng)


def _iterate(iterator: Any, stack: int | None) -> Iterator[np.ndarray]:
    try:
        batches = map(np.asarray, iterator)  # of grain's own subclass, which lies in shared memory
        yield from batches if stack is None else _stacked(batches, stack)
    except Exception as error:
        if type(error).__name__ == "UnparsedFlagAccessError":  # grain reads a flag when it starts a worker
            raise BadOption(
                "--workers needs absl's flags parsed: start by absl.app.run(main), or call "
                "absl.flags.FLAGS.mark_as_parsed(), or use --workers=0"
            ) from error
        raise
    finally:
        iterator.close()


def _stacked(batches: Iterator[np.ndarray], stack: int) -> Iterator[np.ndarray]:
    def fill() -> np.ndarray:
        first = next(batches)
        stacked = np.empty((stack, *first.shape), first.dtype)
        for place, batch in zip(stacked, itertools.chain([first], batches), strict=False):
            place[...] = batch
        return stacked

    with ThreadPoolExecutor(1) as executor:
        ahead = executor.submit(fill)
        while True:
            ready, ahead = ahead.result(), executor.submit(fill)
            yield ready


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise MissingDependency("streaming needs grain; pip install 'jaxcodec[train]'") from error
    return grain
