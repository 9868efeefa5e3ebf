"""Gaussian scale mixtures against scipy's normal distribution."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, special, stats

from jaxcodec.entropy.gaussian_scale_mixture import (
    LARGEST_DEVIATION,
    LEAST_DEVIATION,
    GaussianScaleMixture,
    log_density,
    spread_log_precisions,
)

CHANNELS, COMPONENTS = 3, 4


def mixture(rng):
    """Log-weights and log-precisions `[C, S]`, deviations from 0.1 to 30."""
    log_weights = rng.normal(size=(CHANNELS, COMPONENTS)).astype(np.float32)
    deviations = np.exp(rng.uniform(np.log(0.1), np.log(30), (CHANNELS, COMPONENTS)))
    return log_weights, (-2 * np.log(deviations)).astype(np.float32)


def weights_and_deviations(log_weights, log_precisions):
    return special.softmax(log_weights.astype(float), axis=-1), np.exp(-0.5 * log_precisions.astype(float))


def density(z, log_weights, log_precisions):
    """Independent of the code under test: float64 `[..., C]`."""
    weights, deviations = weights_and_deviations(log_weights, log_precisions)
    return (weights * stats.norm.pdf(np.asarray(z, float)[..., None], scale=deviations)).sum(-1)


def probability(low, high, log_weights, log_precisions):
    """Of an interval, `[..., C]`."""
    weights, deviations = weights_and_deviations(log_weights, log_precisions)
    below = [stats.norm.cdf(np.asarray(z, float)[..., None], scale=deviations) for z in (low, high)]
    return (weights * (below[1] - below[0])).sum(-1)


compiled = jax.jit(log_density)


def ours(z, log_weights, log_precisions):
    """`log_density` with the parameters broadcast by hand, as the tests' settings want it."""
    z = jnp.asarray(z)
    lead = (1,) * (z.ndim - 1)
    return compiled(z, *(a.reshape(lead + a.shape) for a in (log_weights, log_precisions)))


def test_density_is_the_weighted_sum_of_normal_densities(rng):
    parameters = mixture(rng)
    z = rng.normal(0, 20, (50, CHANNELS))
    np.testing.assert_allclose(
        ours(z, *parameters), np.log(density(np.float32(z), *parameters)), rtol=1e-4, atol=1e-4
    )


def test_density_integrates_to_one(rng):
    parameters = mixture(rng)
    # Finer where the narrowest component is.
    z = (np.sinh(np.linspace(-9, 9, 20001)) / 10).astype(np.float32)
    values = np.exp(np.asarray(ours(np.repeat(z[:, None], CHANNELS, axis=1), *parameters), float))
    np.testing.assert_allclose(integrate.trapezoid(values, z.astype(float), axis=0), 1.0, atol=1e-4)


def test_a_constant_on_all_log_weights_changes_nothing(rng):
    log_weights, log_precisions = mixture(rng)
    z = rng.normal(0, 5, (20, CHANNELS)).astype(np.float32)
    shifted = log_weights + np.array([[50.0], [-80.0], [3.0]], np.float32)
    np.testing.assert_allclose(
        ours(z, shifted, log_precisions), ours(z, log_weights, log_precisions), rtol=1e-4, atol=1e-4
    )


def test_extreme_values_have_finite_bits_and_gradients(rng):
    parameters = mixture(rng)
    gradients_of = jax.jit(jax.value_and_grad(lambda *a: log_density(*a).sum(), (0, 1, 2)))
    for z in (0.0, 1e-30, 1e4, -1e6, 1e9):
        density, gradients = gradients_of(np.full(CHANNELS, z, np.float32), *parameters)
        for value in jax.tree.leaves((density, gradients)):
            assert np.isfinite(value).all()
        # Towards zero the density rises, for ever; what underflows between 0 and 1e-30 may be flat.
        slope = np.sign(gradients[0])
        assert (slope == -np.sign(z)).all() or abs(z) < 1e-20


def test_density_is_float32_also_of_half_precision_latents(rng):
    parameters = mixture(rng)
    z = jnp.asarray(rng.integers(-30, 30, (10, CHANNELS)), jnp.bfloat16)
    out = ours(z, *parameters)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, np.log(density(z.astype(jnp.float32), *parameters)), rtol=1e-4, atol=1e-4)


NOISE = (np.arange(2000) + 0.5) / 2000 - 0.5  # midpoints, which integrate better than draws


def mean_bits_under_noise(z, *parameters):
    log_densities = ours(np.float32(z[None] + NOISE[:, None, None]), *parameters)
    return -np.asarray(log_densities, float).mean(0) / np.log(2)


def test_mean_bits_under_noise_bound_those_of_the_integer_from_above(rng):
    # Jensen: E[-log2 q(z + u)] >= -log2 of the integral of q over the unit box.
    parameters = mixture(rng)
    z = np.repeat(np.array([0.0, 1.0, -2.0, 7.0, -20.0])[:, None], CHANNELS, axis=1)
    exact = -np.log2(probability(z - 0.5, z + 0.5, *parameters))
    bits = mean_bits_under_noise(z, *parameters)
    assert (bits >= exact - 1e-3).all()
    assert (bits > exact + 0.1).any()  # where the density changes within the box


def test_the_bound_is_tight_where_the_density_is_smooth():
    wide = np.zeros((CHANNELS, 1), np.float32), np.full((CHANNELS, 1), -2 * np.log(10), np.float32)
    z = np.repeat(np.array([0.0, 1.0, -2.0, 7.0])[:, None], CHANNELS, axis=1)
    exact = -np.log2(probability(z - 0.5, z + 0.5, *wide))
    np.testing.assert_allclose(mean_bits_under_noise(z, *wide), exact, atol=2e-3)


def test_bits_are_negative_where_the_density_exceeds_one():
    narrow = np.full((CHANNELS, 1), -2 * np.log(0.05), np.float32)
    assert (ours(np.zeros((1, CHANNELS), np.float32), np.zeros((CHANNELS, 1), np.float32), narrow) > 0).all()


def test_fresh_components_spread_from_narrow_to_wide():
    deviations = np.exp(-0.5 * np.asarray(spread_log_precisions((2, CHANNELS, 6))))
    assert deviations.shape == (2, CHANNELS, 6)
    np.testing.assert_allclose(deviations[..., 0], LEAST_DEVIATION, rtol=1e-5)
    np.testing.assert_allclose(deviations[..., -1], LARGEST_DEVIATION, rtol=1e-5)
    ratios = deviations[..., 1:] / deviations[..., :-1]
    np.testing.assert_allclose(ratios, ratios.flat[0], rtol=1e-4)


def test_each_example_is_coded_with_the_mixtures_of_its_rate(rng, key):
    module = GaussianScaleMixture(CHANNELS, COMPONENTS, rates=2)
    z = jnp.asarray(rng.normal(0, 3, (3, 2, 4, CHANNELS)), jnp.float32)
    rate = jnp.array([1, 0, 1])
    shapes = jax.tree.map(jnp.shape, jax.jit(module.init)(key, z, rate)["params"])
    assert shapes == dict.fromkeys(("log_weights", "log_precisions"), (2, CHANNELS, COMPONENTS))
    both = [mixture(rng) for _ in range(2)]
    params = {
        name: np.stack(p)
        for name, p in zip(("log_weights", "log_precisions"), zip(*both, strict=True), strict=True)
    }
    bits = jax.jit(module.apply)({"params": params}, z, rate)
    assert bits.shape == z.shape
    for example, index in enumerate((1, 0, 1)):
        expected = -np.log2(density(z[example], *both[index]))
        np.testing.assert_allclose(bits[example], expected, rtol=1e-4, atol=1e-4)
