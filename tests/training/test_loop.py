import gzip
import json
import signal
import time
from itertools import count

import jax
import numpy as np
import pytest

from jaxcodec.errors import BadOption, JaxcodecError
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.training.loop import LoopConfig, train
from jaxcodec.training.preemption import Preempted
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.source import StreamSource
from jaxcodec.training.step import init_state
from jaxcodec.training.window import NonFiniteLoss
from tests.training.tasks import ChannelCoder, Cliff, resident, streamed

DATA = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 3)).astype(np.uint8)
SCHEDULE = Schedule(peak=0.02, warmup=0.1)


class InterruptedRunError(Exception):
    """Stands for whatever ends a run from outside."""


def clock_that_fails(after):
    """Seconds that pass one per look, until the run is interrupted."""
    ticks = count()

    def clock():
        tick = next(ticks)
        if tick >= after:
            raise InterruptedRunError
        return float(tick)

    return clock


def ticking():
    """A clock that advances one second whenever it is read."""
    ticks = count()
    return lambda: float(next(ticks))


def logged(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def losses(workdir):
    """The last logged loss of each step."""
    return {line["step"]: line["loss"] for line in logged(workdir)}


def assert_same_state(a, b):
    for name in ("step", "params", "ema_params", "opt_state"):
        for x, y in zip(jax.tree.leaves(getattr(a, name)), jax.tree.leaves(getattr(b, name)), strict=True):
            np.testing.assert_array_equal(x, y)


def test_training_lowers_the_loss(tmp_path):
    config = LoopConfig(steps=200, steps_per_call=20, log_every=20, schedule=SCHEDULE)
    state = train(ChannelCoder(), resident(DATA), config, tmp_path)
    assert state.step == 200
    curve = list(losses(tmp_path).values())
    assert len(curve) == 10
    assert curve[-1] < 0.5 * curve[0]


TIMES = ("elapsed", "steps_per_second", "examples_per_second", "input_wait")


def series(workdir):
    """The log without what depends on the machine's speed."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in logged(workdir)]


@pytest.mark.parametrize("source", [resident, streamed])
@pytest.mark.parametrize("reads_before_the_end", [17, 24])
def test_an_interrupted_run_resumes_to_the_same_log_bit_for_bit(tmp_path, source, reads_before_the_end):
    # Saves fall between log lines: a checkpoint holds the sums of a line that is not yet complete.
    config = LoopConfig(steps=20, log_every=3, save_every=4, schedule=SCHEDULE, seed=3)

    def run(workdir, **options):
        return train(ChannelCoder(), source(DATA), config, workdir, **options)

    whole = run(tmp_path / "whole")
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "parts", clock=clock_that_fails(reads_before_the_end))
    assert 2 < len(logged(tmp_path / "parts")) < 7
    parts = run(tmp_path / "parts")
    assert series(tmp_path / "parts") == series(tmp_path / "whole")
    assert_same_state(parts, whole)


def test_a_run_asked_to_stop_saves_the_step_it_has_reached_and_goes_on_from_there(tmp_path):
    config = LoopConfig(steps=20, log_every=3, save_every=10, schedule=SCHEDULE, seed=3)
    whole = train(ChannelCoder(), streamed(DATA), config, tmp_path / "whole")
    asked = []

    def clock():
        asked.append(None)
        if len(asked) == 9:
            signal.raise_signal(signal.SIGTERM)
        return float(len(asked))

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="same command"):
        train(ChannelCoder(), streamed(DATA), config, tmp_path / "parts", clock=clock)
    assert signal.getsignal(signal.SIGTERM) == before
    with Checkpoints(tmp_path / "parts" / "checkpoints") as checkpoints:
        reached = checkpoints.latest_step()
    assert reached is not None
    assert 3 < reached < 10
    parts = train(ChannelCoder(), streamed(DATA), config, tmp_path / "parts")
    assert series(tmp_path / "parts") == series(tmp_path / "whole")
    assert_same_state(parts, whole)


def test_streamed_batches_in_chunks_train_as_single_ones(tmp_path):
    single = LoopConfig(steps=12, log_every=4, schedule=SCHEDULE)
    chunks = LoopConfig(steps=12, log_every=4, schedule=SCHEDULE, steps_per_call=4)
    train(ChannelCoder(), streamed(DATA), single, tmp_path / "single")
    train(ChannelCoder(), streamed(DATA), chunks, tmp_path / "chunks")
    a, b = losses(tmp_path / "single"), losses(tmp_path / "chunks")
    assert list(a) == list(b) == [4, 8, 12]
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)


def test_an_error_of_the_stream_ends_the_run(tmp_path):
    def batches(start, *, process_index, process_count, stack):
        yield np.zeros((1, 4, 4, 4, 3), np.uint8)
        raise InterruptedRunError

    config = LoopConfig(steps=4, log_every=1, schedule=SCHEDULE)
    with pytest.raises(InterruptedRunError):
        train(ChannelCoder(), StreamSource(batches, 4), config, tmp_path)


def test_waiting_for_a_slow_stream_is_logged(tmp_path):
    def slow(start, **options):
        for batch in streamed(DATA).batches(start, **options):
            time.sleep(0.02)
            yield batch

    def share(name, source):
        train(ChannelCoder(), source, LoopConfig(steps=30, log_every=15), tmp_path / name)
        return logged(tmp_path / name)[-1]["input_wait"]

    assert share("slow", StreamSource(slow, 4)) > 0.5
    assert share("resident", resident(DATA)) == 0.0


def test_another_network_is_not_trained_on_the_checkpoint_of_one(tmp_path):
    config = LoopConfig(steps=2, schedule=SCHEDULE)

    def run(channels):
        train(
            ChannelCoder(), resident(DATA), config, tmp_path, description={"network": {"channels": channels}}
        )

    run(2)
    with pytest.raises(BadOption, match=r"channels.*--workdir"):
        run(3)


def test_checkpoints_at_multiples_are_kept(tmp_path):
    config = LoopConfig(steps=8, save_every=1, keep=1, keep_every=3, schedule=SCHEDULE)
    train(ChannelCoder(), resident(DATA), config, tmp_path)
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {3, 6, 8}


def test_a_trace_of_some_steps_and_tensorboard_events_are_written_when_asked(tmp_path):
    config = LoopConfig(steps=6, log_every=2, profile_steps=(2, 2), tensorboard=True, schedule=SCHEDULE)
    train(ChannelCoder(), resident(DATA), config, tmp_path)
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = {event["args"]["step_num"] for event in events if event.get("name") == "train"}
    assert steps == {"2", "3"}
    (written,) = tmp_path.glob("events.out.tfevents.*")
    assert written.read_bytes().count(b"learning_rate") == 3


def test_a_finished_run_is_left_as_it_is(tmp_path):
    config = LoopConfig(steps=4, log_every=1, schedule=SCHEDULE)
    first = train(ChannelCoder(), resident(DATA), config, tmp_path)
    lines = logged(tmp_path)
    assert_same_state(train(ChannelCoder(), resident(DATA), config, tmp_path), first)
    assert logged(tmp_path) == lines


def test_the_seed_decides_the_run(tmp_path):
    def run(name, seed):
        config = LoopConfig(steps=4, log_every=1, seed=seed, schedule=SCHEDULE)
        train(ChannelCoder(), resident(DATA), config, tmp_path / name)
        return losses(tmp_path / name)

    assert run("a", 0) == run("b", 0) != run("c", 1)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_a_good_checkpoint(tmp_path):
    config = LoopConfig(
        steps=50, log_every=1, save_every=1, schedule=Schedule(peak=1.0, warmup=0.0, shape="stepped")
    )
    # w: 1, then 0.5 at step 1, 0.15 at step 2, then negative: its root is no number at step 3.
    with pytest.raises(NonFiniteLoss, match=r"^step 3: loss is nan .*--learning_rate") as caught:
        train(Cliff(), resident(DATA), config, tmp_path)
    assert isinstance(caught.value, JaxcodecError)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == len(logged(tmp_path)) >= 2
        state, _ = checkpoints.restore(jax.jit(lambda k: init_state(Cliff(), k))(jax.random.key(0)))
    assert np.isfinite(state.ema_params["w"])


def test_a_loss_that_is_no_number_is_never_saved_between_log_points(tmp_path):
    schedule = Schedule(peak=1.0, warmup=0.0, shape="stepped")
    config = LoopConfig(steps=50, log_every=10, save_every=1, schedule=schedule)
    with pytest.raises(NonFiniteLoss):
        train(Cliff(), resident(DATA), config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, _ = checkpoints.read()
    assert np.isfinite(state["params"]["w"])


def test_seconds_end_the_run_and_drive_the_schedule(tmp_path):
    config = LoopConfig(max_seconds=30.0, log_every=1, schedule=SCHEDULE)
    state = train(ChannelCoder(), resident(DATA), config, tmp_path, clock=ticking())
    assert 30.0 <= state.elapsed < 36.0
    for line in logged(tmp_path):
        np.testing.assert_allclose(line["learning_rate"], SCHEDULE(line["elapsed"] / 30.0), rtol=1e-5)


def test_seconds_count_over_all_resumptions(tmp_path):
    config = LoopConfig(max_seconds=30.0, log_every=1, save_every=2, schedule=SCHEDULE)

    def run(**options):
        return train(ChannelCoder(), resident(DATA), config, tmp_path, **options)

    with pytest.raises(InterruptedRunError):
        run(clock=clock_that_fails(15))
    before = logged(tmp_path)[-1]["elapsed"]
    state = run(clock=ticking())
    assert 30.0 <= state.elapsed < 36.0
    resumed = [line["elapsed"] for line in logged(tmp_path)][-3:]
    assert before < resumed[0] < resumed[-1] < 30.0
    steps = int(state.step)
    assert run(clock=ticking()).step == steps


def test_initial_parameters_start_a_run_but_never_replace_a_checkpoint(tmp_path):
    given = {"down": np.full((3, 2), 0.25, np.float32), "up": np.full((2, 3), 0.5, np.float32)}
    # At the first step the learning rate is still 0: the parameters are those given.
    config = LoopConfig(steps=1, log_every=1, schedule=SCHEDULE)
    state = train(ChannelCoder(), resident(DATA), config, tmp_path, initial_params=given)
    for tree in (state.params, state.ema_params):
        np.testing.assert_allclose(tree["down"], given["down"], rtol=1e-6)
    other = {name: 2 * value for name, value in given.items()}
    again = train(ChannelCoder(), resident(DATA), config, tmp_path, initial_params=other)
    assert_same_state(again, state)


def test_the_description_is_stored_beside_the_state(tmp_path):
    config = LoopConfig(steps=4, schedule=SCHEDULE)
    description = {
        "network": {"channels": 4, "transform": "paper"},
        "flags": {"lambda": 0.013, "steps": None},
    }
    trained = train(ChannelCoder(), resident(DATA), config, tmp_path, description=description)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, stored = checkpoints.read()
    assert int(state["step"]) == 4
    np.testing.assert_array_equal(state["ema_params"]["up"], trained.ema_params["up"])
    assert stored["description"] == description
    assert stored["loop"]["steps"] == 4
    assert stored["loop"]["schedule"]["peak"] == SCHEDULE.peak


def test_only_the_latest_checkpoints_are_kept(tmp_path):
    config = LoopConfig(steps=4, save_every=1, schedule=SCHEDULE)
    train(ChannelCoder(), resident(DATA), config, tmp_path)
    kept = [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "exactly one"),
        ({"steps": 10, "max_seconds": 1.0}, "exactly one"),
        ({"steps": 10, "steps_per_call": 4}, "not a multiple"),
    ],
)
def test_a_wrong_configuration_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LoopConfig(**wrong)
