import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcodec.entropy import PiecewiseLinear
from jaxcodec.entropy.piecewise_linear import (
    LIKELIHOOD_BOUND,
    TAIL_DECAY,
    density_descent,
    heights,
    integer_probabilities,
    likelihood,
)

REACH, PER_UNIT = 8, 10
GRID = np.arange(-REACH * PER_UNIT, REACH * PER_UNIT + 1) / PER_UNIT
SETTINGS = {"reach": REACH, "samples_per_unit": PER_UNIT}

jit_likelihood = jax.jit(likelihood, static_argnames=("reach", "samples_per_unit"))


def random_logits(rng, channels):
    return jnp.asarray(rng.normal(-1.0, 2.0, (channels, GRID.size)), jnp.float32)


def density_by_numpy(logits):
    """softplus, divided by its trapezoid sum, in float64."""
    positive = np.logaddexp(0.0, np.asarray(logits, np.float64))
    return positive * PER_UNIT / (positive[:, :-1] / 2 + positive[:, 1:] / 2).sum(-1, keepdims=True)


def logits_of(density):
    """Logits whose softplus is proportional to the given density at the grid."""
    return jnp.asarray(np.log(np.expm1(np.asarray(density, np.float64))), jnp.float32)


def test_the_density_integrates_to_one(rng):
    h = np.asarray(heights(random_logits(rng, 3), samples_per_unit=PER_UNIT), np.float64)
    assert (h > 0).all()
    # Linear between the grid points, so the trapezoid sum is the integral.
    np.testing.assert_allclose((h[:, :-1] + h[:, 1:]).sum(-1) / (2 * PER_UNIT), 1.0, rtol=1e-6)


def test_likelihood_is_linear_between_the_heights(rng):
    logits = random_logits(rng, 3)
    y = rng.uniform(-REACH, REACH, (500, 3)).astype(np.float32)
    y[: GRID.size] = GRID[:, None]
    ours = jit_likelihood(logits, jnp.asarray(y), **SETTINGS)
    expected = np.stack([np.interp(y[:, c], GRID, density_by_numpy(logits)[c]) for c in range(3)], axis=-1)
    np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-6)


def test_likelihood_at_the_grid_is_its_heights(rng):
    logits = random_logits(rng, 2)
    y = jnp.asarray(np.tile(GRID[:, None], (1, 2)), jnp.float32)
    h = heights(logits, samples_per_unit=PER_UNIT)
    np.testing.assert_allclose(jit_likelihood(logits, y, **SETTINGS), h.T, rtol=1e-4, atol=1e-5)


def test_beyond_the_grid_the_density_falls_off_exponentially(rng):
    logits = random_logits(rng, 2)
    h = density_by_numpy(logits)
    for side, edge in ((-1, 0), (1, -1)):
        distance = np.array([0.0, 0.5, 3.0])[:, None] * np.ones((1, 2))
        ours = jit_likelihood(logits, jnp.asarray(side * (REACH + distance), jnp.float32), **SETTINGS)
        np.testing.assert_allclose(ours, h[:, edge] * np.exp(-TAIL_DECAY * distance), rtol=1e-4)
    assert (jit_likelihood(logits, jnp.full((1, 2), 1e4), **SETTINGS) == np.float32(LIKELIHOOD_BOUND)).all()


def test_outliers_are_pulled_back_and_gradients_are_finite(rng):
    logits = random_logits(rng, 2)

    @jax.jit
    def gradients(logits, y):
        return jax.grad(lambda logits, y: -jnp.log(likelihood(logits, y, **SETTINGS)).sum(), (0, 1))(
            logits, y
        )

    _, by_y = gradients(logits, jnp.asarray([[-REACH - 4.0, REACH + 4.0]]))
    np.testing.assert_allclose(by_y, [[-TAIL_DECAY, TAIL_DECAY]], rtol=1e-4)
    for gradient in gradients(logits, jnp.asarray([[-1e4, 1e4]])):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 3, 4, 2)])
def test_likelihood_has_the_shape_of_the_latents(rng, shape):
    logits = random_logits(rng, 2)
    y = jnp.asarray(rng.normal(size=shape), jnp.float32)
    out = jit_likelihood(logits, y, **SETTINGS)
    assert out.shape == shape
    alone = jit_likelihood(logits, y.reshape(-1, 2)[-1:], **SETTINGS)
    np.testing.assert_allclose(out.reshape(-1, 2)[-1:], alone, rtol=1e-5)


def test_integer_probabilities_are_the_density_at_the_integers():
    # A box-smoothed Laplacian: its values at the integers sum to 1, as those of a density with noise do.
    fine = np.linspace(-0.5, 0.5, 2001)
    density = np.array([np.mean(0.5 * np.exp(-np.abs(x + fine))) for x in GRID])
    ((first, probabilities, tail),) = integer_probabilities(logits_of(density)[None], **SETTINGS)
    np.testing.assert_allclose(probabilities.sum() + tail, 1.0, atol=1e-12)
    integers = np.arange(first, first + len(probabilities))
    at_integers = jit_likelihood(
        logits_of(density)[None], jnp.asarray(integers[:, None], jnp.float32), **SETTINGS
    )
    # They differ by the mass beyond the grid and by the linear interpolation of the density.
    np.testing.assert_allclose(probabilities, at_integers[:, 0], rtol=3e-3)


def test_integer_probabilities_follow_a_shifted_channel(rng):
    density = 1e-7 + np.exp(-0.5 * (GRID[None] - np.array([[-6.0], [0.0], [5.0]])) ** 2 / 0.3)
    tables = integer_probabilities(logits_of(density), **SETTINGS)
    assert [first + int(np.argmax(p)) for first, p, _ in tables] == [-6, 0, 5]
    for first, probabilities, tail in tables:
        assert -REACH <= first <= first + len(probabilities) - 1 <= REACH
        np.testing.assert_allclose(probabilities.sum() + tail, 1.0, atol=1e-12)


@pytest.mark.parametrize("tail_mass", [2.0**-16, 0.02])
def test_each_side_is_cut_where_less_than_half_the_tail_mass_remains(rng, tail_mass):
    logits = random_logits(rng, 3) - jnp.asarray(3.0 * np.abs(GRID), jnp.float32)[None]
    p = np.logaddexp(0.0, np.asarray(logits, np.float64))[:, ::PER_UNIT]
    p /= p.sum(-1, keepdims=True)
    for c, (first, probabilities, tail) in enumerate(
        integer_probabilities(logits, **SETTINGS, tail_mass=tail_mass)
    ):
        i, j = first + REACH, first + REACH + len(probabilities)
        np.testing.assert_allclose(probabilities, p[c, i:j], rtol=1e-12)
        below, above = p[c, :i].sum(), p[c, j:].sum()
        assert below < tail_mass / 2 <= p[c, : i + 1].sum()
        assert above < tail_mass / 2 <= p[c, j - 1 :].sum()
        np.testing.assert_allclose(tail, below + above, atol=1e-15)


def test_density_descent_recovers_the_density_of_a_sample(rng):
    sample = np.concatenate([rng.normal(-2.0, 0.6, 30_000), rng.normal(2.5, 1.0, 20_000)])[:, None]
    y = jnp.asarray(sample, jnp.float32)
    area, positions = 256.0, y.shape[0]
    rule = density_descent(rate=20.0, positions_per_pixel=1 / area)

    def bits_per_pixel(logits):
        return -jnp.log2(likelihood(logits, y, **SETTINGS)).sum() / (positions * area)

    @jax.jit
    def descend(logits):
        def step(_, carry):
            logits, state = carry
            updates, state = rule.update(jax.grad(bits_per_pixel)(logits), state)
            return optax.apply_updates(logits, updates), state

        return jax.lax.fori_loop(0, 300, step, (logits, rule.init(logits)))[0]

    h = np.asarray(heights(descend(jnp.zeros((1, GRID.size))), samples_per_unit=PER_UNIT))[0]
    true = 0.6 * np.exp(-0.5 * ((GRID + 2) / 0.6) ** 2) / 0.6 + 0.4 * np.exp(-0.5 * (GRID - 2.5) ** 2)
    true /= np.sqrt(2 * np.pi)
    histogram = np.histogram(sample, np.append(GRID, REACH + 1 / PER_UNIT) - 0.5 / PER_UNIT, density=True)[0]
    distances = [np.abs(density - true).sum() / PER_UNIT for density in (h, histogram)]
    # Total variation, against 1.35 at the flat start; the sample's own histogram is about as far off.
    assert distances[0] < max(0.1, 2 * distances[1])


def test_the_step_of_the_rule_does_not_depend_on_the_picture_area():
    logits = jnp.zeros((1, GRID.size))
    gradient_per_position = jnp.ones_like(logits) / np.log(2.0)  # in bits
    for area in (1.0, 256.0):
        rule = density_descent(rate=0.5, positions_per_pixel=1 / area)
        updates, _ = rule.update(gradient_per_position / area, rule.init(logits))
        np.testing.assert_allclose(updates, -0.5, rtol=1e-5)


def test_a_fresh_density_gives_every_value_some_probability(key):
    prior = PiecewiseLinear(2, reach=16)
    y = jnp.asarray(np.linspace(-16, 16, 65)[:, None] * np.ones((1, 2)), jnp.float32)
    p, variables = jax.jit(prior.init_with_output)(key, y)
    logits = variables["params"]["logits"]
    assert logits.shape == (2, 16 * 2 * 10 + 1)
    assert logits.dtype == jnp.float32
    assert not logits.weak_type
    assert (p > 1e-6).all()
    np.testing.assert_allclose(p, np.asarray(p)[::-1], rtol=1e-3)
    assert int(jnp.argmax(p[:, 0])) == 32
