import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.ops.bounds import from_square_parameter, lower_bound, square_parameter


def test_lower_bound_is_the_maximum():
    x = jnp.asarray([-1.0, 0.5, 2.0])
    np.testing.assert_array_equal(lower_bound(x, 0.5), [0.5, 0.5, 2.0])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    ("x", "incoming", "expected"),
    [
        (1.0, 3.0, 3.0),  # inside: passed whatever its sign
        (1.0, -3.0, -3.0),
        (0.0, -3.0, -3.0),  # below, and descent would raise x: passed
        (0.0, 3.0, 0.0),  # below, and descent would lower x further: blocked
        (0.5, 3.0, 3.0),  # on the bound counts as inside
    ],
)
def test_gradient_passes_unless_it_leads_further_below_the_bound(x, incoming, expected, jit):
    def gradient(x):
        _, vjp = jax.vjp(lambda x: lower_bound(x, 0.5), x)
        return vjp(jnp.full((2,), incoming, jnp.float32))[0]

    function = jax.jit(gradient) if jit else gradient
    np.testing.assert_array_equal(function(jnp.full((2,), x, jnp.float32)), [expected, expected])


def test_a_parameter_below_the_bound_returns_by_gradient_descent():
    # (max(x, 1) - 2)^2 from x = -1: plain max would stay there for ever.
    descend = jax.jit(lambda x: x - 0.2 * jax.grad(lambda x: (lower_bound(x, 1.0) - 2.0) ** 2)(x))
    x = jnp.float32(-1.0)
    for _ in range(20):
        x = descend(x)
    np.testing.assert_allclose(x, 2.0, atol=0.01)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_lower_bound_keeps_the_type_and_maps_over_a_batch(dtype):
    x = jnp.asarray([-1.0, 2.0], dtype)
    gradient = jax.vmap(jax.grad(lambda x: lower_bound(x, 0.5)))(x)
    assert lower_bound(x, 0.5).dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(gradient.astype(jnp.float32), [0.0, 1.0])


def test_the_bound_itself_gets_no_gradient():
    gradient = jax.grad(lambda bound: lower_bound(jnp.asarray([0.0, 1.0]), bound).sum())(jnp.float32(0.5))
    assert gradient == 0


def test_square_parameter_round_trips():
    values = np.array([0.0, 1e-6, 1e-3, 0.1, 1.0, 30.0], np.float32)
    back = from_square_parameter(square_parameter(jnp.asarray(values)))
    np.testing.assert_allclose(back, values, rtol=1e-5)


def test_square_parameter_is_that_of_tensorflow_compression():
    # GDNParameter: sqrt(max(v + 2^-36, 2^-36)), max(raw, sqrt(min + 2^-36))^2 - 2^-36
    raw = jnp.asarray([-1.0, 0.0, 2.0**-18, 0.01, 1.0])
    expected = np.maximum(np.asarray(raw, np.float64), (1e-6 + 2.0**-36) ** 0.5) ** 2 - 2.0**-36
    np.testing.assert_allclose(from_square_parameter(raw, minimum=1e-6), expected, rtol=1e-5)
    assert square_parameter(jnp.float32(0.0)) == 2.0**-18


def test_a_value_never_falls_below_the_minimum():
    raw = jnp.asarray([-5.0, -1e-3, 0.0])
    assert (from_square_parameter(raw) == 0).all()
    np.testing.assert_allclose(from_square_parameter(raw, minimum=1e-6), 1e-6, rtol=1e-4)


def test_gradient_at_zero_still_moves_the_parameter():
    raw = square_parameter(jnp.float32(0.0))
    assert jax.grad(lambda raw: -from_square_parameter(raw))(raw) < 0
