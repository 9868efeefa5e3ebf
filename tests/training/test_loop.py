import json
from itertools import count

import jax
import numpy as np
import pytest

from jaxcodec.errors import JaxcodecError
from jaxcodec.training.checkpoint import Checkpoints
from jaxcodec.training.loop import LoopConfig, NonFiniteLoss, train
from jaxcodec.training.schedule import Schedule
from jaxcodec.training.step import init_state
from tests.training.tasks import ChannelCoder, Cliff, batch_of_noise

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
    state = train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path)
    assert state.step == 200
    curve = list(losses(tmp_path).values())
    assert len(curve) == 10
    assert curve[-1] < 0.5 * curve[0]


@pytest.mark.parametrize("reads_before_the_end", [30, 45])
def test_an_interrupted_run_resumes_to_the_same_losses_bit_for_bit(tmp_path, reads_before_the_end):
    config = LoopConfig(steps=20, log_every=1, save_every=4, schedule=SCHEDULE, seed=3)

    def run(workdir, **options):
        return train(ChannelCoder(), DATA, batch_of_noise, config, workdir, **options)

    whole = run(tmp_path / "whole")
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "parts", clock=clock_that_fails(reads_before_the_end))
    done = len(logged(tmp_path / "parts"))
    assert 4 < done < 20
    parts = run(tmp_path / "parts")
    # It went on from a checkpoint, not from the start, and not from the very step it was stopped at.
    assert 20 < len(logged(tmp_path / "parts")) < 20 + 4
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert_same_state(parts, whole)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    config = LoopConfig(steps=4, log_every=1, schedule=SCHEDULE)
    first = train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path)
    lines = logged(tmp_path)
    assert_same_state(train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path), first)
    assert logged(tmp_path) == lines


def test_the_seed_decides_the_run(tmp_path):
    def run(name, seed):
        config = LoopConfig(steps=4, log_every=1, seed=seed, schedule=SCHEDULE)
        train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path / name)
        return losses(tmp_path / name)

    assert run("a", 0) == run("b", 0) != run("c", 1)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_a_good_checkpoint(tmp_path):
    config = LoopConfig(
        steps=50, log_every=1, save_every=1, schedule=Schedule(peak=1.0, warmup=0.0, shape="stepped")
    )
    with pytest.raises(NonFiniteLoss, match="learning_rate") as caught:
        train(Cliff(), DATA, batch_of_noise, config, tmp_path)
    assert isinstance(caught.value, JaxcodecError)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == len(logged(tmp_path)) >= 2
        state = checkpoints.restore(jax.jit(lambda k: init_state(Cliff(), k))(jax.random.key(0)))
    assert np.isfinite(state.ema_params["w"])


def test_a_loss_that_is_no_number_is_never_saved_between_log_points(tmp_path):
    schedule = Schedule(peak=1.0, warmup=0.0, shape="stepped")
    config = LoopConfig(steps=50, log_every=10, save_every=1, schedule=schedule)
    with pytest.raises(NonFiniteLoss):
        train(Cliff(), DATA, batch_of_noise, config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, _ = checkpoints.read()
    assert np.isfinite(state["params"]["w"])


def test_seconds_end_the_run_and_drive_the_schedule(tmp_path):
    config = LoopConfig(max_seconds=30.0, log_every=1, schedule=SCHEDULE)
    state = train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path, clock=ticking())
    assert 30.0 <= state.elapsed < 36.0
    for line in logged(tmp_path):
        np.testing.assert_allclose(line["learning_rate"], SCHEDULE(line["elapsed"] / 30.0), rtol=1e-5)


def test_seconds_count_over_all_resumptions(tmp_path):
    config = LoopConfig(max_seconds=30.0, log_every=1, save_every=2, schedule=SCHEDULE)

    def run(**options):
        return train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path, **options)

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
    state = train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path, initial_params=given)
    for tree in (state.params, state.ema_params):
        np.testing.assert_allclose(tree["down"], given["down"], rtol=1e-6)
    other = {name: 2 * value for name, value in given.items()}
    again = train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path, initial_params=other)
    assert_same_state(again, state)


def test_the_description_is_stored_beside_the_state(tmp_path):
    config = LoopConfig(steps=4, schedule=SCHEDULE)
    description = {
        "network": {"channels": 4, "transform": "paper"},
        "flags": {"lambda": 0.013, "steps": None},
    }
    trained = train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path, description=description)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, stored = checkpoints.read()
    assert int(state["step"]) == 4
    np.testing.assert_array_equal(state["ema_params"]["up"], trained.ema_params["up"])
    assert stored["description"] == description
    assert stored["loop"]["steps"] == 4
    assert stored["loop"]["schedule"]["peak"] == SCHEDULE.peak


def test_only_the_latest_checkpoints_are_kept(tmp_path):
    config = LoopConfig(steps=4, save_every=1, schedule=SCHEDULE)
    train(ChannelCoder(), DATA, batch_of_noise, config, tmp_path)
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
