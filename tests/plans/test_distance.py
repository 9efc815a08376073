"""The tree edit distance against the definition, tried out exhaustively; a metric; one edit is at distance one."""

import functools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import tiny  # noqa: E402

from hjepa_gfn.plans import Plan, PlanSpec, parse_plan, plan_distance, root_plan  # noqa: E402
from hjepa_gfn.plans.distance import Node, ordered_tree, tree_edit_distance, unit_cost  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402

checked = settings(max_examples=80, deadline=None, derandomize=True, database=None)
SPEC = PlanSpec((2, 2, 2), (2, 2, 2), capacity=5, max_edits=9)


def brute_force(one, two, cost=unit_cost):
    """The definition on forests: the last root is deleted, inserted, or matched with the last root of the other."""

    @functools.cache
    def forests(left, right):
        if not left and not right:
            return 0.0
        options = []
        if left:
            options.append(forests(left[:-1] + left[-1].children, right) + cost(left[-1].label, None))
        if right:
            options.append(forests(left, right[:-1] + right[-1].children) + cost(None, right[-1].label))
        if left and right:
            options.append(forests(left[:-1], right[:-1]) + forests(left[-1].children, right[-1].children)
                           + cost(left[-1].label, right[-1].label))
        return min(options)

    return forests((one,), (two,))


def uneven(old, new):
    """A cost that is no metric: insertion, deletion and relabelling differ, and differ by label."""
    if old is None:
        return 1.5 + ord(new) % 3
    return 0.7 + ord(old) % 2 if new is None else 0.4 * (old != new) * (1 + ord(old) % 4)


labels = st.sampled_from("abc")
trees = st.recursive(
    labels.map(Node), lambda inner: st.tuples(labels, st.lists(inner, max_size=3).map(tuple)).map(lambda n: Node(*n)),
    max_leaves=6)


@checked
@given(trees, trees)
def test_distance_is_the_least_cost_of_all_mappings(one, two):
    assert tree_edit_distance(one, two) == brute_force(one, two)
    np.testing.assert_allclose(tree_edit_distance(one, two, uneven), brute_force(one, two, uneven), atol=1e-12)


@checked
@given(trees, trees, trees)
def test_distance_is_a_metric(one, two, three):
    d = tree_edit_distance
    assert d(one, two) == d(two, one) >= 0
    assert (d(one, two) == 0) == (one == two)
    assert d(one, three) <= d(one, two) + d(two, three)


def node(text):
    """'a(bc(d))' as a tree."""
    stack = [[]]
    for letter in text:
        if letter == "(":
            stack.append([])
        elif letter == ")":
            inner = tuple(stack.pop())
            stack[-1][-1] = stack[-1][-1]._replace(children=inner)
        else:
            stack[-1].append(Node(letter))
    return stack[0][0]


def test_the_published_example():
    """Zhang & Shasha 1989, figure 4: f(d(a c(b)) e) and f(c(d(a b)) e) are two operations apart."""
    assert tree_edit_distance(node("f(d(ac(b))e)"), node("f(c(d(ab))e)")) == 2.0


def one(plans, b):
    return jax.tree.map(lambda x: np.asarray(x)[b], plans)


def test_nodes_of_a_plan():
    plan = parse_plan("s0 -[1]{ . -[_]-> 1 -[0]-> . }-> 0 -[_]-> 1 -[_]{ . -[_]-> . }-> sT", SPEC)
    inside = Node(("state", 1, 1)), Node(("edge", 1, 0, False))
    assert ordered_tree(plan) == Node(("plan",), (
        Node(("edge", 0, 1, True), inside), Node(("state", 0, 0)), Node(("state", 0, 1)), Node(("edge", 0, None, True))))
    assert ordered_tree(root_plan(SPEC)) == Node(("plan",))


def test_one_edit_is_at_distance_one():
    """Every labelled edge of an enumerated graph, all kinds of edits among them."""
    spec = PlanSpec((1, 2), (2, 1), capacity=4, max_edits=3)
    graph = enumerate_plans(spec)
    assert set(graph.site % 3) == {0, 1, 2}
    for parent, child in zip(graph.parent, graph.child):
        assert plan_distance(one(graph.plans, parent), one(graph.plans, child)) == 1.0


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**31 - 1))
def test_distance_of_plans(seed):
    """A metric on trees whatever the buffer, and no longer than a way through the root."""
    plans = jax.tree.map(np.asarray, tiny.random_plans(SPEC, jax.random.key(seed), 6))
    keys = canonical_keys(plans)
    d = np.array([[plan_distance(one(plans, a), one(plans, b)) for b in range(6)] for a in range(6)])
    np.testing.assert_array_equal(d, d.T)
    assert (d == 0).tolist() == [[a == b for b in keys] for a in keys]
    assert (d[:, :, None] <= d[:, None, :] + d.T[None]).all()
    assert (d <= plans.num_edits[:, None] + plans.num_edits[None]).all()
    order = np.r_[0, 1 + np.random.default_rng(seed).permutation(SPEC.capacity - 1)]
    moved = Plan(*(x[:, order] for x in plans[:-1]), plans.num_edits)
    assert [plan_distance(one(plans, 0), one(moved, b)) for b in range(6)] == d[0].tolist()


def test_edits_far_apart_add_up():
    plan = parse_plan("s0 -[_]-> 1 -[1]-> 0 -[_]-> sT", SPEC)
    far = parse_plan("s0 -[_]-> 1 -[1]{ . -[0]-> . }-> 1 -[_]-> sT", SPEC)
    assert plan_distance(plan, far) == 3.0  # another state, an expansion, an action in it
    assert plan_distance(root_plan(SPEC), far) == 4.0  # the edge that is acted on and expanded is one node
    assert plan_distance(plan, parse_plan("s0 -[_]-> 0 -[1]-> 1 -[_]-> sT", SPEC)) == 2.0


def test_costs_of_ones_own():
    """States cost a tenth: of two plans that differ in a state and an action, the action weighs."""
    cost = lambda old, new: (old != new) * (0.1 if "state" in (old or new) else 1.0)
    texts = ["s0 -[0]-> 1 -[_]-> sT", "s0 -[1]-> 1 -[_]-> sT", "s0 -[0]-> 0 -[_]-> sT"]
    acted, other, state = (parse_plan(text, SPEC) for text in texts)
    assert plan_distance(acted, other, cost) == 1.0
    assert plan_distance(acted, state, cost) == pytest.approx(0.1)
    assert plan_distance(other, state, cost) == pytest.approx(1.1)


def test_plans_of_two_families_compare():
    small, large = (PlanSpec((2, 2, 2), (2, 2, 2), capacity=n, max_edits=9) for n in (3, 7))
    text = "s0 -[1]-> 0 -[_]-> sT"
    assert plan_distance(parse_plan(text, small), parse_plan(text, large)) == 0.0
    with pytest.raises(ValueError, match="one plan at a time"):
        plan_distance(root_plan(small, (1,)), root_plan(small))
