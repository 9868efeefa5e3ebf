from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxcodec.entropy import DeepFactorized
from jaxcodec.entropy.deep_factorized import (
    LIKELIHOOD_BOUND,
    box_probability,
    cumulative_logits,
    integer_probabilities,
    likelihood,
)
from tests.entropy import logistic

FILTERS = (3, 3)

jit_likelihood = jax.jit(likelihood, static_argnames="filters")
jit_logits = jax.jit(cumulative_logits, static_argnames="filters")


def random_params(rng, channels, filters=FILTERS):
    """Parameters far from the initial ones, saturated non-linearities included."""
    size = (1, *filters, 1)
    params = {}
    for k in range(len(filters) + 1):
        params[f"matrix_{k}"] = rng.normal(-0.5, 1.0, (channels, size[k + 1], size[k]))
        params[f"bias_{k}"] = rng.normal(0.0, 2.0, (channels, size[k + 1], 1))
        if k < len(filters):
            params[f"factor_{k}"] = rng.normal(0.0, 2.0, (channels, size[k + 1], 1))
    return {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}


def golden_params(tfc_golden):
    start = "deep_factorized/params/"
    return {name.removeprefix(start): value for name, value in tfc_golden.items() if name.startswith(start)}


def test_cumulative_increases_from_zero_to_one(rng):
    x = jnp.asarray(np.tile(np.linspace(-400, 400, 4001), (8, 1)), jnp.float32)
    logits = np.asarray(jit_logits(random_params(rng, 8), x, filters=FILTERS))
    # Increasing up to the rounding of float32 logits.
    assert (np.diff(logits) > -1e-5 * (1 + np.abs(logits[:, 1:]))).all()
    assert (expit(logits[:, 0]) < 1e-3).all()
    assert (expit(logits[:, -1]) > 1 - 1e-3).all()


def test_cumulative_is_that_of_tensorflow_compression(tfc_golden):
    y = jnp.asarray(tfc_golden["deep_factorized/y"].T, jnp.float32)
    logits = jit_logits(golden_params(tfc_golden), y, filters=FILTERS)
    np.testing.assert_allclose(
        expit(np.asarray(logits, np.float64)).T, tfc_golden["deep_factorized/cumulative"], rtol=5e-5, atol=0
    )


def test_likelihood_is_that_of_tensorflow_compression(tfc_golden):
    y = jnp.asarray(tfc_golden["deep_factorized/y"], jnp.float32)
    ours = jit_likelihood(golden_params(tfc_golden), y, filters=FILTERS)
    expected = np.maximum(tfc_golden["deep_factorized/likelihood"], LIKELIHOOD_BOUND)
    np.testing.assert_allclose(ours, expected, rtol=2e-4)


def test_far_tails_keep_their_relative_accuracy(tfc_golden):
    # In float32, without the bound, down to 1e-35: nothing cancels in either tail.
    y = jnp.asarray(tfc_golden["deep_factorized/y"].T, jnp.float32)
    lower, upper = (jit_logits(golden_params(tfc_golden), y + d, filters=FILTERS) for d in (-0.5, 0.5))
    logarithm = np.log(np.maximum(np.asarray(box_probability(lower, upper), np.float64), 1e-40)).T
    expected = tfc_golden["deep_factorized/log_likelihood"]
    reached = expected > np.log(1e-35)
    assert expected[reached].min() < np.log(1e-12)
    np.testing.assert_allclose(logarithm[reached], expected[reached], atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_the_integers_sum_to_one(seed):
    params = random_params(np.random.default_rng(seed), 4)
    y = jnp.asarray(np.tile(np.arange(-5000, 5001)[:, None], (1, 4)), jnp.float32)
    np.testing.assert_allclose(jit_likelihood(params, y, filters=FILTERS).sum(0), 1.0, atol=1e-4)


def test_the_middle_of_a_symmetric_density_is_likely():
    # Both edges are equally far from the median: their logits sum to exactly zero.
    params = logistic.params_of(np.zeros(2), np.array([1.0, 0.05]))
    p = likelihood(params, jnp.zeros((1, 2)), filters=())
    np.testing.assert_allclose(
        p, logistic.probability(np.zeros((1, 2)), 0.0, np.array([1.0, 0.05])), rtol=1e-5
    )
    (_, probabilities, _), _ = integer_probabilities(params, filters=())
    np.testing.assert_allclose(probabilities.max(), np.asarray(p)[0, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("mean", "scale"), [(0.0, 0.01), (0.3, 0.2), (0.5, 0.05), (-7.25, 3.0), (300.0, 2.0), (0.0, 300.0)]
)
def test_likelihood_of_a_logistic_is_known_in_closed_form(mean, scale):
    y = np.round(mean) + np.linspace(-30, 30, 121)[:, None] * max(scale, 0.1)
    ours = jit_likelihood(logistic.params_of([mean], [scale]), jnp.asarray(y, jnp.float32), filters=())
    # float32 logits near |mean| / scale are this coarse.
    coarse = 2.0**-23 * (abs(mean) + 1) / scale
    exact = np.maximum(logistic.probability(y, mean, scale), LIKELIHOOD_BOUND)
    np.testing.assert_allclose(ours, exact, rtol=1e-4 + 4 * coarse, atol=1e-9)


def test_gradients_are_finite_far_out(rng):
    params = random_params(rng, 3)
    y = jnp.asarray(np.array([-1e4, -300.0, 0.0, 300.0, 1e4])[:, None] * np.ones((1, 3)), jnp.float32)

    @jax.jit
    def bits(params, y):
        return -jnp.log2(likelihood(params, y, filters=FILTERS)).sum()

    value, gradients = jax.value_and_grad(bits, (0, 1))(params, y)
    assert np.isfinite(value)
    for gradient in jax.tree.leaves(gradients):
        assert np.isfinite(gradient).all()


def test_no_outlier_costs_more_than_thirty_bits(rng):
    p = jit_likelihood(random_params(rng, 3), jnp.full((1, 3), 1e6), filters=FILTERS)
    np.testing.assert_allclose(p, LIKELIHOOD_BOUND)
    assert (-np.log2(np.asarray(p, np.float64)) < 30).all()


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 5, 3)])
def test_likelihood_has_the_shape_of_the_latents(rng, shape):
    params = random_params(rng, 3)
    y = rng.normal(scale=5, size=shape)
    out = jit_likelihood(params, jnp.asarray(y, jnp.float32), filters=FILTERS)
    assert out.shape == shape
    assert out.dtype == jnp.float32
    # The last position keeps its channels.
    alone = jit_likelihood(params, jnp.asarray(y.reshape(-1, 3)[-1:], jnp.float32), filters=FILTERS)
    np.testing.assert_allclose(out.reshape(-1, 3)[-1:], alone, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_integer_probabilities_agree_with_the_likelihood_and_sum_to_one(seed):
    params = random_params(np.random.default_rng(seed), 5)
    for c, (first, probabilities, tail) in enumerate(integer_probabilities(params, filters=FILTERS)):
        np.testing.assert_allclose(probabilities.sum() + tail, 1.0, atol=1e-12)
        y = np.arange(first, first + len(probabilities))[:, None] * np.ones((1, 5))
        padded = np.pad(y, ((0, 9000 - len(y)), (0, 0)))  # one compilation for all lengths
        p = jit_likelihood(params, jnp.asarray(padded, jnp.float32), filters=FILTERS)[: len(y), c]
        np.testing.assert_allclose(p, probabilities, rtol=2e-3, atol=1e-7)


def test_integer_probabilities_agree_with_tensorflow_compression(tfc_golden):
    y, expected = tfc_golden["deep_factorized/y"][:, 0], tfc_golden["deep_factorized/likelihood"]
    tables = integer_probabilities(golden_params(tfc_golden), filters=FILTERS)
    for c, (first, probabilities, _) in enumerate(tables):
        places = (y == np.round(y)) & (y >= first) & (y < first + len(probabilities))
        assert places.sum() >= 5
        np.testing.assert_allclose(
            probabilities[y[places].astype(int) - first], expected[places, c], rtol=1e-9, atol=1e-15
        )


CASES = [(0.0, 0.001), (0.5, 0.001), (0.2, 1.0), (-40.0, 5.0), (1000.0, 0.5), (0.0, 200.0)]


@pytest.mark.parametrize(("mean", "scale"), CASES)
@pytest.mark.parametrize("tail_mass", [2.0**-16, 1e-3])
def test_each_side_is_cut_where_less_than_half_the_tail_mass_remains(mean, scale, tail_mass):
    params = logistic.params_of([mean], [scale])
    ((first, probabilities, tail),) = integer_probabilities(params, filters=(), tail_mass=tail_mass)
    last = first + len(probabilities) - 1
    # The parameters are float32, so the oracle takes them as they were rounded.
    slope = np.logaddexp(0, np.float64(params["matrix_0"][0, 0, 0]))
    bias = np.float64(params["bias_0"][0, 0, 0])
    below = expit(slope * (first - 0.5) + bias)
    above = expit(-(slope * (last + 0.5) + bias))
    assert below < tail_mass / 2 <= expit(slope * (first + 0.5) + bias)
    assert above < tail_mass / 2 <= expit(-(slope * (last - 0.5) + bias))
    np.testing.assert_allclose(tail, below + above, rtol=1e-9, atol=1e-300)
    integers = np.arange(first, last + 1)
    exact = logistic.probability(integers, -bias / slope, 1 / slope)
    np.testing.assert_allclose(probabilities, exact, rtol=1e-6, atol=1e-15)


def test_what_lies_beyond_the_limit_goes_to_the_escape():
    # Half of the mass of the first is out of reach; of the others, on either side, all of it.
    params = logistic.params_of([64.5, 5000.0, -5000.0], [1.0, 2.0, 2.0])
    tables = integer_probabilities(params, filters=(), limit=64)
    for first, probabilities, tail in tables:
        assert -64 <= first <= first + len(probabilities) - 1 <= 64
        np.testing.assert_allclose(probabilities.sum() + tail, 1.0, atol=1e-12)
    assert abs(tables[0][2] - 0.5) < 1e-3
    for _, probabilities, tail in tables[1:]:
        assert len(probabilities) == 1
        assert tail > 0.999
    assert [first for first, _, _ in tables[1:]] == [64, -64]


def test_channels_keep_their_own_tables():
    params = logistic.params_of([0.0, 20.0], [0.1, 4.0])
    narrow, wide = integer_probabilities(params, filters=())
    assert len(narrow[1]) < 5 < 50 < len(wide[1])
    assert wide[0] + np.argmax(wide[1]) == 20


def test_a_fresh_prior_spreads_over_the_initial_scale(key):
    prior = DeepFactorized(2, init_scale=10.0)
    y = jnp.zeros((3, 2))
    p, variables = jax.jit(prior.init_with_output)(key, y)
    assert p.shape == (3, 2)
    tables = integer_probabilities(variables["params"], filters=prior.filters)
    for first, probabilities, _ in tables:
        integers = np.arange(first, first + len(probabilities))
        assert probabilities[np.abs(integers) <= 30].sum() > 0.8
        assert probabilities.max() < 0.2


def test_parameters_are_named_and_shaped_as_in_tensorflow_compression(key, tfc_golden):
    variables = jax.eval_shape(DeepFactorized(4).init, key, jnp.zeros((1, 4)))
    ours = {name: value.shape for name, value in variables["params"].items()}
    assert ours == {name: value.shape for name, value in golden_params(tfc_golden).items()}
    for value in variables["params"].values():
        assert value.dtype == jnp.float32
        assert not value.weak_type


@pytest.mark.parametrize("filters", [(), (3,), (3, 3, 3)])
def test_any_depth_gives_a_distribution(key, filters):
    prior = DeepFactorized(2, filters=filters)
    params = jax.jit(partial(prior.init, y=jnp.zeros((1, 2))))(key)["params"]
    for _, probabilities, tail in integer_probabilities(params, filters=filters):
        np.testing.assert_allclose(probabilities.sum() + tail, 1.0, atol=1e-12)
        assert tail < 2.0**-16
