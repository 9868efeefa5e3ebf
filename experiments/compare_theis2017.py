r"""Short trainings of theis2017 against each other: the paper's choices, each against the alternative.

python -m experiments.compare_theis2017 --train_data=PHOTOS --test_data=OTHER_PHOTOS --workdir=runs/compare \
  --output=results/theis2017_choices.json

| arm             | what is trained                                                                     |
|-----------------|-------------------------------------------------------------------------------------|
| straight_through | rounding with the gradient of the identity, all latent channels from the start      |
| incremental      | the same, channels enabled by groups as progress stalls                             |
| noise            | the decoder sees noisy latents in training, as in Ballé et al. 2017                 |
| scales           | from `straight_through`, only the scales, for another lambda                        |
| scales_and_prior | the same, with the mixtures                                                         |
| separate         | a network for that lambda, as long as `straight_through`                            |

All begin with principal components and take `--steps` updates of the same batches (scales `--scale_steps`), with every
seed. Reported is the loss on other photos, rounded: bits per pixel, by histograms of the training photos' latents,
+ lambda * 255^2 * mean squared error. Finished trainings are not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from tqdm import tqdm

from experiments.short_training import averaged_params, train
from jaxcodec.codecs.theis2017.codec import AutoencoderCodec
from jaxcodec.codecs.theis2017.export import interpolated_steps
from jaxcodec.codecs.theis2017.model import STRIDE, AutoencoderConfig
from jaxcodec.coding.ladder import fit_ladder
from jaxcodec.data.crops import centre_crops
from jaxcodec.data.files import write_bytes
from jaxcodec.data.stream import read_all
from jaxcodec.zoo.weights import Weights, round_params, save_weights

_TRAIN_DATA = flags.DEFINE_string("train_data", None, "Training photos.", required=True)
_TEST_DATA = flags.DEFINE_string("test_data", None, "Other photos.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Gets a folder per training.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The JSON file.", required=True)
_STEPS = flags.DEFINE_integer("steps", 500, "Updates of a network.", lower_bound=1)
_SCALE_STEPS = flags.DEFINE_integer("scale_steps", 200, "Updates of the scales.", lower_bound=1)
_CHANNELS = flags.DEFINE_integer("channels", 32, "Channels of the networks.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Crops of 128x128 per update.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 6e-4, "Peak learning rate.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Seeds of the trainings.")

LAMBDA = 0.0068
OTHERS = (0.0015, 0.031)


def _train(name: str, *arguments: str, steps: int) -> Path:
    """Run `experiments.theis2017` unless it has been; its workdir."""
    folder = Path(_WORKDIR.value) / name
    train(
        "theis2017",
        folder,
        *(f"--train_data={_TRAIN_DATA.value}", f"--channels={_CHANNELS.value}"),
        *(f"--batch_size={_BATCH_SIZE.value}", f"--learning_rate={_RATE.value}", "--ema_decay=0.99"),
        f"--log_every={steps}",
        *arguments,
        steps=steps,
    )
    return folder


def _read(workdir: Path) -> tuple[AutoencoderConfig, dict[str, Any], float]:
    """Network, averaged parameters and training seconds of a run."""
    network, params, seconds = averaged_params(workdir)
    return AutoencoderConfig(**network), params, seconds


def _export_network(workdir: Path) -> Path:
    """The whole parameters as a weight file, for --init_weights; it has no tables and codes nothing."""
    config, params, _ = _read(workdir)
    tables = {"unused": np.zeros(1, np.int32)}
    return save_weights(
        workdir, codec="theis2017", quality=0, config=config.to_dict(), params=params, tables=tables
    )


def measure(workdir: Path, train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> dict[str, float]:
    """Loss, rate and PSNR on test photos of a run for one lambda; see the module."""
    config, params, seconds = _read(workdir)
    network_params = round_params({part: params[part] for part in ("analysis", "synthesis")})
    codec = AutoencoderCodec("theis2017", [])
    network = codec.build(Weights("theis2017", 0, config.to_dict(), network_params, {}, b"", Path()))
    steps = interpolated_steps(params["log_scales"], 0.0).astype(np.float32)
    ladder = fit_ladder(
        codec.analyse(network, train),
        steps[None],
        np.array([1]),
        pixels_per_position=STRIDE**2,
        classes=1,
        block=1,
    )
    symbols = [ladder.quantise(y, 0) for y in codec.analyse(network, test)]
    decoded = codec.synthesise(network, [q * steps for q in symbols], [photo.shape[:2] for photo in test])
    pixels = sum(photo.shape[0] * photo.shape[1] for photo in test)
    bpp = sum(ladder.tables[0].ideal_bits(q) for q in symbols) / pixels
    mse = float(np.mean([np.mean((a / 255.0 - b / 255.0) ** 2) for a, b in zip(decoded, test, strict=True)]))
    return {
        "loss": bpp + config.lambdas[0] * 255.0**2 * mse,
        "bpp": bpp,
        "psnr": -10.0 * float(np.log10(mse)),
        "seconds": seconds,
    }


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
    # orbax tells each of its steps.
    logging.set_verbosity(logging.ERROR)
    fit_on = centre_crops(read_all(str(_TRAIN_DATA.value)), size=128)
    test = centre_crops(read_all(str(_TEST_DATA.value)), size=256)
    rows = []

    def note(arm: str, weight: float, seed: str, folder: Path) -> None:
        rows.append({"arm": arm, "lambda": weight, "seed": int(seed), **measure(folder, fit_on, test)})
        tqdm.write(
            "{arm:16}  lambda {lambda:g}  seed {seed}  loss {loss:.4f}  {bpp:.4f} bpp  {psnr:.2f} dB".format(
                **rows[-1]
            )
        )

    with tqdm(total=len(_SEEDS.value) * (3 + 3 * len(OTHERS)), disable=None, unit="training") as progress:
        for seed in _SEEDS.value:
            own = (f"--seed={seed}", f"--lambdas={LAMBDA}")
            for arm, flag in (
                ("straight_through", "--incremental=0"),
                ("incremental", "--incremental=16"),
                ("noise", "--quantiser=noise"),
            ):
                extra = ("--plateau_window=15",) if arm == "incremental" else ()
                note(arm, LAMBDA, seed, _train(f"{arm}_{seed}", *own, flag, *extra, steps=_STEPS.value))
                progress.update()
            base = _export_network(Path(_WORKDIR.value) / f"straight_through_{seed}")
            for weight in OTHERS:
                other = (f"--seed={seed}", f"--lambdas={weight}")
                note(
                    "separate",
                    weight,
                    seed,
                    _train(f"separate_{weight:g}_{seed}", *other, steps=_STEPS.value),
                )
                progress.update()
                for arm in ("scales", "scales_and_prior"):
                    start = (f"--init_weights={base}", f"--train={arm}")
                    folder = _train(f"{arm}_{weight:g}_{seed}", *other, *start, steps=_SCALE_STEPS.value)
                    note(arm, weight, seed, folder)
                    progress.update()
    settings = {
        flag: flags.FLAGS[flag].value
        for flag in ("steps", "scale_steps", "channels", "batch_size", "learning_rate")
    }
    text = json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n"
    write_bytes(str(_OUTPUT.value), text.encode(), force=True)


if __name__ == "__main__":
    app.run(main)
