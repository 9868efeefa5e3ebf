import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcodec.layers.convolution import Convolution, TransposedConvolution
from jaxcodec.layers.efficientnet_lite import DepthwiseConvolution
from jaxcodec.pq.activations import (
    block_inputs,
    find_layers,
    gram_matrices,
    input_strengths,
    output_importance,
)
from jaxcodec.pq.artefact import read_artefact, write_artefact
from jaxcodec.pq.kmeans import weighted_kmeans
from jaxcodec.pq.layouts import to_blocks
from jaxcodec.pq.parameters import to_artefact
from jaxcodec.pq.quantise import Setting, output_error, quantise


class Small(nn.Module):
    """A layer of each kind."""

    @nn.compact
    def __call__(self, x):
        h = nn.relu(Convolution(8, 3, 2, name="first")(x))
        h = nn.relu(DepthwiseConvolution(3, name="depthwise")(h))
        h = nn.relu(nn.Conv(12, (1, 1), name="pointwise")(h))
        h = nn.relu(TransposedConvolution(6, 3, 2, name="up")(h))
        return nn.Dense(10, name="classifier")(jnp.mean(h, axis=(1, 2)))


def apply(params, x):
    return Small().apply({"params": params}, x)


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 12, 12, 4)).astype(np.float32)
    return random_params(Small(), x, rng), x


def random_params(module, x, rng):
    """As `module.init` would make them, drawn by numpy: nothing is compiled."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    return jax.tree.map(
        lambda leaf: (rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32),
        shapes,
    )


LAYERS = [
    (nn.Conv(6, (3, 3)), (2, 7, 8, 4), 9),
    (nn.Conv(6, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)]), (2, 8, 7, 4), 18),
    (nn.Conv(6, (3, 3), kernel_dilation=(2, 2), padding="VALID"), (2, 9, 9, 4), 3),
    (nn.Conv(6, (1, 1), strides=2), (2, 7, 8, 8), 4),
    (nn.Conv(4, (3, 3), feature_group_count=4), (2, 6, 6, 4), 9),
    (nn.Dense(5), (9, 8), 2),
    (Convolution(6, 5, 2), (2, 8, 9, 3), 5),
    (Convolution(6, 3, padding="valid"), (2, 8, 9, 3), 9),
    (TransposedConvolution(5, 5, 2), (2, 4, 5, 6), 5),
    (TransposedConvolution(5, 9, 4), (1, 3, 4, 3), 27),
    (DepthwiseConvolution(5, 2), (2, 9, 8, 4), 25),
]


@pytest.mark.parametrize(("module", "shape", "block"), LAYERS)
def test_activations_times_blocks_are_the_terms_of_the_layers_output(key, rng, module, shape, block):
    x = rng.standard_normal(shape).astype(np.float32)
    params = random_params(module, x, rng)
    params["bias"] = 0.0 * params["bias"]
    kernel = params["kernel"]
    run = jax.jit(
        lambda x, key: (module.apply({"params": params}, x), block_inputs(module, x, block, key=key))
    )
    output, rows = map(np.asarray, run(x, key))
    depthwise = kernel.ndim == 4 and kernel.shape[2] == 1
    if kernel.ndim == 2:
        rows = rows.reshape(-1, kernel.shape[0] // block, block)
    else:
        group = 1 if depthwise else np.lcm(block, kernel[:, :, 0, 0].size) // kernel[:, :, 0, 0].size
        groups = shape[3] // group
        blocks = group * kernel[:, :, 0, 0].size // block
        # [B, groups, h, w, blocks of a group, d] -> [B h w, blocks of an output, d]
        rows = rows.reshape(shape[0], groups, *output.shape[1:3], blocks, block)
        rows = rows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, groups * blocks, block)
    blocks = to_blocks(kernel, block).reshape(kernel.shape[-1], -1, block)
    if depthwise:
        sums = np.einsum("pckd,ckd->pc", rows.reshape(len(rows), kernel.shape[-1], -1, block), blocks)
    else:
        sums = np.einsum("pmd,omd->po", rows, blocks)
    np.testing.assert_allclose(sums, output.reshape(-1, output.shape[-1]), atol=2e-5)


def test_layers_are_found_in_the_order_in_which_they_run(network):
    layers = find_layers(apply, *network)
    names = ["first", "depthwise", "pointwise", "up", "classifier"]
    assert [layer.name for layer in layers] == [f"{name}/kernel" for name in names]
    assert [layer.kind for layer in layers] == [
        "Convolution",
        "DepthwiseConvolution",
        "Conv",
        "TransposedConvolution",
        "Dense",
    ]
    assert layers[1].shape == (3, 3, 1, 8)


def test_gram_matrices_are_means_over_the_rows(network, key):
    params, x = network
    wanted = {"first/kernel": 9, "classifier/kernel": 3}
    found = jax.jit(lambda x: gram_matrices(apply, params, x, wanted, key=key))(x)
    rows = np.asarray(jax.jit(lambda x: block_inputs(Convolution(8, 3, 2), x, 9, key=key))(x))
    np.testing.assert_allclose(found["first/kernel"], rows.T @ rows / rows.shape[0], rtol=1e-5)
    assert found["classifier/kernel"].shape == (3, 3)
    with pytest.raises(ValueError, match="does not run nothing/kernel"):
        gram_matrices(apply, params, x, {"nothing/kernel": 9}, key=key)


SETTINGS = {"pointwise/kernel": Setting(2, 8), "up/kernel": Setting(9, 8), "classifier/kernel": Setting(3, 4)}


def test_each_layer_sees_what_the_quantised_layers_before_it_let_through(network, key):
    params, x = network
    seen = []
    quantised = quantise(
        apply,
        params,
        x,
        SETTINGS,
        key=key,
        iterations=5,
        after_layer=lambda so_far, name: seen.append((name, sorted(so_far.codes))) or so_far,
    )
    names = list(SETTINGS)
    assert [name for name, _ in seen] == names
    assert [codes for _, codes in seen] == [sorted(names[: i + 1]) for i in range(3)]
    # The last layer's codes are those of k-means on the activations of the quantised prefix.
    seen_by = {**quantised.dense(), "classifier": params["classifier"]}
    gram = jax.jit(lambda params, x: gram_matrices(apply, params, x, {names[2]: 3}, key=key))(seen_by, x)[
        names[2]
    ]
    blocks = to_blocks(params["classifier"]["kernel"], 3)
    codebook, indices = weighted_kmeans(
        blocks, np.asarray(gram), centroids=4, key=jax.random.fold_in(key, 2), iterations=5
    )
    np.testing.assert_array_equal(indices, quantised.codes[names[2]].indices)
    np.testing.assert_allclose(codebook, quantised.codes[names[2]].codebook, atol=1e-6)
    np.testing.assert_array_equal(quantised.others["first/kernel"], params["first"]["kernel"])


def test_a_network_read_from_its_file_gives_the_very_outputs(network, key):
    params, x = network
    quantised = quantise(apply, params, x, SETTINGS, key=key, iterations=3).as_stored(np.float32)
    data = write_artefact(to_artefact(quantised, architecture="small", config={}, dtype=np.float32))
    run = jax.jit(apply)
    flat = read_artefact(data).parameters()
    nested = {}
    for name, value in flat.items():
        module, leaf = name.split("/")
        nested.setdefault(module, {})[leaf] = value
    np.testing.assert_array_equal(run(nested, x), run(quantised.dense(), x))


def test_the_relative_error_of_a_layers_output_is_that_of_its_blocks_outputs(rng):
    kernel, other = rng.standard_normal((2, 6, 5))
    x = rng.standard_normal((30, 3))
    blocks, difference = to_blocks(kernel, 3), to_blocks(kernel - other, 3)
    expected = np.square(x @ difference.T).sum() / np.square(x @ blocks.T).sum()
    assert output_error(kernel, other, x.T @ x, 3) == pytest.approx(expected)


def test_settings_that_do_not_fit_are_refused_by_name(network, key):
    params, x = network
    with pytest.raises(ValueError, match="runs no stem/kernel; it runs first/kernel"):
        quantise(apply, params, x, {"stem/kernel": Setting(9)}, key=key)
    with pytest.raises(ValueError, match="depthwise/kernel has 8 blocks, too few"):
        quantise(apply, params, x, {"depthwise/kernel": Setting(9)}, key=key)


def test_importance_is_the_gradient_along_a_layers_outputs(rng):
    x = rng.standard_normal((5, 4)).astype(np.float32)
    kernel, weights = rng.standard_normal((4, 3)), rng.standard_normal(3)

    def loss(params, x):
        y = nn.Dense(3, use_bias=False).apply({"params": params}, x)
        return jnp.sum(y**2 * weights.astype(np.float32)[None])

    found = output_importance(loss, {"kernel": kernel.astype(np.float32)}, x, ["kernel"])
    expected = np.sqrt(np.sum((2 * (x @ kernel) * weights) ** 2, axis=0))
    np.testing.assert_allclose(found["kernel"], expected, rtol=1e-4)


def test_strengths_are_root_mean_squares_of_what_enters(network):
    params, x = network
    found = input_strengths(apply, params, x, ["first/kernel"])
    np.testing.assert_allclose(found["first/kernel"], np.sqrt(np.mean(x**2, axis=(0, 1, 2))), rtol=1e-5)


def test_with_importance_the_outputs_that_matter_are_kept_better(rng, key):
    x = (rng.standard_normal((64, 32)) * np.geomspace(10, 0.1, 32)).astype(np.float32)
    kernel = rng.standard_normal((32, 40)).astype(np.float32) * np.geomspace(1, 0.1, 40).astype(np.float32)
    importance = np.geomspace(1, 0.1, 40)[::-1] ** 2

    def dense(params, x):
        return nn.Dense(40, use_bias=False).apply({"params": params}, x)

    errors = []
    for given in (None, importance):
        quantised = quantise(
            dense, {"kernel": kernel}, x, {"kernel": Setting(4, 32, given)}, key=key, iterations=15
        )
        difference = x @ (np.asarray(quantised.dense()["kernel"]) - kernel)
        errors.append(np.sum(np.square(difference * importance)))
    assert errors[1] < 0.75 * errors[0]
    (codes,) = quantised.codes.values()
    assert codes.as_layer().scale_bits == 16 * 72


def test_a_step_rounds_each_weight_by_how_much_it_matters(rng, key):
    x = (rng.standard_normal((200, 6)) * np.geomspace(10, 0.1, 6)).astype(np.float32)
    kernel = rng.standard_normal((6, 5)).astype(np.float32)
    importance = np.geomspace(1, 0.1, 5)

    def dense(params, x):
        return nn.Dense(5, use_bias=False).apply({"params": params}, x)

    setting = Setting(1, importance=importance, step=0.01)
    (codes,) = quantise(dense, {"kernel": kernel}, x, {"kernel": setting}, key=key).codes.values()
    strength = np.sqrt(np.mean(x**2, axis=0))
    steps = 0.01 / (strength[:, None] * importance[None])
    error = np.asarray(codes.dense()) - kernel
    assert np.abs(error / steps).max() <= 0.501
    assert np.std(error / steps) == pytest.approx(1 / np.sqrt(12), rel=0.25)
    np.testing.assert_array_equal(codes.codebook, np.round(codes.codebook))
    with pytest.raises(ValueError, match="block of 1"):
        Setting(2, importance=importance, step=0.01)
    fine = {"kernel": Setting(1, importance=importance, step=1e-9)}
    (exact,) = quantise(dense, {"kernel": kernel}, x, fine, key=key).codes.values()
    assert exact.codebook.shape == (32, 1)  # 30 weights
    np.testing.assert_allclose(exact.dense(), kernel, rtol=1e-3)
