import math

import jax
import pytest

from jaxcodec.layers.resnet import variable_shapes
from jaxcodec.pq.kmeans import clamp_centroids
from jaxcodec.pq.layouts import count_blocks
from jaxcodec.pq.size import CodedLayer, count_others, index_width, mebibytes, size_in_bits


def resnet_shapes(depth):
    """Shapes of the parameters by name; the running statistics of batch norm are no parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(variable_shapes(depth)["params"])
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


def layers_of(shapes, *, spatial, pointwise, centroids, classifier):
    """The paper's settings: all but the first convolution; the classifier has blocks of 4 and K of its own."""
    layers = {}
    for name, shape in shapes.items():
        if name == "conv1/kernel" or not name.endswith("kernel"):
            continue
        block, wanted = (spatial, centroids) if shape[0] == 3 else (pointwise, centroids)
        if name == "fc/kernel":
            block, wanted = 4, classifier
        layers[name] = CodedLayer(shape, block, clamp_centroids(count_blocks(shape, block), wanted))
    return layers


# Stock et al. (ICLR 2020), table 1 and their repository's README, in MiB; bits where issue #39 there has them.
PUBLISHED = [
    (18, 9, 4, 256, 1.541, 12_927_232),
    (18, 18, 4, 256, 1.029, None),
    (50, 9, 4, 256, 5.091, 42_705_152),
    (50, 18, 8, 256, 3.184, 26_710_272),
    (18, 9, 4, 512, 1.77, None),
    (18, 9, 4, 1024, 2.03, None),
    (18, 18, 4, 2048, 1.85, None),
    (50, 9, 4, 2048, 7.43, None),
    (50, 18, 8, 1024, 4.37, None),
]


@pytest.fixture(scope="module")
def shapes():
    return {depth: resnet_shapes(depth) for depth in (18, 50)}


@pytest.mark.parametrize(("depth", "spatial", "pointwise", "centroids", "mib", "bits"), PUBLISHED)
def test_the_formula_gives_the_published_sizes(shapes, depth, spatial, pointwise, centroids, mib, bits):
    layers = layers_of(
        shapes[depth],
        spatial=spatial,
        pointwise=pointwise,
        centroids=centroids,
        classifier=2048 if depth == 18 else 1024,
    )
    size = size_in_bits(layers.values(), count_others(shapes[depth], layers))
    digits = len(str(mib).split(".")[1])
    assert round(mebibytes(size), digits) == mib
    if bits is not None:
        assert size == bits


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (50, 25_557_032)])
def test_the_networks_have_as_many_parameters_as_published(shapes, depth, parameters):
    assert sum(map(math.prod, shapes[depth].values())) == parameters


def test_an_index_has_log2_k_bits_and_other_numbers_of_centroids_are_refused():
    assert [index_width(K) for K in (1, 2, 256, 2048)] == [0, 1, 8, 11]
    with pytest.raises(ValueError, match="3 centroids"):
        index_width(3)
    layer = CodedLayer((3, 3, 8, 16), 9, 32)
    assert (layer.index_bits, layer.codebook_bits) == (8 * 16 * 5, 16 * 32 * 9)
    assert size_in_bits([layer], 10, bits_of_others=16) == 640 + 4608 + 160
