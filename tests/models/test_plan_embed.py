"""What a plan's tokens say of themselves, before they see each other."""

import functools

import jax
import numpy as np

from hjepa_gfn.models.shared_encoder import PlanEmbed
from hjepa_gfn.plans import PlanSpec
from hjepa_gfn.plans.text import parse_plan

SPEC = PlanSpec((5, 4), (4, 5), capacity=6, max_edits=12)


@functools.cache
def embed():
    layer = PlanEmbed(SPEC, 16)
    return layer, layer.init(jax.random.key(0), parse_plan("s0 -[_]-> sT", SPEC))


def tokens(plan):
    layer, weights = embed()
    return np.asarray(layer.apply(weights, plan))


def test_a_state_is_told_from_the_same_state_elsewhere():
    """Two legs alike, with as many legs before: the same; with more before: another."""
    plan = tokens(parse_plan("s0 -[1]-> 3 -[2]-> 3 -[2]-> 4 -[_]-> sT", SPEC))
    other = tokens(parse_plan("s0 -[3]-> 2 -[2]-> 3 -[2]-> 4 -[_]-> sT", SPEC))
    assert np.abs(plan[1] - plan[2]).max() > 0.1
    np.testing.assert_array_equal(plan[2:4], other[2:4])


def test_a_legs_place_does_not_depend_on_how_the_legs_before_are_spelled_out():
    coarse = tokens(parse_plan("s0 -[1]-> 3 -[2]-> 4 -[_]-> sT", SPEC))
    spelled = tokens(parse_plan("s0 -[1]{ . -[4]-> 2 -[0]-> 2 -[_]-> . }-> 3 -[2]-> 4 -[_]-> sT", SPEC))
    np.testing.assert_array_equal(spelled[3:5], coarse[1:3])
    assert np.abs(spelled[1] - spelled[2]).max() > 0.1, "steps have places too"


def test_places_are_of_the_tree_and_not_of_the_buffer():
    plan = parse_plan("s0 -[1]{ . -[4]-> 2 -[0]-> 2 -[_]-> . }-> 3 -[2]-> 3 -[_]-> sT", SPEC)
    order = np.array([0, 3, 5, 1, 4, 2])
    moved = jax.tree.map(lambda leaf: leaf[order] if np.ndim(leaf) else leaf, plan)
    assert plan.valid.sum() == 5
    np.testing.assert_array_equal(tokens(moved)[moved.valid], tokens(plan)[order][moved.valid])
