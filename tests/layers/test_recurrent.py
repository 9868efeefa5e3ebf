"""Recurrent cells against their formulas in numpy, and windows that hang over the border."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.layers.recurrent import (
    AssociativeLSTM,
    ConvGRU,
    ConvLSTM,
    DenseLSTM,
    ResidualGRU,
    bound,
    complex_product,
)
from jaxcodec.ops.extent import Extent
from tests.parameters import random_like

CELLS = [ConvLSTM, AssociativeLSTM, ConvGRU, ResidualGRU]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolve(x, kernel):
    """`[H, W, C]` by `[K, K, C, F]` with zeros around, from the definition."""
    K = kernel.shape[0]
    padded = np.pad(x, ((K // 2, K // 2), (K // 2, K // 2), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[3]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.einsum("abc,abcf->f", padded[i : i + K, j : j + K], kernel)
    return out


def run(cell, *, steps=2, size=(4, 6), channels=3, seed=0):
    """Parameters, inputs `[steps, 1, H, W, C]`, outputs and final state."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, 1, *size, channels)).astype(np.float32)
    state = cell.initial_state(1, *(-(-n // cell.stride) for n in size))
    params = {"params": random_like(cell.init, state, x[0], seed=seed)}
    step, outputs = jax.jit(cell.apply), []
    for one in x:
        state, output = step(params, state, one)
        outputs.append(np.asarray(output[0], np.float64))
    return jax.tree.map(lambda p: np.asarray(p, np.float64), params["params"]), x[:, 0], outputs, state


def test_conv_lstm_is_its_formula():
    params, inputs, outputs, _ = run(ConvLSTM(5, hidden_kernel_size=3))
    c = h = np.zeros((4, 6, 5))
    for x, output in zip(inputs, outputs, strict=True):
        gates = (
            convolve(x, params["input"]["kernel"]) + convolve(h, params["hidden"]["kernel"]) + params["bias"]
        )
        f, i, o, j = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(output, h, atol=1e-5)


def test_dense_lstm_is_its_formula(key):
    cell = DenseLSTM(4)
    x = np.asarray(jax.random.normal(key, (3, 2, 6)))
    state = cell.initial_state(2)
    params = cell.init(key, state, x[0])
    p = jax.tree.map(np.asarray, params["params"])
    c = h = np.zeros((2, 4))
    for one in x:
        state, output = cell.apply(params, state, one)
        gates = one @ p["input"]["kernel"] + h @ p["hidden"]["kernel"] + p["hidden"]["bias"]
        f, i, o, j = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(output, h, atol=1e-5)


def test_associative_lstm_is_its_formula_in_complex_numbers():
    params, inputs, outputs, _ = run(AssociativeLSTM(6))

    def to_complex(z):
        real, imaginary = np.split(z, 2, axis=-1)
        return real + 1j * imaginary

    def bounded(z):
        return z / np.maximum(1, np.abs(z))

    c, h = np.zeros((4, 6, 3), complex), np.zeros((4, 6, 6))
    for x, output in zip(inputs, outputs, strict=True):
        gates = (
            convolve(x, params["input"]["kernel"]) + convolve(h, params["hidden"]["kernel"]) + params["bias"]
        )
        f, i, o = (sigmoid(g) for g in np.split(gates[..., :9], 3, axis=-1))
        j, key_in, key_out = (bounded(to_complex(z)) for z in np.split(gates[..., 9:], 3, axis=-1))
        c = f * c + key_in * i * j
        z = o * bounded(key_out * c)
        h = np.concatenate([z.real, z.imag], axis=-1)
        np.testing.assert_allclose(output, h, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_gru_and_residual_gru_are_their_formulas(residual):
    cell = (ResidualGRU if residual else ConvGRU)(4, hidden_kernel_size=3)
    params, inputs, outputs, _ = run(cell)
    h = np.zeros((4, 6, 4))
    for x, output in zip(inputs, outputs, strict=True):
        zx, rx, cx = np.split(convolve(x, params["input"]["kernel"]) + params["bias"], 3, axis=-1)
        zh, rh = np.split(convolve(h, params["hidden"]["kernel"]), 2, axis=-1)
        z, r = sigmoid(zx + zh), sigmoid(rx + rh)
        new = (1 - z) * h + z * np.tanh(cx + convolve(r * h, params["hidden_candidate"]["kernel"]))
        if residual:
            new = new + 0.1 * convolve(h, params["hidden_residual"]["kernel"])
        h = new
        expected = h + 0.1 * convolve(x, params["output_residual"]["kernel"]) if residual else h
        np.testing.assert_allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_forget_gates_start_open_and_other_biases_at_zero(cell, key):
    module = cell(4)
    state = module.initial_state(1, 2, 2)
    bias = module.init(key, state, jnp.zeros((1, 2, 2, 3)))["params"]["bias"]
    ones = {ConvLSTM: 4, AssociativeLSTM: 2}.get(cell, 0)
    np.testing.assert_array_equal(bias[:ones], 1)
    np.testing.assert_array_equal(bias[ones:], 0)


@pytest.mark.parametrize("cell", CELLS)
def test_a_window_that_hangs_over_the_border_gives_what_the_picture_alone_would(cell, key):
    module = cell(4, stride=2, total_stride=2, hidden_kernel_size=3)
    x = jax.random.normal(key, (3, 1, 6, 10, 3))
    beyond = jnp.pad(x, ((0, 0), (0, 0), (0, 6), (0, 4), (0, 0)))
    extent = Extent(np.zeros((1, 2), np.int32), np.array([[6, 10]], np.int32))
    state, window = module.initial_state(1, 3, 5), module.initial_state(1, 6, 7)
    params = {"params": random_like(module.init, state, x[0])}
    step = jax.jit(partial(module.apply, params))
    for one, larger in zip(x, beyond, strict=True):
        state, alone = step(state, one)
        window, inside = step(window, larger, extent)
        np.testing.assert_allclose(inside[:, :3, :5], alone, atol=1e-6)
        assert not np.asarray(inside[:, 3:]).any()
        assert not np.asarray(inside[:, :, 5:]).any()


def test_bound_and_product_are_those_of_complex_numbers(key):
    z = np.asarray(3 * jax.random.normal(key, (2, 50, 8)))
    a, b = (part[..., :4] + 1j * part[..., 4:] for part in z)
    bounded = bound(jnp.asarray(z[0]))
    np.testing.assert_allclose(bounded[:, :4] + 1j * bounded[:, 4:], a / np.maximum(1, np.abs(a)), rtol=1e-4)
    product = complex_product(*map(jnp.asarray, z))
    np.testing.assert_allclose(product[:, :4] + 1j * product[:, 4:], a * b, rtol=1e-4, atol=1e-4)
    gradient = jax.grad(lambda v: bound(v).sum())(jnp.zeros(8))
    np.testing.assert_allclose(gradient, 1.0)


def test_an_odd_number_of_complex_features_is_refused(key):
    cell = AssociativeLSTM(5)
    with pytest.raises(ValueError, match="even"):
        cell.init(key, cell.initial_state(1, 2, 2), jnp.zeros((1, 2, 2, 3)))
