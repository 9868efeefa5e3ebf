"""The float network leaks nothing, the integer one is what it says, and the two agree."""

import hashlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcodec.coding.binary_planes import (
    StaticPlanes,
    decode_codes,
    encode_codes,
    ideal_bits,
    probabilities,
)
from jaxcodec.entropy.binary_rnn import BinaryRNN, BinaryRNNConfig
from jaxcodec.entropy.binary_rnn_export import accumulator_bounds, integer_arrays
from jaxcodec.entropy.binary_rnn_integer import (
    BIT_UNIT,
    STRIP,
    TABLE_SIZE,
    TABLES,
    IntegerBinaryRNN,
    accumulator_bound,
    layer_shapes,
)
from jaxcodec.errors import CorruptFile, TooLarge
from jaxcodec.ops.quantise import straight_through_round

SMALL = BinaryRNNConfig(iterations=3, bits=6, depth=8)


def identity(x):
    return x


def smooth_codes(rng, count, height=12, width=16, config=SMALL):
    """Signs of smooth random fields that share a part, coarse to fine: uint8 `[n, T, h, w, D]`."""
    field = rng.standard_normal((count, height, width, config.bits))
    for axis in (1, 2):
        for _ in range(3):
            field = field + np.roll(field, 1, axis)
    field = field / field.std() + field.mean(-1, keepdims=True) / field.std()
    codes = []
    for _ in range(config.iterations):
        codes.append(field > 0)
        field = field - np.where(codes[-1], 0.7, -0.7) * np.abs(field).mean()
    return np.stack(codes, 1).astype(np.uint8)


def signs(codes):
    return jnp.asarray(2.0 * codes - 1.0, jnp.float32)


def random_params(config, seed=0, scale=2.0):
    """Larger than at initialisation, so that gates and tables are used in all their range."""
    shapes = jax.eval_shape(
        lambda key: BinaryRNN(config).init(key, jnp.zeros((1, 2, 4, 4, config.bits)))["params"],
        jax.random.key(0),
    )
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(
            rng.standard_normal(x.shape) * (0.3 if name.endswith("bias") else scale / x.shape[1] ** 0.5),
            jnp.float32,
        )
        for name, x in shapes.items()
    }


@partial(jax.jit, static_argnames=("quantise",))
def logits_of(params, codes, quantise=identity):
    """`[B, t, h, w, D]`; without rounding unless told how."""
    return BinaryRNN(SMALL).apply({"params": params}, codes, quantise=quantise, method="logits")


def costs(params, codes):
    """Bits of each of the codes `[B, t, h, w, D]` under the network without rounding."""
    agreement = (2.0 * codes - 1.0) * np.tanh(np.asarray(logits_of(params, signs(codes)), np.float64))
    return -np.log2((1 + 0.999 * agreement) / 2)


OPTIMISER = optax.adam(2e-2)


@jax.jit
def update(params, state, codes):
    """One step on 8 pictures; also the logits of the rounded network before it."""

    def loss(params):
        logits = logits_of(params, codes, straight_through_round)
        return -jnp.log2(0.5 + 0.4995 * codes * jnp.tanh(logits)).mean(), logits

    gradient, logits = jax.grad(loss, has_aux=True)(params)
    updates, state = OPTIMISER.update(gradient, state)
    return optax.apply_updates(params, updates), state, logits


@pytest.fixture(scope="module")
def trained():
    """Parameters after a hundred updates on smooth codes."""
    codes = signs(smooth_codes(np.random.default_rng(0), 48))
    params = random_params(SMALL, scale=1.0)
    state = OPTIMISER.init(params)
    for step in range(100):
        params, state, _ = update(params, state, codes[(8 * step) % 48 :][:8])
    return params


# --- The float network.


def test_a_code_says_nothing_about_itself_or_those_before(rng):
    codes = smooth_codes(rng, 4)
    params = random_params(SMALL)
    before = np.asarray(logits_of(params, signs(codes)))
    _, T, h, w, D = before.shape
    order = np.arange(T * h * w).reshape(T, h, w)  # of positions: the D bits of one are coded together
    for _ in range(15):
        places = [tuple(int(rng.integers(n)) for n in (T, h, w, D)) for _ in range(4)]
        flipped = codes.copy()
        for picture, place in zip(flipped, places, strict=True):
            picture[place] ^= 1
        changed = (np.asarray(logits_of(params, signs(flipped))) != before).any(-1)
        for (k, row, column, _), reached in zip(places, changed, strict=True):
            assert not reached[order <= order[k, row, column]].any()
            if k < T - 1 and 0 < row < h - 1 and 3 < column < w - 3:
                # The next iteration sees the place itself, the rest of this one what is to the right and below.
                assert reached[k + 1, row, column]
                assert reached[k, row, column + 1]
                assert reached[k, row + 1, column - 3 : column + 4].all()


def test_the_module_costs_what_its_logits_say(rng, trained):
    codes = smooth_codes(rng, 4)
    network = BinaryRNN(SMALL)
    ours = jax.jit(lambda p, x: network.apply({"params": p}, x, quantise=identity))(
        trained, signs(codes[:, :1])
    )
    # Fewer iterations cost what they cost among all.
    np.testing.assert_allclose(ours, costs(trained, codes)[:, :1], atol=1e-3)


def test_codes_of_another_network_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        BinaryRNN(SMALL).apply({"params": random_params(SMALL)}, jnp.zeros((1, 3, 4, 4, 7)))


def test_a_network_of_one_iteration_is_refused():
    with pytest.raises(ValueError, match="2 iterations"):
        BinaryRNNConfig(iterations=1)


# --- The integer network against its definition, written down for whole maps in int64.


def taps(x, offsets):
    padded = np.pad(x, ((3, 3), (3, 3), (0, 0)))
    h, w = x.shape[:2]
    return np.concatenate([padded[3 + dy : 3 + dy + h, 3 + dx : 3 + dx + w] for dy, dx in offsets], -1)


def reference_probabilities(codes, arrays):
    """Counts of ones `[T, h, w, D]` by the table in the docstring of `binary_rnn_integer`."""
    T, h, w, D = codes.shape
    F = arrays["line/bias"].shape[1] // 4

    def index(name, copy, x):
        sums = x @ arrays[f"{name}/kernel"][copy].astype(np.int64) + arrays[f"{name}/bias"][copy]
        assert np.abs(sums).max() < 2**31
        return np.clip(sums >> arrays[f"{name}/shift"][copy].astype(np.int64), 0, TABLE_SIZE - 1)

    def tanh(name, copy, x):
        # int8 in, int8 out.
        assert np.abs(x).max() <= 127
        return arrays["table/tanh"][index(name, copy, x)].astype(np.int64)

    def lstm(name, copy, x, cell):
        gates = index(name, copy, x)
        f, i, o = np.split(arrays["table/sigmoid_gate"][gates[..., : 3 * F]].astype(np.int64), 3, -1)
        j = arrays["table/tanh_gate"][gates[..., 3 * F :]].astype(np.int64)
        cell = np.clip((f * cell + i * j + 2048) // 4096, -32767, 32767)
        squashed = arrays["table/tanh_gate"][(cell + 8) // 16 + 2048].astype(np.int64)
        return cell, np.clip((o * squashed + 65536) // 131072, -127, 127)

    square = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    mask = [(dy, dx) for dy in range(-3, 1) for dx in range(-3, 4) if (dy, dx) < (0, 0)]
    state, cell, hidden = (np.zeros((h, w, n), np.int64) for n in (D, F, F))
    result = []
    for k in range(T):
        x = 128 * codes[k].astype(np.int64) - 64
        read = tanh("context", k, taps(x, mask))
        seen = tanh("state_context", k, taps(state, square))
        both = np.concatenate([taps(read, [(0, -1), (0, 0)]), taps(seen, [(0, -1), (0, 0)])], -1)
        row_cell, row_hidden = np.zeros((1, w, F), np.int64), np.zeros((1, w, F), np.int64)
        outputs = []
        for row in range(h):
            around = taps(row_hidden, [(0, -1), (0, 0), (0, 1)])
            inputs = np.concatenate([both[row : row + 1], around], -1)
            row_cell, row_hidden = lstm("line", k, inputs, row_cell)
            outputs.append(row_hidden)
        hidden_output = tanh("output_hidden", k, np.concatenate(outputs))
        if arrays["output/kernel"].shape[1] > F:
            last = 128 * codes[k - 1].astype(np.int64) - 64 if k else np.zeros_like(x)
            hidden_output = np.concatenate([hidden_output, taps(x, mask), taps(last, square)], -1)
        result.append(arrays["table/ones"][index("output", k, hidden_output)])
        if k < T - 1:
            summary = tanh("summary", k, taps(tanh("summary_hidden", k, taps(x, square)), square))
            cell, hidden = lstm("iteration", 0, np.concatenate([summary, hidden], -1), cell)
            state = tanh("state", 0, tanh("state_hidden", 0, hidden))
    return np.stack(result)


def random_arrays(iterations, bits, depth, shortcut=True, seed=0):
    """Integers drawn without any float, so that they are the same everywhere."""
    rng = np.random.default_rng(seed)
    steps = np.arange(TABLE_SIZE) - TABLE_SIZE // 2
    arrays = {
        "table/tanh": np.clip(steps // 4, -127, 127),
        "table/tanh_gate": np.clip(8 * steps, -4096, 4096),
        "table/sigmoid_gate": np.clip(2048 + 2 * steps, 0, 4096),
        "table/ones": np.clip(32768 + 40 * steps, 33, 65503),
    }
    arrays = {name: table.astype(TABLES[name[6:]]) for name, table in arrays.items()}
    sizes = {"iterations": iterations, "bits": bits, "depth": depth, "shortcut": shortcut}
    for name, shape in layer_shapes(**sizes).items():
        arrays[f"{name}/kernel"] = rng.integers(-127, 128, shape[:3]).astype(np.int8)
        shift = rng.integers(4, 7, (shape.copies, shape.outputs))
        arrays[f"{name}/shift"] = shift.astype(np.uint8)
        bias = ((2048 << shift) + rng.integers(-5000, 5001, shift.shape)).astype(np.int32)
        arrays[f"{name}/bias"] = bias
    return arrays


@pytest.mark.parametrize(
    ("sizes", "height", "width"),
    [
        ((3, 6, 8), 12, 16),
        ((3, 6, 8, False), 12, 16),
        ((2, 5, 3), 1, 9),
        ((2, 1, 1), 7, 1),
        ((2, 32, 16), 4, 5),
        ((2, 2, 2), STRIP // 64 + 5, 64),
    ],
    ids=["even", "without shortcut", "one row", "one column", "wide", "several strips"],
)
def test_position_by_position_equals_whole_maps_in_int64(rng, sizes, height, width):
    arrays = random_arrays(*sizes)
    codes = rng.integers(0, 2, (sizes[0], height, width, sizes[1])).astype(np.uint8)
    ours = probabilities(codes, IntegerBinaryRNN.from_arrays(arrays))
    np.testing.assert_array_equal(ours, reference_probabilities(codes, arrays))
    assert height * width * sizes[1] < 100 or len(np.unique(ours)) > 20


def test_pictures_coded_side_by_side_do_not_disturb_each_other(rng):
    model = IntegerBinaryRNN.from_arrays(random_arrays(3, 6, 8))
    pictures = rng.integers(0, 2, (2, 3, 5, 7, 6)).astype(np.uint8)
    walks, noted = [model.walk(5, 7) for _ in pictures], [[], []]
    for k in range(3):
        for picture, walk, ones in zip(pictures, walks, noted, strict=True):
            known = iter(picture[k].reshape(-1, 6))
            walk.plane(lambda counts, known=known, ones=ones: (ones.append(counts), next(known))[1])
    for picture, ones in zip(pictures, noted, strict=True):
        np.testing.assert_array_equal(np.reshape(ones, picture.shape), probabilities(picture, model))


@pytest.mark.parametrize(("shortcut", "digest"), [(True, "687356ca778c0940"), (False, "c38893d53bb88ec9")])
def test_bytes_of_fixed_integers_never_change(shortcut, digest):
    # Made by this test when the network was defined. Another value means that old files no longer decode.
    model = IntegerBinaryRNN.from_arrays(random_arrays(3, 6, 8, shortcut))
    codes = np.random.default_rng(5).integers(0, 2, (3, 9, 11, 6)).astype(np.uint8)
    chunks = encode_codes(codes, model)
    np.testing.assert_array_equal(decode_codes(chunks, (9, 11), model), codes)
    assert hashlib.sha256(b"".join(chunks)).hexdigest()[:16] == digest


# --- From floats to integers.


def test_the_integer_network_is_what_training_sees(rng):
    codes = smooth_codes(rng, 8)
    params = random_params(SMALL)
    model = IntegerBinaryRNN.from_arrays(integer_arrays(params, SMALL))
    ones = np.stack([probabilities(picture, model) for picture in codes]) / 65536
    _, _, logits = update(params, OPTIMISER.init(params), signs(codes))
    seen = 0.5 + 0.4995 * np.tanh(np.asarray(logits))
    # Gates are rounded in one and not in the other, which now and then flips the last place of a state.
    assert np.abs(ones - seen).mean() < 2e-3
    assert np.abs(seen - 0.5).mean() > 0.1


def test_integers_cost_within_a_hundredth_of_floats_and_streams_of_integers(rng, trained):
    codes = smooth_codes(rng, 4)
    arrays = integer_arrays(trained, SMALL)
    model = IntegerBinaryRNN.from_arrays(arrays)
    floats = costs(trained, codes).sum((0, 2, 3, 4))
    integers, stream = np.zeros(3), np.zeros(3)
    for picture in codes:
        chunks = encode_codes(picture, model)
        np.testing.assert_array_equal(decode_codes(chunks, (12, 16), model), picture)
        integers += ideal_bits(picture, probabilities(picture, model))
        stream += [8 * len(chunk) for chunk in chunks]
    np.testing.assert_allclose(integers, floats, rtol=0.01)
    assert (stream <= 1.01 * integers + len(codes) * 32).all()
    # It learned something of its neighbours.
    static = StaticPlanes.fit(codes)
    assert stream.sum() < 0.9 * sum(ideal_bits(c, probabilities(c, static)).sum() for c in codes)


def test_every_prefix_of_a_stream_decodes_to_the_first_iterations(rng, trained):
    model = IntegerBinaryRNN.from_arrays(integer_arrays(trained, SMALL))
    codes = smooth_codes(rng, 1, 7, 10)[0]
    chunks = encode_codes(codes, model)
    for k in range(4):
        np.testing.assert_array_equal(decode_codes(chunks[:k], (7, 10), model), codes[:k])
        assert k == 0 or encode_codes(codes[:k], model) == chunks[:k]


def test_the_bound_of_a_layer_is_reached_and_not_passed(rng):
    arrays = integer_arrays(random_params(SMALL), SMALL)
    for name, bound in accumulator_bounds(arrays, SMALL).items():
        kernel, bias = (arrays[f"{name}/{part}"].astype(np.int64) for part in ("kernel", "bias"))
        largest = 64 if SMALL.shapes[name].unit == BIT_UNIT else 127
        agreeing = largest * np.where(kernel < 0, -1, 1) * np.where(bias < 0, -1, 1)[:, None]
        assert np.abs((agreeing * kernel).sum(1) + bias).max() == bound < 2**31
        x = rng.integers(-largest, largest + 1, (50, kernel.shape[1]))
        assert np.abs(x @ kernel + bias[:, None]).max() < bound


def test_a_network_whose_sums_might_overflow_is_not_exported():
    params = random_params(SMALL) | {"line_bias": jnp.full((3, 32), 2.0**25, jnp.float32)}
    with pytest.raises(ValueError, match="'line' might reach"):
        integer_arrays(params, SMALL)


def test_parameters_of_another_network_are_not_exported():
    with pytest.raises(ValueError, match="kernel 'context'"):
        integer_arrays(random_params(SMALL), BinaryRNNConfig(3, 6, 9))


def test_weights_of_any_size_are_exported():
    for scale in (0.0, 1e-6, 1e3):
        params = {name: np.float32(scale) * x for name, x in random_params(SMALL).items()}
        IntegerBinaryRNN.from_arrays(integer_arrays(params, SMALL))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("line/kernel", None, "'line/kernel' is missing"),
        ("context/kernel", np.zeros((3, 145, 8), np.int8), r"kernels are \[3, 145, 8\]"),
        ("output/kernel", np.zeros((3, 9, 6), np.int8), r"must be int8 \[3, 206, 6\]"),
        ("output/bias", np.zeros((3, 6), np.int64), "must be int32"),
        ("state/kernel", np.zeros((1, 8, 7), np.int8), r"must be int8 \[1, 8, 6\]"),
        ("state/bias", np.full((1, 6), 2**31 - 1, np.int32), "might overflow"),
        ("state/shift", np.full((1, 6), 32, np.uint8), "might overflow"),
        ("table/tanh", np.full(4096, -128, np.int8), "beyond 127"),
        ("table/ones", np.zeros(4096, np.uint16), "impossible"),
    ],
)
def test_arrays_that_are_no_such_network_are_refused(name, value, said):
    arrays = random_arrays(3, 6, 8) | {name: value}
    if value is None:
        del arrays[name]
    with pytest.raises(CorruptFile, match=said):
        IntegerBinaryRNN.from_arrays(arrays)


def test_a_map_beyond_the_memory_limit_is_refused():
    model = IntegerBinaryRNN.from_arrays(random_arrays(3, 6, 8))
    with pytest.raises(TooLarge):
        decode_codes([b"\0\0\0\0"], (1 << 16, 1 << 16), model)
    assert accumulator_bound(np.ones((1, 2, 1), np.int8), np.zeros((1, 1)), unit=7) == 254
