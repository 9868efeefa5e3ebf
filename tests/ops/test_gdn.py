import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.ops.gdn import gdn, inverse_gdn, normalisation_pool

EXPONENTS = [(2.0, 0.5), (1.0, 1.0), (1.5, 0.7)]


def example(rng, C=4):
    x = rng.normal(scale=3.0, size=(2, 3, C)).astype(np.float32)
    beta = rng.uniform(0.1, 2.0, C).astype(np.float32)
    gamma = rng.uniform(0.0, 1.0, (C, C)).astype(np.float32)
    return x, beta, gamma


def pool_by_loops(x, beta, gamma, alpha):
    """beta_i + sum_j gamma_ij |x_j|^alpha, as in the paper."""
    pool = np.zeros(x.shape)
    for position in np.ndindex(*x.shape[:-1]):
        for i in range(x.shape[-1]):
            total = float(beta[i])
            for j in range(x.shape[-1]):
                total += float(gamma[i, j]) * abs(float(x[(*position, j)])) ** alpha
            pool[(*position, i)] = total
    return pool


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("alpha", "epsilon"), EXPONENTS)
def test_gdn_is_the_formula_of_the_paper(rng, alpha, epsilon, jit):
    x, beta, gamma = example(rng)
    pool = pool_by_loops(x, beta, gamma, alpha)
    for function, expected in ((gdn, x / pool**epsilon), (inverse_gdn, x * pool**epsilon)):
        f = jax.jit(function, static_argnames=("alpha", "epsilon")) if jit else function
        y = f(jnp.asarray(x), jnp.asarray(beta), jnp.asarray(gamma), alpha=alpha, epsilon=epsilon)
        np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["paper", "paper_inverse", "simplified", "simplified_inverse"])
def test_gdn_is_that_of_tensorflow_compression(tfc_golden, name):
    case = tfc_golden["origin"]["gdn"][name]
    x, beta, gamma = (jnp.asarray(tfc_golden[f"gdn/{part}"]) for part in ("x", "beta", "gamma"))
    function = inverse_gdn if case["inverse"] else gdn
    # Its gamma is [in, out]: the transpose of the paper's and ours.
    y = function(x, beta, gamma.T, alpha=case["alpha"], epsilon=case["epsilon"])
    np.testing.assert_allclose(y, tfc_golden[f"gdn/{name}/y"], rtol=1e-5, atol=1e-6)


def test_inverse_undoes_gdn_when_it_uses_the_pool_of_the_input(rng):
    # The fixed point of x = y * pool(x)^epsilon is the inverse; from the solution, one step stays there.
    x, beta, gamma = (jnp.asarray(a) for a in example(rng))
    y = gdn(x, beta, gamma)
    np.testing.assert_allclose(y * jnp.sqrt(normalisation_pool(x, beta, gamma)), x, rtol=1e-5)


def test_without_gamma_and_with_beta_one_gdn_is_the_identity(rng):
    x, _, _ = (jnp.asarray(a) for a in example(rng))
    for function in (gdn, inverse_gdn):
        np.testing.assert_allclose(function(x, jnp.ones(4), jnp.zeros((4, 4))), x, rtol=1e-6)


def test_gdn_of_zeros_has_a_finite_gradient(rng):
    _, beta, gamma = (jnp.asarray(a) for a in example(rng))
    for alpha, epsilon in EXPONENTS[:2]:
        gradient = jax.grad(lambda x, a=alpha, e=epsilon: gdn(x, beta, gamma, alpha=a, epsilon=e).sum())(
            jnp.zeros((2, 4))
        )
        assert np.isfinite(gradient).all()


def test_the_norm_is_float32_for_any_input_type(rng, strict_dtypes):
    x, beta, gamma = (jnp.asarray(a) for a in example(rng))
    half = x.astype(jnp.bfloat16)
    assert normalisation_pool(half, beta, gamma).dtype == jnp.float32
    assert gdn(x, beta, gamma).dtype == inverse_gdn(x, beta, gamma).dtype == jnp.float32


def test_output_has_the_type_of_the_input_and_its_rounding_only(rng):
    x, beta, gamma = (jnp.asarray(a) for a in example(rng))
    half = x.astype(jnp.bfloat16)
    for function in (gdn, inverse_gdn):
        out = function(half, beta, gamma)
        assert out.dtype == jnp.bfloat16
        exact = function(half.astype(jnp.float32), beta, gamma)
        np.testing.assert_allclose(out.astype(jnp.float32), exact, rtol=2.0**-8)


@pytest.mark.parametrize(("beta", "gamma"), [((3,), (4, 4)), ((4,), (4, 3)), ((4,), (4,))])
def test_parameters_of_the_wrong_shape_are_refused(beta, gamma):
    with pytest.raises(ValueError, match="4 channels"):
        gdn(jnp.zeros((2, 4)), jnp.zeros(beta), jnp.zeros(gamma))
