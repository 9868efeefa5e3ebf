import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.pq import kmeans
from jaxcodec.pq.kmeans import assign, clamp_centroids, metric, weighted_kmeans


def error(blocks, codebook, indices, gram):
    """sum |X (v - c)|^2 with G = X^T X, from its definition."""
    difference = np.asarray(blocks, np.float64) - np.asarray(codebook, np.float64)[np.asarray(indices)]
    return float(np.einsum("ni,ij,nj->", difference, gram, difference))


@pytest.mark.parametrize(
    ("blocks", "wanted", "expected"),
    [
        (4096, 256, 256),
        (1025, 256, 256),
        (1024, 256, 128),
        (8, 256, 1),
        (9, 256, 2),
        (100000, 2048, 2048),
        (64, 16, 8),
    ],
)
def test_centroids_are_the_largest_power_of_two_strictly_below_a_quarter_of_the_blocks(
    blocks, wanted, expected
):
    assert clamp_centroids(blocks, wanted) == expected


def test_well_separated_clusters_are_found_from_the_best_of_a_few_draws(rng):
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    truth = rng.integers(0, 4, 200)
    blocks = centres[truth] + rng.normal(0, 0.1, (200, 2)).astype(np.float32)
    runs = [
        weighted_kmeans(blocks, None, centroids=4, key=jax.random.key(i), iterations=10) for i in range(8)
    ]
    # From one draw k-means may end where two centroids share a cluster.
    codebook, indices = min(runs, key=lambda run: error(blocks, *run, np.eye(2)))
    for cluster in range(4):
        members = blocks[truth == cluster]
        found = np.unique(np.asarray(indices)[truth == cluster])
        assert found.size == 1
        np.testing.assert_allclose(codebook[found[0]], members.mean(0), atol=1e-5)


def test_the_assignment_is_the_exhaustive_one_in_the_metric_of_the_activations(rng):
    x, blocks, codebook = (
        rng.standard_normal((50, 5)),
        rng.standard_normal((300, 5)),
        rng.standard_normal((16, 5)),
    )
    x[:, 0] *= 10
    factor, projection = metric(x.T @ x)
    distances = ((x @ (blocks[:, None] - codebook[None]).transpose(0, 2, 1)) ** 2).sum(1)  # [300, 16]
    found = assign(
        jnp.asarray(blocks.astype(np.float32) @ factor), jnp.asarray(codebook.astype(np.float32) @ factor)
    )
    np.testing.assert_array_equal(found, distances.argmin(1))
    assert projection is None


def test_chunks_change_nothing(rng, monkeypatch):
    blocks, codebook = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((301, 4), (16, 4)))
    whole = assign(blocks, codebook)
    monkeypatch.setattr(kmeans, "_CHUNK_DISTANCES", 16 * 50)
    np.testing.assert_array_equal(assign(blocks, codebook), whole)


def test_no_distance_matrix_of_a_large_layer_is_built():
    # The 1x1 convolution 512 -> 2048 of a ResNet-50: 262,144 blocks of 4, K = 256; all distances would be 268 MB.
    blocks, codebook = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((262144, 4), (256, 4)))
    memory = jax.jit(assign).lower(blocks, codebook).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 64 * 2**20


def test_where_activations_span_a_subspace_centroids_are_projected_means(key, rng):
    x = rng.standard_normal((40, 4)) @ np.diag([1.0, 1.0, 1.0, 0.0])
    gram = x.T @ x
    blocks = rng.standard_normal((100, 4)).astype(np.float32)
    codebook, indices = weighted_kmeans(blocks, gram, centroids=8, key=key, iterations=3)
    np.testing.assert_allclose(codebook[:, 3], 0, atol=1e-6)
    expected = np.linalg.pinv(x) @ x
    np.testing.assert_allclose(metric(gram)[1], expected, atol=1e-5)
    assert len(np.unique(indices)) == 8


def test_weighing_by_activations_lowers_the_error_of_the_output(key, rng):
    x = rng.standard_normal((200, 4)) @ np.diag([20.0, 1.0, 1.0, 0.1])
    gram = x.T @ x
    blocks = rng.standard_normal((600, 4)).astype(np.float32)
    weighted = weighted_kmeans(blocks, gram, centroids=16, key=key, iterations=15)
    plain = weighted_kmeans(blocks, None, centroids=16, key=key, iterations=15)
    assert error(blocks, *weighted, gram) < 0.5 * error(blocks, *plain, gram)
    assert error(blocks, *plain, np.eye(4)) < error(blocks, *weighted, np.eye(4))


def test_no_cluster_stays_empty_whatever_the_draw(rng):
    # Nearly all blocks are alike, so most of the centroids drawn with replacement coincide.
    blocks = np.concatenate([np.full((500, 3), 2.0), rng.normal(0, 1, (20, 3))]).astype(np.float32)
    for seed in range(3):
        _, indices = weighted_kmeans(blocks, None, centroids=16, key=jax.random.key(seed), iterations=10)
        assert len(np.unique(indices)) >= 15


def test_blocks_that_are_all_the_same_end_and_are_kept_exactly(key):
    blocks = np.full((100, 4), 3.0, np.float32)
    codebook, indices = weighted_kmeans(blocks, None, centroids=16, key=key, iterations=5)
    np.testing.assert_allclose(np.asarray(codebook)[np.asarray(indices)], blocks, rtol=0.01)


def test_activations_that_are_all_zero_are_refused(key):
    with pytest.raises(ValueError, match="zero or not finite"):
        weighted_kmeans(np.ones((20, 2), np.float32), np.zeros((2, 2)), centroids=2, key=key)
