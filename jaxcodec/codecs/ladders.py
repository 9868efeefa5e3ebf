"""Making the ladders of transform coders from training photos: which steps, which numbers, which tables.

A rung is a quantisation step for each latent channel; `jaxcodec.coding.ladder` fits its tables. Here the steps are
placed so that neighbouring rungs lie a few per cent of rate apart, and get the quality numbers by which users
know them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxcodec.coding.ladder import Ladder, fit_ladder

_COARSEST = 1.6
"""The steps of a network that was trained with step 1 reach from its inverse to this."""


@dataclass(frozen=True)
class LadderConfig:
    """How fine a ladder is, and how its tables are fitted.

    Attributes
    ----------
    classes, block
        Classes of blocks, and the side of a block in latent positions; see `jaxcodec.coding.classes`.
        One class gives the histograms of Theis et al. (2017), section 3.2.
    spacing
        Hundredths of quality between rungs.
    weight
        Bits per squared step of distortion, for the encoder; see `jaxcodec.coding.rate_distortion`.
    """

    classes: int = 16
    block: int = 1
    spacing: int = 3
    weight: float = 16.0


def absolute_quality(bpp: float) -> float:
    """The quality, in hundredths, of a mean rate on training photos: `100 (4 + log2 bpp)`."""
    return 100.0 * (4.0 + float(np.log2(bpp)))


def make_ladder(
    latents: Sequence[np.ndarray],
    steps_at: Callable[[float], np.ndarray],
    knots: Sequence[float],
    *,
    quality_of: Callable[[float], float],
    pixels_per_position: int,
    config: LadderConfig,
) -> Ladder:
    """Place rungs at equal distances of quality, above 0, and fit their tables; one where the rates are all one.

    Parameters
    ----------
    latents
        float32 `[h, w, C]`, of training photos.
    steps_at
        Gives the steps `[C]` at a position: the rate rises with the position.
    knots
        Positions, ascending, at which the rate is measured; in between its logarithm is interpolated.
    quality_of
        Gives the quality in hundredths of a rate in bits per pixel; rises with it.
    pixels_per_position
        Pixels that a position of the latents stands for.
    config
        Spacing and tables.
    """
    stacked = _stacked(latents)

    def fit(positions: Sequence[float], qualities: np.ndarray) -> Ladder:
        return fit_ladder(
            stacked,
            np.stack([steps_at(float(t)) for t in positions]).astype(np.float32),
            qualities,
            pixels_per_position=pixels_per_position,
            classes=config.classes,
            block=config.block,
            weight=config.weight,
        )

    rates = fit(knots, np.arange(1, len(knots) + 1)).bpp
    numbers = np.array([quality_of(float(rate)) for rate in rates])
    first, last = max(1.0, np.ceil(numbers[0] / config.spacing)), np.floor(numbers[-1] / config.spacing)
    if last < first:  # a single rate, most likely: it keeps its own number
        first = last = max(1.0, np.round(numbers.mean())) / config.spacing
    grid = np.arange(first, last + 1) * config.spacing
    # Halves are what people ask for, whatever the spacing.
    halves = np.arange(max(1.0, np.ceil(numbers[0] / 50.0)), np.floor(numbers[-1] / 50.0) + 1) * 50.0
    qualities = np.union1d(np.round(grid), halves).astype(np.int32)
    return fit(np.interp(qualities, numbers, np.asarray(knots)).tolist(), qualities)


def network_ladder(
    latents: Sequence[Sequence[np.ndarray]],
    qualities: Sequence[int],
    *,
    pixels_per_position: int,
    overlap: int,
    config: LadderConfig,
) -> list[Ladder]:
    """Ladders of several networks, one for each whole quality, that meet halfway.

    Quality q is network q with its own step, 1. In between, the quality is interpolated in the logarithm of the
    rate; each network serves the qualities up to the middle between its neighbours' and `overlap` hundredths more.
    Rungs of different networks have different numbers, by an offset of less than `config.spacing`.

    Parameters
    ----------
    latents
        Of each network, float32 `[h, w, C]` of each training photo.
    qualities
        Of each network, ascending.
    pixels_per_position
        Pixels that a position of the latents stands for.
    overlap, config
        In hundredths of quality; spacing and tables.
    """

    def fit(y: Sequence[np.ndarray], scales: np.ndarray, numbers: np.ndarray) -> Ladder:
        return fit_ladder(
            _stacked(y),
            np.repeat(scales[:, None], y[0].shape[2], axis=1).astype(np.float32),
            numbers,
            pixels_per_position=pixels_per_position,
            classes=config.classes,
            block=config.block,
            weight=config.weight,
        )

    scales = np.geomspace(_COARSEST, 1.0 / _COARSEST, 5)
    rates = [np.log(fit(y, scales, np.arange(1, 6)).bpp) for y in latents]
    own = np.array([rate[2] for rate in rates])  # at the step 1
    numbers = 100.0 * np.asarray(qualities)
    ladders = []
    for i, y in enumerate(latents):
        # Beyond the first and the last network, one goes on as between the two next to it.
        slope = np.gradient(own, numbers)
        outside = [own[0] - 100.0 * slope[0], *own, own[-1] + 100.0 * slope[-1]]
        around = [numbers[0] - 100.0, *numbers, numbers[-1] + 100.0]
        low = 0.5 * (around[i] + around[i + 1]) - overlap
        high = 0.5 * (around[i + 1] + around[i + 2]) + overlap
        # Offsets 0, 1, 2, ... make the rungs of neighbours distinct; the whole quality is a rung of its own.
        shift = i % config.spacing
        mine = np.arange(np.ceil(low / config.spacing), np.floor(high / config.spacing) + 1) * config.spacing
        mine = np.union1d(mine[mine != numbers[i]] + shift, [numbers[i]])
        mine = mine[~np.isin(mine, np.delete(numbers, i))]
        wanted = np.interp(mine, around, outside)
        chosen = np.exp(np.interp(wanted, rates[i], np.log(scales)))
        chosen[mine == numbers[i]] = 1.0
        ladders.append(fit(y, chosen, mine.astype(np.int32)))
    return ladders


def single_rung(
    latents: Sequence[np.ndarray], quality: int, *, pixels_per_position: int, config: LadderConfig
) -> Ladder:
    """A ladder with the one rung of a network's own step, 1: for a small file. Parameters as `network_ladder`."""
    return fit_ladder(
        _stacked(latents),
        np.ones((1, latents[0].shape[2]), np.float32),
        np.array([100 * quality], np.int32),
        pixels_per_position=pixels_per_position,
        classes=config.classes,
        block=config.block,
        weight=config.weight,
    )


def _stacked(latents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Crops one above the other, 16 to a picture, where they are of one width: a tenth of the calls.

    Only the map of classes notices, where a crop ends.
    """
    widths = {y.shape[1] for y in latents}
    if len(widths) != 1:
        return list(latents)
    return [np.concatenate(latents[i : i + 16]) for i in range(0, len(latents), 16)]
