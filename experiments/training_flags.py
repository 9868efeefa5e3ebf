"""The flags that every training experiment has, and what they stand for: data, loop, processes.

An experiment imports this module, changes defaults by `flags.set_default`, and hands `main` what builds its
task. Exit codes of a training command: 0 when the run is complete, 1 with a sentence when something is wrong,
75 when it was asked to stop (SIGTERM) and has saved: the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from jaxcodec.data.crops import random_crops, store_photos
from jaxcodec.data.stream import Augmentation, Stream, read_all, total_bytes
from jaxcodec.errors import BadOption, JaxcodecError
from jaxcodec.training.loop import LoopConfig, train
from jaxcodec.training.preemption import PREEMPTED_EXIT_CODE, Preempted
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.source import ResidentSource, Source, StreamSource
from jaxcodec.training.task import Params, Task

# --- Data ---
TRAIN_DATA = flags.DEFINE_string(
    "train_data",
    None,
    "Training photos (lossless, 4:4:4): a folder, a glob, or a folder made by scripts/prepare_dataset.py.",
)
DATA_LOADING = flags.DEFINE_enum(
    "data_loading",
    "auto",
    ["auto", "resident", "stream"],
    "resident: all photos lie on the device and crops are cut there; stream: crops are cut by the host while "
    "the device works; auto: resident up to --resident_gib.",
)
RESIDENT_GIB = flags.DEFINE_float("resident_gib", 4.0, "Largest set that `auto` keeps on the device.")
WORKERS = flags.DEFINE_integer(
    "workers", 0, "Streaming: processes that read and cut; 0: threads of this one.", lower_bound=0
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Crops per update, over all processes.", lower_bound=1)
CROP_SIZE = flags.DEFINE_integer("crop_size", 256, "Pixels per side.", lower_bound=1)
FLIP = flags.DEFINE_bool("flip", True, "Mirror half of the crops.")
MIN_SCALE = flags.DEFINE_float(
    "min_scale",
    1.0,
    "Shrink by a random factor down to this before cutting.",
    lower_bound=0.05,
    upper_bound=1.0,
)

# --- Loop ---
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Gets checkpoints and metrics.jsonl, and resumes from them; local or gs://."
)
STEPS = flags.DEFINE_integer("steps", None, "Length in updates; give this or --max_seconds.")
MAX_SECONDS = flags.DEFINE_float("max_seconds", None, "Length in seconds of training.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-4, "Peak learning rate.")
SCHEDULE = flags.DEFINE_enum("schedule", "cosine", ["cosine", "stepped"], "Shape after the warm-up.")
WARMUP = flags.DEFINE_float("warmup", 0.04, "Share of the run spent warming up.")
EMA_DECAY = flags.DEFINE_float("ema_decay", 0.999, "Decay of the exported weight average.")
CLIP_NORM = flags.DEFINE_float("clip_norm", 1.0, "Largest global gradient norm.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Arithmetic of the convolutions.")
STEPS_PER_CALL = flags.DEFINE_integer(
    "steps_per_call",
    None,
    "Updates per compiled call; when not given 1 on a CPU, else 100, or 10 when streaming.",
    lower_bound=1,
)
LOG_EVERY = flags.DEFINE_integer("log_every", 100, "Steps between log lines.", lower_bound=1)
SAVE_EVERY = flags.DEFINE_integer("save_every", 2000, "Steps between checkpoints.", lower_bound=1)
KEEP = flags.DEFINE_integer("keep", 2, "How many of the latest checkpoints stay.", lower_bound=1)
KEEP_EVERY = flags.DEFINE_integer("keep_every", None, "Checkpoints at multiples of this step stay for good.")
SEED = flags.DEFINE_integer("seed", 0, "Of initialisation, crops and noise.")
TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write TensorBoard events into the workdir.")
PROFILE_STEPS = flags.DEFINE_list(
    "profile_steps", None, "FIRST,COUNT: trace these steps into the workdir's profile/, for xprof."
)

# --- Processes ---
MULTIHOST = flags.DEFINE_bool(
    "multihost",
    False,
    "This is one process of several (a TPU pod, or with the three flags below any machines): run the same "
    "command on all.",
)
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0; TPUs know it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes; TPUs know it.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is; TPUs know it.")
FSDP = flags.DEFINE_bool("fsdp", False, "Split parameters over the devices too, not only batches.")


def steps_per_call(*, streaming: bool) -> int:
    """Updates per compiled call."""
    if jax.default_backend() == "cpu":
        return STEPS_PER_CALL.value or 1
    return STEPS_PER_CALL.value or (10 if streaming else 100)


def loop_config(*, streaming: bool) -> LoopConfig:
    """The loop that the flags ask for.

    Raises
    ------
    BadOption
        If they contradict each other.
    """
    schedule: dict[str, Any] = {
        "peak": LEARNING_RATE.value,
        "warmup": WARMUP.value,
        "shape": SCHEDULE.value,
    }
    try:
        profile = (
            None if PROFILE_STEPS.value is None else tuple(int(number) for number in PROFILE_STEPS.value)
        )
        if profile is not None and len(profile) != 2:
            raise ValueError("--profile_steps wants two numbers, FIRST,COUNT")
        return LoopConfig(
            steps=STEPS.value,
            max_seconds=MAX_SECONDS.value,
            schedule=Schedule(**schedule),
            clip_norm=CLIP_NORM.value,
            ema_decay=EMA_DECAY.value,
            steps_per_call=steps_per_call(streaming=streaming),
            log_every=LOG_EVERY.value,
            save_every=SAVE_EVERY.value,
            keep=KEEP.value,
            keep_every=KEEP_EVERY.value,
            seed=SEED.value,
            fsdp=FSDP.value,
            tensorboard=TENSORBOARD.value,
            profile_steps=profile,
        )
    except ValueError as error:
        raise BadOption(str(error)) from error


def open_source(*, select: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None = None) -> Source:
    """The training data: on the device, or streamed.

    Parameters
    ----------
    select
        What to train on of photos uint8 `[H, W, 3]`, such as some tiles; such data always lie on the device.

    Raises
    ------
    BadImage, BadOption
        If there are no pictures, or some are smaller than the crop.
    """
    place = str(TRAIN_DATA.value)
    size = total_bytes(place)
    resident = DATA_LOADING.value == "resident" or (
        DATA_LOADING.value == "auto" and (size <= RESIDENT_GIB.value * 2**30 or select is not None)
    )
    if select is not None and not resident:
        raise BadOption(
            "parts that are chosen by content cannot be streamed; leave out --data_loading=stream"
        )
    loop_config(streaming=not resident)  # wrong flags are told before minutes of reading and starting
    logging.info("%s: %.1f million pixels, %s", place, size / 3e6, "resident" if resident else "streamed")
    if resident:
        photos = read_all(place)
        store = store_photos(photos if select is None else select(photos), crop_size=CROP_SIZE.value)
        draw = partial(
            random_crops,
            batch_size=BATCH_SIZE.value,
            crop_size=CROP_SIZE.value,
            flip=FLIP.value,
            min_scale=MIN_SCALE.value,
        )
        return ResidentSource(store, draw, BATCH_SIZE.value)
    stream = Stream(
        place,
        batch_size=BATCH_SIZE.value,
        augmentation=Augmentation(CROP_SIZE.value, flip=FLIP.value, min_scale=MIN_SCALE.value),
        seed=SEED.value,
        workers=WORKERS.value,
    )
    return StreamSource(stream.batches, BATCH_SIZE.value)


def run(
    task: Task,
    source: Source,
    *,
    codec: str,
    network: Mapping[str, Any],
    initial_params: Params | None = None,
) -> None:
    """Train `task` as the flags say; `codec`, the name, and `network` are stored for the export."""
    config = loop_config(streaming=isinstance(source, StreamSource))
    logging.info("%s; %s", dict(network), config)
    module = Path(sys.argv[0]).stem
    description = {
        "codec": codec,
        "network": dict(network),
        "experiment": f"experiments.{module}",
        "flags": resolved_flags(),
    }
    train(task, source, config, str(WORKDIR.value), initial_params=initial_params, description=description)


def resolved_flags() -> dict[str, Any]:
    """Every flag of the experiment with its value."""
    own = flags.FLAGS.get_key_flags_for_module(sys.argv[0]) + flags.FLAGS.get_flags_for_module(__name__)
    return {flag.name: flag.value for flag in sorted(own, key=lambda flag: flag.name)}


def main(experiment: Callable[[], None]) -> None:
    """Run an experiment as the program: parse flags, join the other processes, turn errors into exit codes."""

    def program(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected argument {argv[1]!r}; all settings are flags")
        if (STEPS.value is None) == (MAX_SECONDS.value is None):
            raise app.UsageError("give exactly one of --steps and --max_seconds")
        # Dozens of lines per checkpoint would bury the training's own.
        logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)
        if MULTIHOST.value:  # before anything asks for devices
            jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        shown = "".join(
            f"\n  --{name}={value}" for name, value in resolved_flags().items() if value is not None
        )
        logging.info("flags:%s", shown)
        try:
            experiment()
        except Preempted as stopped:
            logging.info("%s", stopped)
            sys.exit(PREEMPTED_EXIT_CODE)
        except JaxcodecError as error:
            sys.exit(f"error: {error}")

    jax.config.config_with_absl()
    flags.mark_flags_as_required(["train_data", "workdir"])
    app.run(program)
