r"""k-means of weight blocks that minimises the error of a layer's output instead of that of its weights.

Stock et al. (ICLR 2020), section 3.2. With the rows of X the activations that meet a block v:

    E-step   a(v) = argmin_c |X (v - c)|^2                        exhaustive
    M-step   c_k  = mean of X^+ X v over the blocks of cluster k

Only the Gram matrix G = X^T X `[d, d]` matters. With its Cholesky factor, G = L L^T,

    |X (v - c)|^2 = (v - c)^T G (v - c) = |L^T v - L^T c|^2,

so the E-step is an ordinary nearest neighbour among transformed blocks, and where X has full column rank X^+ X = I and
the M-step is the plain mean. The E-step goes through the blocks in chunks: the matrix of all distances is never built.

Departures from the authors' code: G is that of one sample of activations for all iterations, not a new one in each;
empty clusters are filled all at once, from the largest clusters, with noise relative to the centroid (its absolute 1e-8
is lost in float32 beside a large centroid), and in a bounded number of rounds.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

RIDGE = 1e-6
"""Added to G, times its mean diagonal: a direction that no activation excites still has a smallest weight."""

_NOISE = 1e-3
"""Deviation of the noise that splits a cluster, relative to the root mean square of its centroid."""

_ROUNDS = 8
"""Rounds of filling empty clusters in an iteration. Fewer distinct blocks than centroids leave some empty for good."""

_CHUNK_DISTANCES = 2**18
"""Distances that exist at a time, about: they stay in a core's cache."""


def clamp_centroids(blocks: int, wanted: int) -> int:
    """The largest power of two that is at most `wanted` and strictly below `blocks / 4`; at least 1."""
    centroids = 1
    while 2 * centroids <= wanted and 4 * (2 * centroids) < blocks:
        centroids *= 2
    return centroids


def metric(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What the two steps need of G `[d, d]`.

    Returns
    -------
    factor : `[d, d]` float32
        L of `G + RIDGE tr(G)/d I = L L^T`: `blocks @ factor` are the transformed blocks.
    projection : `[d, d]` float32 or None
        `X^+ X`; None where it is the identity.
    """
    gram = np.asarray(gram, np.float64)
    size = gram.shape[0]
    scale = np.trace(gram) / size
    if not np.isfinite(gram).all() or scale <= 0:
        raise ValueError(
            "the activations that enter a layer are zero or not finite; nothing to weigh its errors by"
        )
    factor = np.linalg.cholesky(gram + RIDGE * scale * np.eye(size))
    values, vectors = np.linalg.eigh(gram)
    # Squared singular values of float32 activations: below this they are rounding.
    kept = values > values[-1] * size * np.finfo(np.float32).eps
    projection = None if kept.all() else (vectors[:, kept] @ vectors[:, kept].T).astype(np.float32)
    return factor.astype(np.float32), projection


def weighted_kmeans(
    blocks: jax.Array | np.ndarray,
    gram: np.ndarray | None,
    *,
    centroids: int,
    key: jax.Array,
    iterations: int = 100,
) -> tuple[jax.Array, jax.Array]:
    """Cluster the blocks `[n, d]` of a kernel.

    Parameters
    ----------
    blocks
        float32 `[n, d]`.
    gram
        G `[d, d]`; None for the identity, that is k-means of the weights themselves.
    centroids
        K wanted; `clamp_centroids` may take fewer.
    key
        Of the blocks that begin as centroids, drawn with replacement, and of the noise.
    iterations
        E-steps and M-steps.

    Returns
    -------
    codebook : float32 `[K, d]`
    indices : int32 `[n]`
    """
    n, d = blocks.shape
    K = clamp_centroids(n, centroids)
    factor, projection = (np.eye(d, dtype=np.float32), None) if gram is None else metric(gram)
    # Sizes are rounded up to powers of two, so that the layers of a network share a dozen compiled programs.
    rows = 1 << (n - 1).bit_length()
    padded = jnp.zeros((rows, d), jnp.float32).at[:n].set(jnp.asarray(blocks, jnp.float32))
    codebook, indices = _kmeans(
        padded,
        jnp.int32(n),
        jnp.asarray(factor),
        jnp.asarray(np.eye(d, dtype=np.float32) if projection is None else projection),
        key,
        jnp.int32(iterations),
        centroids=K,
        project=projection is not None,
    )
    return codebook, indices[:n]


def assign(blocks: jax.Array, codebook: jax.Array) -> jax.Array:
    """The nearest of `[K, d]` for each of `[n, d]`, int32 `[n]`, in chunks; the first of equals."""
    n, d = blocks.shape
    chunk = min(n, max(1, _CHUNK_DISTANCES // codebook.shape[0]))
    squares = jnp.sum(jnp.square(codebook), axis=1)

    numbers = jnp.arange(codebook.shape[0], dtype=jnp.int32)[:, None]

    def nearest(part: jax.Array) -> jax.Array:
        products = jnp.matmul(codebook, part.T, precision=jax.lax.Precision.HIGHEST)
        distances = squares[:, None] - 2.0 * products
        # The argmin in two minima, which a CPU does with vectors: a third of the time.
        least = jnp.min(distances, axis=0, keepdims=True)
        return jnp.min(jnp.where(distances == least, numbers, codebook.shape[0] - 1), axis=0)

    if chunk == n:
        return nearest(blocks)
    count = -(-n // chunk)
    padded = jnp.pad(blocks, ((0, count * chunk - n), (0, 0)))
    return jax.lax.map(nearest, padded.reshape(count, chunk, d)).reshape(-1)[:n]


@partial(jax.jit, static_argnames=("centroids", "project"))
def _kmeans(
    blocks: jax.Array,
    count: jax.Array,
    factor: jax.Array,
    projection: jax.Array,
    key: jax.Array,
    iterations: jax.Array,
    *,
    centroids: int,
    project: bool,
) -> tuple[jax.Array, jax.Array]:
    """`weighted_kmeans` of the first `count` rows."""
    real = jnp.arange(blocks.shape[0]) < count
    highest = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    transformed = highest(blocks, factor)

    def expect(codebook: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Rows that only fill up go to no cluster: scatters drop the index K.
        indices = jnp.where(real, assign(transformed, highest(codebook, factor)), centroids)
        return indices, jnp.zeros(centroids, jnp.int32).at[indices].add(1, mode="drop")

    def fill(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        codebook, _, sizes, key, round_ = carry
        key, draw = jax.random.split(jax.random.fold_in(key, round_))
        # The i-th empty cluster halves the i-th largest one.
        largest = jnp.argsort(-sizes)
        rank = jnp.cumsum(sizes == 0) - 1
        source = largest[jnp.clip(rank, 0, centroids - 1)]
        splits = (sizes == 0) & (sizes[source] > 1)
        scale = jnp.sqrt(jnp.mean(jnp.square(codebook), axis=1, keepdims=True)) * _NOISE
        noise = (jax.random.normal(draw, codebook.shape) * scale)[source]
        target = jnp.where(splits, source, centroids)
        new = jnp.where(splits[:, None], codebook[source] + noise, codebook)
        new = new.at[target].add(-noise, mode="drop")
        indices, new_sizes = expect(new)
        return new, indices, new_sizes, key, round_ + 1

    def iterate(step: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        codebook, _ = carry
        indices, sizes = expect(codebook)
        state = (codebook, indices, sizes, jax.random.fold_in(key, step), jnp.int32(0))
        codebook, indices, sizes, *_ = jax.lax.while_loop(
            lambda s: jnp.any(s[2] == 0) & jnp.any(s[2] > 1) & (s[4] < _ROUNDS), fill, state
        )
        sums = jnp.zeros_like(codebook).at[indices].add(blocks, mode="drop")
        means = sums / jnp.maximum(sizes, 1)[:, None].astype(jnp.float32)
        means = highest(means, projection) if project else means
        return jnp.where((sizes > 0)[:, None], means, codebook), indices

    first, rest = jax.random.split(key)
    key = rest
    chosen = jax.random.randint(first, (centroids,), 0, count)
    codebook = blocks[chosen]
    start = (codebook, jnp.zeros(blocks.shape[0], jnp.int32))
    codebook, _ = jax.lax.fori_loop(0, iterations, iterate, start)
    # The assignment belongs to the last means, not to those before them.
    return codebook, expect(codebook)[0]
