"""Pictures in array_record shards, for training sets too large to decode from picture files again and again.

One record is one picture, or one tile of it, in an existing format: a `.npy` file (uint8 `[H, W, 3]`, which is
read without decoding) or a lossless WebP file. A folder of shards holds `index.json`, which says how many records
there are and how small the smallest is, so that nothing needs to be opened to find that out.
`scripts/prepare_dataset.py` writes such folders.
"""

from __future__ import annotations

import glob
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxcodec.data.files import write_bytes
from jaxcodec.data.images import image_bytes, read_image
from jaxcodec.errors import BadImage, BadOption, MissingDependency

ENCODINGS = ("raw", "webp")
INDEX_NAME = "index.json"
EXTENSION = ".array_record"
# One record per chunk, so that one is read without its neighbours; both encodings are as small as they get.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# The threads are the caller's; the reader needs none of its own.
_READER_OPTIONS = {"max_parallelism": "0"}
_NPY_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class Shard:
    """One `.array_record` file of an index.

    Attributes
    ----------
    file
        Its name, without a folder.
    size
        In bytes.
    records
        How many it holds.
    pixels
        In all its records together.
    smallest_side
        The least height or width of a record.
    """

    file: str
    size: int
    records: int
    pixels: int
    smallest_side: int


@dataclass(frozen=True)
class RecordIndex:
    """What `index.json` says about a folder of shards.

    Attributes
    ----------
    encoding
        One of `ENCODINGS`.
    tile_size
        Pixels per side of a tile; None where records are whole pictures.
    channels
        Of every record: 3.
    pictures
        How many went in.
    shards
        The files, in order.
    unreadable, too_small
        Name and reason for each picture that was left out.
    """

    encoding: str
    tile_size: int | None
    channels: int
    pictures: int
    shards: tuple[Shard, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    too_small: tuple[tuple[str, str], ...] = ()

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(shard.records for shard in self.shards)

    @property
    def pixels(self) -> int:
        """Pixels of all records together."""
        return sum(shard.pixels for shard in self.shards)

    @property
    def smallest_side(self) -> int:
        """Least height or width of any record."""
        return min(shard.smallest_side for shard in self.shards)


# --- one record ---


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 `[H, W, 3]`: a grey picture `[H, W]` has its samples repeated."""
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def encode_record(pixels: np.ndarray, encoding: str) -> bytes:
    """Return the bytes of one record.

    Parameters
    ----------
    pixels
        uint8 `[H, W, 3]`, or `[H, W]`, whose samples are repeated.
    encoding
        `raw` for a `.npy` file, `webp` for lossless WebP, at most 16383 pixels per side.

    Raises
    ------
    BadOption
        If the encoding is unknown or cannot hold the picture.
    """
    if encoding == "webp":
        return image_bytes(as_rgb(pixels), extension=".webp")
    if encoding != "raw":
        raise BadOption(f"no record encoding is called '{encoding}'; choose one of {', '.join(ENCODINGS)}")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(as_rgb(pixels)), version=(1, 0))
    return buffer.getvalue()


def decode_record(data: bytes) -> np.ndarray:
    """Return the pixels of a record, uint8 `[H, W, 3]`; of a raw one a read-only view of `data`.

    Raises
    ------
    BadImage
        If it is neither a `.npy` file of such an array nor a picture file, or is cut.
    """
    if not data.startswith(_NPY_MAGIC):
        return as_rgb(read_image(data).pixels)
    offset = 10 + int.from_bytes(data[8:10], "little")
    shape = _npy_shape(data[:offset])
    if len(data) - offset != math.prod(shape):
        raise BadImage(f"a record has {len(data) - offset} samples instead of {list(shape)}; prepare it anew")
    return np.frombuffer(data, np.uint8, offset=offset).reshape(shape)


@lru_cache(maxsize=4096)  # nearly all headers of a set are alike, and parsing one takes longer than a crop
def _npy_shape(header: bytes) -> tuple[int, ...]:
    stream = io.BytesIO(header)
    stream.seek(len(_NPY_MAGIC))
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # numpy parses it as Python, and raises what that does
        raise BadImage(f"a record's .npy header is damaged ({error}); prepare it anew") from error
    if dtype != np.uint8 or fortran_order or len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise BadImage(f"a record holds {dtype} {list(shape)}, not uint8 [H, W, 3] in C order")
    return shape


def cut_tiles(pixels: np.ndarray, tile_size: int | None) -> Iterator[np.ndarray]:
    """Cut a picture `[H, W, 3]` into tiles that cover it; views, in raster order.

    There are as few as possible, and neighbours overlap evenly. Where the picture is smaller than a tile it
    stays whole, in that direction; with `tile_size` None it is the only tile.
    """
    rows, columns = (_starts(extent, tile_size) for extent in pixels.shape[:2])
    for top in rows:
        for left in columns:
            yield pixels[
                top : top + (tile_size or pixels.shape[0]), left : left + (tile_size or pixels.shape[1])
            ]


def _starts(extent: int, tile_size: int | None) -> list[int]:
    if tile_size is None or extent <= tile_size:
        return [0]
    last = -(-extent // tile_size) - 1
    return [k * (extent - tile_size) // last for k in range(last + 1)]


# --- folders of shards ---


def write_index(folder: str | Path, index: RecordIndex) -> Path:
    """Write `index.json`, replacing one that exists, and return its path."""
    summary = {"records": index.records, "pixels": index.pixels, "smallest_side": index.smallest_side}
    text = json.dumps({"version": 1, **summary, **asdict(index)}, indent=1) + "\n"
    return write_bytes(Path(folder) / INDEX_NAME, text.encode(), force=True)


def read_index(folder: str | Path) -> RecordIndex:
    """Read the `index.json` of a folder.

    Raises
    ------
    BadImage
        If there is none, or it is not one that `write_index` wrote.
    """
    path = Path(folder) / INDEX_NAME
    advice = "run scripts/prepare_dataset.py to its end"
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        if fields["version"] != 1:
            raise BadImage(f"{path} is of version {fields['version']}; this jaxcodec reads version 1")
        index = RecordIndex(
            encoding=str(fields["encoding"]),
            tile_size=None if fields["tile_size"] is None else int(fields["tile_size"]),
            channels=int(fields["channels"]),
            pictures=int(fields["pictures"]),
            shards=tuple(Shard(**shard) for shard in fields["shards"]),
            unreadable=tuple((str(name), str(reason)) for name, reason in fields["unreadable"]),
            too_small=tuple((str(name), str(reason)) for name, reason in fields["too_small"]),
        )
    except OSError as error:
        raise BadImage(f"{path} cannot be read ({error.strerror or error}); {advice}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadImage(f"{path} is not an index of records ({error!r}); {advice}") from error
    if not index.shards:
        raise BadImage(f"{path} lists no records; {advice}")
    return index


def is_records(place: str | Path) -> bool:
    """Return whether a place names record files: by its ending, or as a folder that holds some."""
    if os.path.isdir(place):
        return any(name == INDEX_NAME or name.endswith(EXTENSION) for name in os.listdir(place))
    return str(place).endswith(EXTENSION)


def list_records(place: str | Path) -> tuple[list[Path], RecordIndex]:
    """Return the shards of a place and an index of just those.

    Parameters
    ----------
    place
        A folder that `scripts/prepare_dataset.py` filled, one of its `.array_record` files, or a pattern of
        such files, which may lie in several folders.

    Raises
    ------
    BadImage
        If there are none, an index is missing, or a shard is missing, cut or in no index.
    """
    if os.path.isdir(place):
        index = read_index(place)
        paths = [Path(place) / shard.file for shard in index.shards]
    elif os.path.isfile(place):
        paths = [Path(place)]
    else:
        paths = sorted(Path(match) for match in glob.glob(str(place), recursive=True))
    if not paths:
        raise BadImage(f"{place}: no record files here; give a folder that scripts/prepare_dataset.py filled")
    indices = {folder: read_index(folder) for folder in sorted({path.parent for path in paths})}
    listed = {folder / shard.file: shard for folder, index in indices.items() for shard in index.shards}
    for path in paths:
        if path not in listed:
            raise BadImage(f"{path} is not listed in the {INDEX_NAME} beside it; remove it or prepare anew")
        if not path.is_file() or path.stat().st_size != listed[path].size:
            raise BadImage(f"{path} is missing or cut; copy it again, or rerun scripts/prepare_dataset.py")
    first = next(iter(indices.values()))
    return paths, RecordIndex(
        encoding=first.encoding,
        tile_size=first.tile_size,
        channels=first.channels,
        pictures=sum(index.pictures for index in indices.values()),
        shards=tuple(listed[path] for path in paths),
        unreadable=tuple(pair for index in indices.values() for pair in index.unreadable),
        too_small=tuple(pair for index in indices.values() for pair in index.too_small),
    )


def write_shard(path: str | Path, records: Iterable[bytes]) -> None:
    """Write records to an `.array_record` file; the same records make the same bytes.

    Raises
    ------
    BadOption
        If the file cannot be written.
    MissingDependency
        If array_record is not installed.
    """
    try:
        writer = _array_record("array_record_module").ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        try:
            for record in records:
                writer.write(record)
        finally:
            writer.close()
    except (ValueError, RuntimeError, OSError) as error:
        raise BadOption(f"{path} cannot be written: {_line(error)}") from error


class RecordSource:
    """The pictures of shards by number; may be read from many threads, and sent to other processes.

    Attributes
    ----------
    place, index
        As given to and returned by `list_records`.

    Raises
    ------
    BadImage
        As `list_records`; or if a shard is damaged, on opening or reading it.
    MissingDependency
        If array_record is not installed.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = place
        paths, self.index = list_records(place)
        module = _array_record("array_record_data_source")
        try:
            self._records = module.ArrayRecordDataSource([str(path) for path in paths], _READER_OPTIONS)
        except (ValueError, RuntimeError, OSError) as error:
            raise BadImage(f"{place}: not readable as records ({_line(error)})") from error
        _keep_freed_memory()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _keep_freed_memory()  # in this process too

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, perhaps read-only."""
        try:
            data = self._records[number]
        except (ValueError, RuntimeError, OSError) as error:
            raise BadImage(f"{self.place}: record {number} is damaged ({_line(error)})") from error
        try:
            return decode_record(data)
        except BadImage as error:
            raise BadImage(f"{self.place}: record {number}: {error}") from error


def _keep_freed_memory() -> None:
    """Let glibc's malloc keep what a read frees, so that the next read finds its pages in place.

    A freed block of up to 32 MiB raises the sizes below which malloc neither maps nor returns memory. Without it
    each record costs some 500 page faults, which were measured to take six times as long as the read itself.
    """
    bytes(31 << 20)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _array_record(name: str) -> Any:
    try:
        from array_record.python import array_record_data_source, array_record_module
    except ImportError as error:
        raise MissingDependency("record files need array_record; pip install 'jaxcodec[train]'") from error
    return array_record_module if name == "array_record_module" else array_record_data_source
