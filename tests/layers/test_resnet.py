import json

import jax
import numpy as np
import pytest

from jaxcodec.layers.resnet import ResNet, from_torchvision, variable_shapes
from scripts.make_resnet_goldens import KEPT, PICTURE, draw
from tests.conftest import GOLDEN

REFERENCE = json.loads((GOLDEN / "resnet.json").read_text())


def arrays(depth):
    """Random weights with torchvision's names, as the reference has them."""
    return {name: draw(name, shape) for name, shape in REFERENCE[str(depth)]["shapes"].items()}


@pytest.mark.parametrize("depth", [18, 50])
def test_logits_are_torchvisions(depth):
    variables = from_torchvision({**arrays(depth), "bn1.num_batches_tracked": np.int64(0)}, depth=depth)
    picture = draw("picture", PICTURE).transpose(0, 2, 3, 1)
    logits = np.asarray(jax.jit(ResNet(depth).apply)(variables, picture))[0]
    expected = REFERENCE[str(depth)]
    spread = expected["deviation"]
    np.testing.assert_allclose(logits[:KEPT], expected["logits"], atol=1e-4 * spread)
    assert logits.mean() == pytest.approx(expected["mean"], abs=1e-4 * spread)
    assert logits.std() == pytest.approx(spread, rel=1e-4)


def test_weights_of_another_network_are_refused_by_name():
    wrong = arrays(18)
    removed = wrong.pop("layer2.0.downsample.0.weight")
    with pytest.raises(
        ValueError, match=r"params/layer2_0/downsample_0/kernel has shape None; ResNet-18 wants \(1, 1, 64"
    ):
        from_torchvision(wrong, depth=18)
    with pytest.raises(ValueError, match=r"downsample_0/kernel has shape \(1, 1, 64, 64\)"):
        from_torchvision({**wrong, "layer2.0.downsample.0.weight": removed[:64]}, depth=18)
    with pytest.raises(ValueError, match="ResNet-50 wants"):
        from_torchvision(arrays(18), depth=50)


def test_running_statistics_follow_the_batch_in_training(rng):
    shapes = jax.eval_shape(
        lambda variables, x: ResNet(18, train=True).apply(variables, x, mutable=["batch_stats"]),
        variable_shapes(18),
        jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32),
    )
    assert jax.tree.map(lambda leaf: leaf.shape, shapes[1]["batch_stats"]) == jax.tree.map(
        lambda leaf: leaf.shape, variable_shapes(18)["batch_stats"]
    )
