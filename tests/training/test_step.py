from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcodec.training.schedule import Schedule
from jaxcodec.training.step import init_state, make_chunk
from tests.training.tasks import ChannelCoder, batch_of_noise

DATA = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)), jnp.uint8)
SETTINGS = {
    "schedule": Schedule(peak=0.01, warmup=0.0),
    "steps": 10,
    "max_seconds": None,
    "ema_decay": 0.999,
    "clip_norm": 1.0,
    "steps_per_call": 1,
}


def run(task, state, calls=1, *, elapsed=0.0, **changes):
    """The state and metrics after some calls; not compiled as a whole, since every test asks for another step."""
    chunk = make_chunk(task, batch_of_noise, **(SETTINGS | changes))
    metrics = {}
    for _ in range(calls):
        state, metrics = chunk(state, DATA, jax.random.key(7), jnp.float32(elapsed))
    return state, metrics


def test_one_step_is_clipped_descent_and_average_by_hand(key):
    task = ChannelCoder(optimise=optax.sgd)
    state = init_state(task, key)
    after, metrics = run(task, state, clip_norm=0.1, schedule=Schedule(peak=0.5, warmup=0.0))
    # At progress 0 the schedule gives nothing yet, so the first step moves nothing but the counter.
    assert after.step == 1
    np.testing.assert_array_equal(after.params["up"], state.params["up"])
    again, metrics = run(task, after, clip_norm=0.1, schedule=Schedule(peak=0.5, warmup=0.0))
    moved = jax.tree.map(lambda a, b: np.asarray(a - b), after.params, again.params)
    rate = float(metrics["learning_rate"][0])
    assert metrics["gradient_norm"][0] > 0.1
    length = np.sqrt(sum(np.square(part).sum() for part in jax.tree.leaves(moved)))
    np.testing.assert_allclose(length, rate * 0.1, rtol=1e-4)
    # decay = min(0.999, (1 + step) / (10 + step)) with step = 1
    for ema, old, new in zip(
        *(jax.tree.leaves(tree) for tree in (again.ema_params, after.ema_params, again.params)), strict=True
    ):
        np.testing.assert_allclose(ema, 2 / 11 * old + 9 / 11 * new, rtol=1e-5)


def test_late_averages_use_the_given_decay(key):
    task = ChannelCoder()
    state = init_state(task, key).replace(step=jnp.int32(10_000))
    after, _ = run(task, state, steps=20_000, ema_decay=0.9)
    expected = 0.9 * state.ema_params["up"] + 0.1 * after.params["up"]
    np.testing.assert_allclose(after.ema_params["up"], expected, rtol=1e-5)


def test_a_small_gradient_is_not_clipped(key):
    task = ChannelCoder(optimise=optax.sgd)
    state = init_state(task, key).replace(step=jnp.int32(1))
    free, _ = run(task, state, clip_norm=1e6)
    larger, _ = run(task, state, clip_norm=1e9)
    np.testing.assert_allclose(free.params["up"], larger.params["up"], rtol=1e-6)


def test_one_call_of_five_steps_is_five_calls_of_one(key):
    task = ChannelCoder()
    state = init_state(task, key)
    single, _ = run(task, state, calls=5)
    together, _ = run(task, state, steps_per_call=5)
    assert single.step == together.step == 5
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_state_keeps_its_types_so_that_no_step_compiles_twice(key):
    traces = []
    task = ChannelCoder(traces=traces)
    state = jax.jit(partial(init_state, task))(key)
    for steps_per_call in (1, 2):
        traces.clear()
        chunk = jax.jit(make_chunk(task, batch_of_noise, **(SETTINGS | {"steps_per_call": steps_per_call})))
        new, _ = chunk(state, DATA, key, jnp.float32(0))
        first = len(traces)
        for _ in range(3):
            new, _ = chunk(new, DATA, key, jnp.float32(0))
        assert len(traces) == first
        for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
            assert (before.dtype, before.weak_type) == (after.dtype, after.weak_type)
            assert not after.weak_type


def test_the_schedule_follows_steps_or_seconds(key):
    task, schedule = ChannelCoder(), Schedule(peak=0.01, warmup=0.5)
    state = init_state(task, key).replace(step=jnp.int32(3))
    _, metrics = run(task, state, schedule=schedule, steps=10)
    np.testing.assert_allclose(metrics["learning_rate"][0], schedule(0.3), rtol=1e-6)
    new, metrics = run(task, state, elapsed=40.0, schedule=schedule, steps=None, max_seconds=50.0)
    np.testing.assert_allclose(metrics["learning_rate"][0], schedule(0.8), rtol=1e-6)
    assert new.elapsed == 40.0


def test_metrics_are_one_value_a_step(key):
    task = ChannelCoder()
    state = init_state(task, key)
    chunk = make_chunk(task, batch_of_noise, **(SETTINGS | {"steps_per_call": 3}))
    _, together = chunk(state, DATA, key, jnp.float32(0))
    for step in range(3):
        state, metrics = make_chunk(task, batch_of_noise, **SETTINGS)(state, DATA, key, jnp.float32(0))
        for name, series in together.items():
            np.testing.assert_allclose(series[step], metrics[name][0], rtol=1e-4, err_msg=name)


def test_batches_can_be_given_instead_of_drawn(key):
    task = ChannelCoder(optimise=optax.sgd)
    state = init_state(task, key).replace(step=jnp.int32(1))
    given = jnp.stack([DATA[:4], DATA[4:]])
    settings = SETTINGS | {"steps_per_call": 2}
    together, _ = make_chunk(task, None, **settings)(state, given, key, jnp.float32(0))
    for batch in given:
        chunk = make_chunk(task, lambda data, key, batch=batch: batch, **SETTINGS)
        state, _ = chunk(state, DATA, key, jnp.float32(0))
    np.testing.assert_allclose(together.params["up"], state.params["up"], rtol=1e-5)


@pytest.mark.parametrize("length", [{"steps": None}, {"max_seconds": 1.0}])
def test_a_run_has_exactly_one_length(length):
    with pytest.raises(ValueError, match="exactly one"):
        make_chunk(ChannelCoder(), batch_of_noise, **(SETTINGS | length))
