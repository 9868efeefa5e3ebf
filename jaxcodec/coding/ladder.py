"""Rate points of one network: each rung has a quantisation step per latent channel and tables of its own.

A rung turns latents `y` into symbols near `y / step` (with an eye on their cost, `rate_distortion.py`), and a
decoder turns those into `symbol * step`. Many rungs close to each other give a network any rate, and each is coded
with integer tables made for it; nothing is interpolated by the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from jaxcodec.coding.class_fitting import fit_classes
from jaxcodec.coding.classes import ClassTables
from jaxcodec.coding.rate_distortion import quantise_for_rate
from jaxcodec.errors import CorruptFile

_REMEDY = "export the weights again or get another copy of their file"
_TURNS = 2
"""How often symbols and tables are made in turn where symbols depend on tables."""

_RUNGS_PER_MAP = 8
"""So many neighbouring rungs code their maps of classes with the same tables, which hardly change with the rate and
are as large as all others."""

_LARGEST_SYMBOL = 2**20
"""Symbols are clipped to this: far outside any trained range, exact in float32."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """The rungs, from the lowest rate to the highest.

    Attributes
    ----------
    steps
        float32 `[R, C]`, positive: the quantisation step of each latent channel at each rung.
    qualities
        int32 `[R]`, ascending, positive: the quality of each rung in hundredths, 325 for quality 3.25.
    bpp
        float32 `[R]`: the mean rate of the training photos in bits per pixel, headers not counted. A first
        guess for a search of rates; a decoder does not need it.
    weights
        float32 `[R]`, not negative: what an encoder pays for distortion at each rung, in bits per squared step; 0
        for plain rounding. A decoder does not need it.
    tables
        `R` of them, for `C` channels. Those of a ladder from a file are built, and checked, when they are
        asked for.

    Raises
    ------
    CorruptFile
        If anything of the above does not hold, since ladders usually come from a file. The arrays are copied
        and made read-only.
    """

    steps: np.ndarray
    qualities: np.ndarray
    bpp: np.ndarray
    weights: np.ndarray
    tables: Sequence[ClassTables]

    def __post_init__(self) -> None:
        rungs = len(self.tables)
        expected = {
            "steps": (np.float32, 2),
            "qualities": (np.int32, 1),
            "bpp": (np.float32, 1),
            "weights": (np.float32, 1),
        }
        for name, (dtype, dimensions) in expected.items():
            array = np.array(getattr(self, name))
            if array.dtype != dtype or array.ndim != dimensions or len(array) != rungs or not array.size:
                raise CorruptFile(
                    f"ladder: {name} must be {np.dtype(dtype)} of {dimensions} dimensions, the first {rungs}, "
                    f"got {array.dtype} {list(array.shape)}; {_REMEDY}"
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not (np.isfinite(self.steps) & (self.steps > 0)).all():
            raise CorruptFile(f"ladder: steps must be finite and positive; {_REMEDY}")
        if self.qualities[0] < 1 or (self.qualities[1:] <= self.qualities[:-1]).any():
            raise CorruptFile(f"ladder: qualities must be positive and ascending; {_REMEDY}")
        for name in ("bpp", "weights"):
            if not (np.isfinite(getattr(self, name)) & (getattr(self, name) >= 0)).all():
                raise CorruptFile(f"ladder: {name} must be finite and not negative; {_REMEDY}")
        if not isinstance(self.tables, _StoredTables):
            object.__setattr__(self, "tables", tuple(self.tables))
            if len({len(tables.classes) for tables in self.tables}) != 1:
                raise CorruptFile(f"ladder: all tables must have as many classes; {_REMEDY}")
            channels = {tables.channels for tables in self.tables}
        else:
            channels = {self.tables.channels}
        if channels != {self.channels}:
            raise CorruptFile(
                f"ladder: tables of {sorted(channels)} channels for steps of {self.channels}; {_REMEDY}"
            )

    @property
    def channels(self) -> int:
        """The number of latent channels."""
        return self.steps.shape[1]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return flat arrays for a safetensors file.

        Returns
        -------
        dict
            The fields as `ladder_steps`, `ladder_qualities`, `ladder_bpp` and `ladder_weights`; and those of
            `ClassTables.to_arrays`, rung after rung: `ladder_counts` uint16 `[n]`, `ladder_lengths` uint16
            `[R, K, C]`, `ladder_offsets` int32 `[R, K, C]` and `ladder_block` uint16 `[R]`. The tables of maps are
            `ladder_map_counts` uint16 `[M, n]`, n 0 for one class, and `ladder_maps` uint16 `[R]` says which of
            them is a rung's.
        """
        parts = [tables.to_arrays() for tables in self.tables]
        stacked = {name: np.stack([part[name] for part in parts]) for name in ("lengths", "offsets")}
        maps, map_of = np.unique([part["map_counts"] for part in parts], axis=0, return_inverse=True)
        shape = (len(parts), len(self.tables[0].classes), self.channels)
        return {
            "ladder_steps": np.array(self.steps),
            "ladder_qualities": np.array(self.qualities),
            "ladder_bpp": np.array(self.bpp),
            "ladder_weights": np.array(self.weights),
            "ladder_counts": np.concatenate([part["counts"] for part in parts]),
            "ladder_lengths": stacked["lengths"].reshape(shape),
            "ladder_offsets": stacked["offsets"].reshape(shape),
            "ladder_map_counts": maps,
            "ladder_maps": map_of.reshape(-1).astype(np.uint16),
            "ladder_block": np.concatenate([part["block"] for part in parts]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Ladder:
        """Take a ladder from `to_arrays`, other arrays beside it being ignored.

        The tables of a rung are built when it is used: that takes some milliseconds each.

        Raises
        ------
        CorruptFile
            If the arrays are not such; for the content of the tables of a rung, when they are first used.
        """
        names = ("ladder_steps", "ladder_qualities", "ladder_bpp", "ladder_weights")
        for name in names:
            if name not in arrays:
                raise CorruptFile(f"ladder: the array '{name}' is missing; {_REMEDY}")
        steps, qualities, bpp, weights = (arrays[name] for name in names)
        return cls(steps, qualities, bpp, weights, _StoredTables(arrays))

    def quantise(self, latents: np.ndarray, rung: int, *, thrift: float = 1.0) -> np.ndarray:
        """The symbols of float32 `[h, w, C]` latents at a rung, int32, as its tables and weight would have them.

        `thrift` multiplies the weight: below 1 the file gets smaller, and the picture worse.
        """
        return _quantise(latents, self.steps[rung], self.tables[rung], thrift * float(self.weights[rung]))

    def dequantise(self, symbols: np.ndarray, rung: int) -> np.ndarray:
        """What a decoder takes int32 `[h, w, C]` symbols of a rung for: float32 latents, symbols times steps."""
        return (symbols * self.steps[rung]).astype(np.float32)


def to_symbols(latents: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Quantise float32 `[h, w, C]` latents with steps float32 `[C]`.

    Returns
    -------
    np.ndarray
        int32 `[h, w, C]`, `round(latents / steps)`, halves to even, within 2^20 of zero.
    """
    return np.rint(_scaled(latents, steps)).astype(np.int32)


def _quantise(
    latents: np.ndarray, steps: np.ndarray, tables: ClassTables | None, weight: float
) -> np.ndarray:
    if tables is None or weight <= 0:
        return to_symbols(latents, steps)
    return quantise_for_rate(_scaled(latents, steps), tables, weight)


def _scaled(latents: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return np.clip(latents / steps, -_LARGEST_SYMBOL, _LARGEST_SYMBOL)


def fit_ladder(
    latents: Sequence[np.ndarray],
    steps: np.ndarray,
    qualities: np.ndarray,
    *,
    pixels_per_position: int,
    classes: int,
    block: int,
    weight: float = 0.0,
    rounds: int = 3,
    first_rounds: int = 8,
    smoothing: float = 0.3,
    least_occurrences: float = 0.5,
) -> Ladder:
    """Make the tables of each rung from the latents of training photos.

    Parameters
    ----------
    latents
        float32 `[h, w, C]` of each photo, finite.
    steps, qualities
        As in `Ladder`.
    pixels_per_position
        Pixels that a position of the latents stands for, 64 for a stride of 8.
    classes, block, smoothing, least_occurrences
        As in `fit_classes`.
    weight
        As in `Ladder.weights`, for all rungs. Symbols then depend on the tables and tables on the symbols: they are
        made in turn.
    rounds
        Of `fit_classes` at each rung, which begins with the classes of the rung below. Rungs far apart (steps
        by a factor 1.7) lose 1 % with so few.
    first_rounds
        The same at the lowest rung. (Going up costs up to 0.2 % more bits than eight rounds at each rung would,
        on synthetic latents; going down, up to 0.5 %.)
    """
    steps, qualities = np.asarray(steps, np.float32), np.asarray(qualities, np.int32)
    if not latents or any(
        y.dtype != np.float32 or y.ndim != 3 or y.shape[2:] != steps.shape[1:] for y in latents
    ):
        raise ValueError("latents must be float32 [h, w, C], with as many channels as steps [R, C]")
    if not all(np.isfinite(y).all() for y in latents):
        raise ValueError("latents must be finite")
    if steps.ndim != 2 or len(steps) != len(qualities) or not (steps > 0).all() or pixels_per_position < 1:
        raise ValueError("steps must be positive [R, C], qualities [R], pixels_per_position at least 1")
    pixels = pixels_per_position * sum(y.shape[0] * y.shape[1] for y in latents)
    tables: list[ClassTables] = []
    bpp: list[float] = []
    for rung, step in enumerate(steps):
        fitted = tables[-1] if tables else None
        turns = _TURNS if weight > 0 else 1
        for turn in range(turns):
            symbols = [_quantise(y, step, fitted, weight) for y in latents]
            fitted = fit_classes(
                symbols,
                classes=classes,
                block=block,
                rounds=first_rounds if not tables and turn == 0 else -(-rounds // turns),
                smoothing=smoothing,
                least_occurrences=least_occurrences,
                start=fitted,
                keep_map=rung % _RUNGS_PER_MAP > 0,
            )
        assert fitted is not None
        tables.append(fitted)
        bpp.append(sum(fitted.ideal_bits(_quantise(y, step, fitted, weight)) for y in latents) / pixels)
    weights = np.full(len(steps), weight, np.float32)
    return Ladder(steps, qualities, np.array(bpp, np.float32), weights, tuple(tables))


class _StoredTables(Sequence[ClassTables]):
    """The tables of all rungs as `Ladder.to_arrays` lays them out, built one rung at a time and kept."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        expected = {"counts": (np.uint16, 1), "lengths": (np.uint16, 3), "offsets": (np.int32, 3)}
        expected |= {"map_counts": (np.uint16, 2), "block": (np.uint16, 1)}
        for name, (dtype, dimensions) in expected.items():
            if f"ladder_{name}" not in arrays:
                raise CorruptFile(f"ladder: the array 'ladder_{name}' is missing; {_REMEDY}")
            array = arrays[f"ladder_{name}"]
            if array.dtype != dtype or array.ndim != dimensions:
                raise CorruptFile(
                    f"ladder: 'ladder_{name}' must be {np.dtype(dtype)} of {dimensions} dimensions, "
                    f"got {array.dtype} {list(array.shape)}; {_REMEDY}"
                )
        self._arrays = {name: arrays[f"ladder_{name}"] for name in expected}
        lengths = self._arrays["lengths"]
        rungs = len(lengths)
        # The first ladders had a map for every rung.
        self._maps = arrays.get("ladder_maps", np.arange(rungs, dtype=np.uint16))
        if self._maps.dtype != np.uint16 or self._maps.shape != (rungs,):
            raise CorruptFile(
                f"ladder: 'ladder_maps' must be uint16 [{rungs}], "
                f"got {self._maps.dtype} {list(self._maps.shape)}; {_REMEDY}"
            )
        if not lengths.size or self._arrays["offsets"].shape != lengths.shape:
            raise CorruptFile(f"ladder: 'ladder_offsets' must be as large as 'ladder_lengths'; {_REMEDY}")
        if self._maps.max() >= len(self._arrays["map_counts"]) or len(self._arrays["block"]) != rungs:
            raise CorruptFile(
                f"ladder: 'ladder_map_counts' and 'ladder_block' must be of all {rungs} rungs; {_REMEDY}"
            )
        self._ends = np.cumsum(lengths.reshape(rungs, -1).sum(axis=1, dtype=np.int64))
        if self._ends[-1] != len(self._arrays["counts"]):
            raise CorruptFile(
                f"ladder: 'ladder_lengths' do not add up to the length of 'ladder_counts'; {_REMEDY}"
            )
        self._built: dict[int, ClassTables] = {}

    @property
    def channels(self) -> int:
        return self._arrays["lengths"].shape[2]

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> ClassTables: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ClassTables, ...]: ...
    def __getitem__(self, index: int | slice) -> ClassTables | tuple[ClassTables, ...]:
        if isinstance(index, slice):
            return tuple(self[rung] for rung in range(len(self))[index])
        rung = range(len(self))[index]
        if rung not in self._built:
            self._built[rung] = self._build(rung)
        return self._built[rung]

    def _build(self, rung: int) -> ClassTables:
        start = self._ends[rung - 1] if rung else 0
        lengths = self._arrays["lengths"][rung]
        arrays = {
            "counts": self._arrays["counts"][start : self._ends[rung]],
            "lengths": lengths.ravel(),
            "offsets": self._arrays["offsets"][rung].ravel(),
            "map_counts": self._arrays["map_counts"][self._maps[rung]],
            "classes": np.array([len(lengths)], np.uint16),
            "block": self._arrays["block"][rung : rung + 1],
        }
        try:
            return ClassTables.from_arrays(arrays)
        except CorruptFile as error:
            raise CorruptFile(f"ladder, rung {rung}: {error}") from error
