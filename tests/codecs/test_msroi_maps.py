"""The network of msroi and the rules that make one map of its classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.codecs.msroi.model import (
    RULES,
    RegionConfig,
    RegionHead,
    combine,
    logits_of,
    normalise,
)


def class_maps(*scores):
    """Maps [6, 8, classes]: class c is salient in column c only, with this logit."""
    maps = np.zeros((6, 8, len(scores)), np.float32)
    for c, score in enumerate(scores):
        maps[:, c, c] = 8.0 * score
    return maps


@pytest.mark.parametrize("rectified", [False, True])
def test_pooling_before_the_last_layers_gives_the_same_logits(key, rectified):
    config = RegionConfig(classes=7, bottleneck=4, multiplier=3, features=6, rectified=rectified)
    x = jax.random.normal(key, (2, 5, 4, 9))
    head = RegionHead(config)
    params = head.init(key, x)
    maps = head.apply(params, x)
    assert maps.shape == (2, 5, 4, 7)
    early = head.apply(params, x, pool_early=True)
    np.testing.assert_allclose(logits_of(early), logits_of(maps), atol=1e-5)


def test_the_default_head_has_fewer_than_two_million_parameters(key):
    shapes = jax.eval_shape(RegionHead(RegionConfig()).init, key, jnp.zeros((1, 4, 4, 112)))
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) < 2_000_000


@pytest.mark.parametrize("rule", RULES)
def test_a_map_spans_0_to_1_and_has_its_greatest_place_in_the_best_class(rule):
    found = combine(class_maps(1.0, 3.0, 2.0, 0.5, 0.1, 0.2), rule=rule)
    assert found.shape == (6, 8)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)
    assert (found.argmax(axis=1) == 1).all()


def test_argmax_shows_one_class_and_the_others_show_several():
    maps = class_maps(1.0, 3.0, 2.5)
    assert (combine(maps, rule="argmax")[:, [0, 2]] == 0).all()
    for rule in ("mixture", "threshold", "softmax"):
        assert (combine(maps, rule=rule)[:, 2] > 0.2).all(), rule


def test_the_mixture_halves_from_class_to_class():
    # Of five disjoint maps: 1/2, 1/4, 1/8, 1/16 and 1.2/16 of the worst.
    found = combine(class_maps(5.0, 4.0, 3.0, 2.0, 1.0, 0.5))
    np.testing.assert_allclose(
        found[0, :6], np.array([0.5, 0.25, 0.125, 0.0625, 0.075, 0.0]) / 0.5, atol=1e-6
    )


def test_the_class_of_clutter_shows_in_no_map():
    maps = class_maps(1.0, 9.0, 2.0)
    for rule in RULES:
        assert (combine(maps, rule=rule, clutter=1)[:, 1] == 0).all(), rule


def test_the_threshold_is_a_share_of_the_largest_logit():
    maps = class_maps(1.0, 3.0, 2.0)
    assert (combine(maps, rule="threshold", threshold=0.6)[:, 0] == 0).all()
    assert (combine(maps, rule="threshold", threshold=0.3)[:, 0] > 0).all()


def test_a_constant_map_is_0_everywhere():
    assert not combine(np.ones((1, 1, 4), np.float32)).any()
    assert not normalise(np.full((3, 3), 7.0)).any()


def test_an_unknown_rule_and_a_clutter_that_is_no_class_are_refused():
    with pytest.raises(ValueError, match="mixture"):
        combine(class_maps(1.0), rule="best")
    with pytest.raises(ValueError, match="clutter"):
        RegionConfig(classes=3, clutter=3)
