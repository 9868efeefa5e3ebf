import jax
import numpy as np
import pytest

from jaxcodec.training.schedule import Schedule


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0.0, 0.0),
        (0.05, 0.5),  # halfway up
        (0.1, 1.0),
        (0.55, 0.1 + 0.9 * 0.5),  # halfway down the cosine
        (0.325, 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi / 4))),
        (1.0, 0.1),
        (1.5, 0.1),  # seconds may overrun
    ],
)
def test_cosine_values_by_hand(progress, share):
    schedule = Schedule(peak=2e-4, warmup=0.1, final=0.1)
    np.testing.assert_allclose(jax.jit(schedule)(progress), 2e-4 * share, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.79, 1.0), (0.81, 0.1), (1.0, 0.1)]
)
def test_stepped_values_by_hand(progress, share):
    schedule = Schedule(peak=1e-3, warmup=0.2, shape="stepped", final=0.1, drop_at=0.8)
    np.testing.assert_allclose(schedule(progress), 1e-3 * share, rtol=1e-5)


def test_without_warmup_the_first_step_has_nearly_the_peak():
    assert float(Schedule(peak=1e-3, warmup=0.0)(1e-5)) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "wrong", [{"peak": 0.0}, {"warmup": 1.0}, {"warmup": -0.1}, {"final": 1.5}, {"shape": "linear"}]
)
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(ValueError, match="schedule"):
        Schedule(**wrong)
