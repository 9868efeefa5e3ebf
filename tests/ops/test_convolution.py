from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcodec.ops.convolution import _plain_convolution, strided_convolution, transposed_convolution

PAIRS = [(9, 4), (5, 2), (3, 2), (3, 1), (5, 1)]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# One compilation each instead of one per operation: most of this file's time.
strided = jax.jit(strided_convolution, static_argnames=("stride", "space_to_depth_first"))
transposed = jax.jit(transposed_convolution, static_argnames="stride")

kernel_and_stride = pytest.mark.parametrize(("K", "s"), PAIRS)


def strided_by_loops(x, kernel, s):
    """out[i] = sum_t x[s i + t - p] w[t], as the module's docstring says."""
    B, H, W, _ = x.shape
    K, p = kernel.shape[0], kernel.shape[0] // 2
    out = np.zeros((B, -(-H // s), -(-W // s), kernel.shape[3]))
    for i, j in np.ndindex(*out.shape[1:3]):
        for t, u in np.ndindex(K, K):
            row, column = s * i + t - p, s * j + u - p
            if 0 <= row < H and 0 <= column < W:
                out[:, i, j] += x[:, row, column] @ kernel[t, u]
    return out


def transposed_by_loops(y, kernel, s):
    """out[o] = sum_i y[i] w[o - s i + p]."""
    B, h, w, _ = y.shape
    K, p = kernel.shape[0], kernel.shape[0] // 2
    out = np.zeros((B, s * h, s * w, kernel.shape[3]))
    for i, j in np.ndindex(h, w):
        for t, u in np.ndindex(K, K):
            row, column = s * i + t - p, s * j + u - p
            if 0 <= row < s * h and 0 <= column < s * w:
                out[:, row, column] += y[:, i, j] @ kernel[t, u]
    return out


@partial(jax.jit, static_argnames="s")
def transposed_by_dilation(y, kernel, s):
    """Zero insertion by `lhs_dilation`, then correlation with the flipped kernel."""
    K = kernel.shape[0]
    padding = [(K // 2, s - 1 + K // 2)] * 2
    return lax.conv_general_dilated(
        y, kernel[::-1, ::-1], (1, 1), padding, lhs_dilation=(s, s), dimension_numbers=DIMENSIONS
    )


def example(rng, K, size):
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    kernel = rng.normal(size=(K, K, 3, 2)).astype(np.float32)
    return x, kernel


@kernel_and_stride
@pytest.mark.parametrize("size", [(8, 12), (7, 13), (1, 2)])
def test_strided_convolution_is_its_formula(rng, K, s, size):
    x, kernel = example(rng, K, size)
    out = strided(jnp.asarray(x), jnp.asarray(kernel), stride=s)
    np.testing.assert_allclose(out, strided_by_loops(x, kernel, s), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("K", "s", "size"), [(1, 2, (2, 4)), (3, 4, (8, 6)), (1, 4, (3, 3))])
def test_a_stride_beyond_the_kernel_leaves_rows_unread(rng, K, s, size):
    x, kernel = example(rng, K, size)
    for first in (False, True):
        out = strided(jnp.asarray(x), jnp.asarray(kernel), stride=s, space_to_depth_first=first)
        np.testing.assert_allclose(out, strided_by_loops(x, kernel, s), rtol=1e-4, atol=2e-5)


@kernel_and_stride
@pytest.mark.parametrize("size", [(8, 12), (7, 13), (1, 2)])
def test_space_to_depth_first_gives_the_same_values(rng, K, s, size):
    x, kernel = (jnp.asarray(a) for a in example(rng, K, size))
    direct = strided(x, kernel, stride=s)
    by_blocks = strided(x, kernel, stride=s, space_to_depth_first=True)
    np.testing.assert_allclose(by_blocks, direct, rtol=1e-4, atol=2e-5)


@kernel_and_stride
@pytest.mark.parametrize("size", [(4, 6), (3, 5), (1, 1)])
def test_polyphase_form_equals_the_dilated_convolution(rng, K, s, size):
    y, kernel = (jnp.asarray(a) for a in example(rng, K, size))
    out = transposed(y, kernel, stride=s)
    assert out.shape == (2, s * size[0], s * size[1], 2)
    np.testing.assert_allclose(out, transposed_by_dilation(y, kernel, s), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("K", "s"), [(9, 4), (5, 2), (3, 1), (3, 4)])
def test_transposed_convolution_is_its_formula(rng, K, s):
    y, kernel = example(rng, K, (3, 4))
    out = transposed(jnp.asarray(y), jnp.asarray(kernel), stride=s)
    np.testing.assert_allclose(out, transposed_by_loops(y, kernel, s), rtol=1e-4, atol=2e-5)


@kernel_and_stride
def test_transposed_convolution_is_the_adjoint_of_the_strided_one(rng, K, s):
    x, kernel = (jnp.asarray(a) for a in example(rng, K, (2 * s, 3 * s)))
    y = jnp.asarray(rng.normal(size=(2, 2, 3, 2)), jnp.float32)
    Ax, vjp = jax.vjp(lambda x: strided(x, kernel, stride=s), x)
    (adjoint,) = vjp(y)
    ours = transposed(y, kernel.swapaxes(2, 3), stride=s)
    np.testing.assert_allclose(ours, adjoint, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(jnp.vdot(Ax, y), jnp.vdot(x, ours), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("K", "s"), [(9, 4), (5, 2)])
def test_gradients_of_the_polyphase_form_are_those_of_the_dilated_one(rng, K, s):
    y, kernel = (jnp.asarray(a) for a in example(rng, K, (3, 4)))
    weight = jnp.asarray(rng.normal(size=(2, 3 * s, 4 * s, 2)), jnp.float32)
    gradients = [
        jax.jit(jax.grad(lambda y, k, f=f: jnp.vdot(f(y, k), weight), (0, 1)))(y, kernel)
        for f in (
            lambda y, k: transposed(y, k, stride=s),
            lambda y, k: transposed_by_dilation(y, k, s),
        )
    ]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@kernel_and_stride
def test_the_bias_is_added_to_every_output_sample(rng, K, s):
    y, kernel = (jnp.asarray(a) for a in example(rng, K, (3, 4)))
    bias = jnp.asarray([1.5, -0.25])
    biased = transposed(y, kernel, stride=s, bias=bias)
    expected = transposed(y, kernel, stride=s) + bias[None, None, None]
    np.testing.assert_allclose(biased, expected, rtol=1e-5, atol=2e-5)


def operations(function, *arguments):
    """The operations of a function, those of its inner functions among them."""
    found, open_jaxprs = [], [jax.make_jaxpr(function)(*arguments).jaxpr]
    while open_jaxprs:
        for equation in open_jaxprs.pop().eqns:
            found.append(equation)
            inner = [getattr(p, "jaxpr", None) for p in equation.params.values()]
            open_jaxprs += [jaxpr for jaxpr in inner if jaxpr is not None]
    return found


@pytest.mark.parametrize("function", [partial(strided, space_to_depth_first=True), transposed])
def test_taps_are_rearranged_without_gathers_and_their_gradients_without_scatters(function):
    x, kernel = jnp.zeros((2, 36, 36, 3)), jnp.zeros((5, 5, 3, 2))
    gradient = jax.grad(lambda x, k: function(x, k, stride=2).sum(), (0, 1))
    found = {operation.primitive.name for operation in operations(gradient, x, kernel)}
    assert "conv_general_dilated" in found
    assert not {name for name in found if "gather" in name or "scatter" in name}


@pytest.mark.parametrize("size", [(36, 36), (35, 37)])
@kernel_and_stride
def test_strided_convolution_pads_all_sides_alike(K, s, size):
    x, kernel = jnp.zeros((1, *size, 3)), jnp.zeros((K, K, 3, 2))
    found = operations(lambda x, k: strided_convolution(x, k, stride=s), x, kernel)
    (convolution,) = [each for each in found if each.primitive is lax.conv_general_dilated_p]
    # Unequal sides would be a copy of the input on a GPU.
    assert convolution.params["padding"] == ((K // 2, K // 2),) * 2
    assert convolution.outvars[0].aval.shape[1:3] == tuple(-(-n // s) for n in size)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the plain form elsewhere")
@pytest.mark.parametrize(("K", "s"), [(9, 4), (5, 2), (3, 2)])
def test_on_a_cpu_no_gradient_multiplies_inserted_zeros_and_all_are_those_of_the_plain_convolution(rng, K, s):
    x, kernel = (jnp.asarray(array) for array in example(rng, K, (23, 18)))
    weight = rng.normal(size=(2, -(-23 // s), -(-18 // s), 2)).astype(np.float32)

    def gradients(convolve):
        return jax.grad(lambda x, k: jnp.vdot(convolve(x, k), weight), (0, 1))

    ours = gradients(partial(strided_convolution, stride=s))
    plain = gradients(lambda x, k: _plain_convolution(x, k, s, K // 2))
    for a, b in zip(jax.jit(ours)(x, kernel), jax.jit(plain)(x, kernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    dilations = [operation.params.get("lhs_dilation") for operation in operations(ours, x, kernel)]
    assert set(dilations) == {None, (1, 1)}


@pytest.mark.parametrize("name", ["down_9x9_4", "down_5x5_2", "up_9x9_4", "up_5x5_2"])
def test_alignment_is_that_of_tfc_signal_conv(tfc_golden, name):
    # "same_zeros" of SignalConv2D is aligned as ours, without a shift: corr=True down, corr=False up.
    case = tfc_golden["origin"]["convolution"][name]
    x, kernel, y = (jnp.asarray(tfc_golden[f"convolution/{name}/{part}"]) for part in ("x", "kernel", "y"))
    function = transposed if case["up"] else strided
    np.testing.assert_allclose(function(x, kernel, stride=case["stride"]), y, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("function", [strided_convolution, transposed_convolution])
@pytest.mark.parametrize("shape", [(4, 4, 3, 2), (3, 5, 3, 2), (3, 3, 4, 2), (3, 3, 2)])
def test_a_kernel_that_is_even_or_does_not_fit_is_refused(function, shape):
    with pytest.raises(ValueError, match="kernel"):
        function(jnp.zeros((1, 4, 4, 3)), jnp.zeros(shape), stride=2)


# Without padding

valid = jax.jit(partial(strided_convolution, padding="valid"), static_argnames="stride")


def valid_by_loops(x, kernel, s):
    """out[i] = sum_t x[s i + t] w[t]."""
    B, H, W, _ = x.shape
    K = kernel.shape[0]
    out = np.zeros((B, (H - K) // s + 1, (W - K) // s + 1, kernel.shape[3]))
    for i, j in np.ndindex(*out.shape[1:3]):
        seen = x[:, s * i : s * i + K, s * j : s * j + K]
        out[:, i, j] = np.tensordot(seen, kernel, axes=3)
    return out


# 16 positions at most are one matrix product; more are XLA's convolution.
@pytest.mark.parametrize(
    ("K", "s", "size"), [(5, 2, (9, 10)), (5, 2, (13, 19)), (3, 1, (7, 9)), (1, 2, (5, 6))]
)
def test_a_valid_convolution_sees_no_padding(rng, K, s, size):
    x, kernel = example(rng, K, size)
    out = valid(x, kernel, stride=s)
    np.testing.assert_allclose(out, valid_by_loops(x, kernel, s), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("s", [1, 2])
def test_a_few_positions_have_the_gradients_of_the_same_ones_among_many(rng, s):
    # Once as one matrix product, once in the corner of a larger map.
    x, kernel = example(rng, 3, (7, 7))
    weight = rng.normal(size=valid(x, kernel, stride=s).shape).astype(np.float32)
    h, w = (4, 4) if s == 1 else weight.shape[1:3]
    x, weight = x[:, : s * (h - 1) + 3, : s * (w - 1) + 3], weight[:, :h, :w]

    def few(x, kernel):
        return jnp.vdot(valid(x, kernel, stride=s), weight)

    def among_many(x, kernel):
        wide = jnp.pad(x, ((0, 0), (0, 12), (0, 12), (0, 0)))
        return jnp.vdot(valid(wide, kernel, stride=s)[:, :h, :w], weight)

    ours, theirs = (jax.jit(jax.value_and_grad(f, (0, 1)))(x, kernel) for f in (few, among_many))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


# Many outputs: the kernel's gradient tap by tap


@pytest.fixture(params=[(3, 2), (5, 2)], ids=str)
def wide(request, rng):
    """A transposed convolution to 65 channels in four phases: 260 outputs."""
    K, s = request.param
    y = jnp.asarray(rng.normal(size=(2, 5, 6, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(K, K, 3, 65)), jnp.float32)
    return y, kernel, s


def test_a_wide_convolution_has_the_gradients_of_the_dilated_one(wide, rng):
    y, kernel, s = wide
    weight = jnp.asarray(rng.normal(size=(2, 5 * s, 6 * s, 65)), jnp.float32)
    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda y, k, f=f: jnp.vdot(f(y, k), weight), (0, 1)))(y, kernel)
        for f in (lambda y, k: transposed(y, k, stride=s), lambda y, k: transposed_by_dilation(y, k, s))
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_a_wide_convolution_has_the_directional_derivatives_of_the_dilated_one(wide, rng):
    y, kernel, s = wide
    tangents = tuple(jnp.asarray(rng.normal(size=a.shape), jnp.float32) for a in (y, kernel))
    ours, theirs = (
        jax.jit(lambda t, f=f: jax.jvp(f, (y, kernel), t))(tangents)
        for f in (lambda y, k: transposed(y, k, stride=s), lambda y, k: transposed_by_dilation(y, k, s))
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="taps are products on a CPU only")
def test_a_wide_kernels_gradient_is_matrix_products(wide):
    y, kernel, s = wide
    found = operations(jax.grad(lambda k: transposed(y, k, stride=s).sum()), kernel)
    assert "dot_general" in {operation.primitive.name for operation in found}
    narrow = operations(jax.grad(lambda k: transposed(y, k, stride=s).sum()), kernel[..., :2])
    assert "dot_general" not in narrow
