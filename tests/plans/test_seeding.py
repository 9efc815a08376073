"""Lower plans seeded with edges of upper plans: what is handed over, and that the lower actor cannot undo it."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import nested  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.gflownet.exact import normalise, terminal_log_probs  # noqa: E402
from hjepa_gfn.gflownet.rollout import choose  # noqa: E402
from hjepa_gfn.plans import (  # noqa: E402
    Plan,
    PlanSpec,
    apply_backward,
    apply_forward,
    backward_mask,
    forward_mask,
    leaf_edges,
    parse_plan,
    print_plan,
    root_plan,
    seed_edits,
    seed_plan,
    site_index,
    tree_edits,
)
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402

UPPER = PlanSpec(state_codes=(3, 4), action_codes=(2, 5), capacity=6, max_edits=12)  # clauses, subgoals
LOWER = PlanSpec(state_codes=(4, 2), action_codes=(5, 3), capacity=4, max_edits=4)   # subgoals, steps
TEXT = "s0 -[1]{ . -[4]-> 3 -[_]-> . }-> 2 -[_]{ . -[2]-> . }-> 1 -[0]-> sT"
seed = jax.jit(lambda plan, token: seed_plan(plan, token, UPPER, LOWER))


def test_edges_that_are_not_expanded_are_leaves():
    leaf = np.asarray(leaf_edges(parse_plan(TEXT, UPPER)))
    # tokens in reading order: s0, the subgoal 3, the clauses 2 and 1; the last clause edge stands as it is
    assert leaf.tolist() == [[False, True], [False, True], [False, True], [True, False], [False, False], [False, False]]


@pytest.mark.parametrize("token, action, start, target", [
    (0, 5, (False, 0, 0), (True, 3, 1)),  # from s_0 to a subgoal
    (1, 0, (True, 3, 1), (True, 2, 0)),   # an empty edge, from a subgoal to a clause
    (2, 3, (True, 2, 0), (True, 1, 0)),   # from clause to clause
])
def test_what_an_edge_hands_over(token, action, start, target):
    given = seed(parse_plan(TEXT, UPPER), jnp.int32(token))
    assert tuple(x.tolist() for x in given.start) == start
    assert tuple(x.tolist() for x in given.target) == target
    expected = root_plan(LOWER)
    expected = expected._replace(action=expected.action.at[0, 0].set(action))
    jax.tree.map(np.testing.assert_array_equal, given.plan, expected)
    assert [x.dtype for x in given.plan] == [x.dtype for x in root_plan(LOWER)]
    assert seed_edits(given.plan) == (action > 0) and tree_edits(given.plan) == (action > 0) and given.plan.num_edits == 0


def test_the_last_edge_leads_to_the_open_end():
    plan = parse_plan("s0 -[_]-> 2 -[_]{ . -[_]-> 3 -[1]-> . }-> sT", UPPER)
    given = seed(plan, jnp.int32(2))
    assert tuple(x.tolist() for x in given.start) == (True, 3, 1)
    assert tuple(x.tolist() for x in given.target) == (False, 0, 0) and given.plan.action[0, 0] == 2


def test_a_batch_in_any_buffer_order_equals_its_plans_one_by_one():
    plans = jax.tree.map(np.asarray, tiny.random_plans(UPPER, jax.random.key(0), 40))
    leaf = np.asarray(leaf_edges(plans))[..., -1]
    rows = np.flatnonzero(leaf.any(-1))
    rng = np.random.default_rng(0)
    token = np.array([rng.choice(np.flatnonzero(leaf[b])) for b in rows], np.int32)
    some = jax.tree.map(lambda x: x[rows], plans)
    together = seed(some, token)
    assert len(rows) > 10 and np.asarray(together.target.coded).any() and not np.asarray(together.target.coded).all()
    for i in range(10):
        alone = seed(jax.tree.map(lambda x, i=i: x[i], some), token[i])
        jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), together, alone)
    order = np.array([0, 3, 5, 1, 4, 2])
    moved = Plan(*(x[:, order] for x in some[:-1]), some.num_edits)
    jax.tree.map(np.testing.assert_array_equal, seed(moved, np.argsort(order)[token].astype(np.int32)), together)
    # batches of more than one axis, as in trajectories
    square = jax.tree.map(lambda x: x[:10].reshape(5, 2, *x.shape[1:]), (some, token))
    found = seed(*square)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x.reshape(10, *x.shape[2:]), y[:10]), found, together)


def test_actors_that_share_no_scale_are_refused():
    with pytest.raises(ValueError, match=r"codes \(4, 5\) and the lower actor's coarsest \(4, 6\)"):
        seed_plan(root_plan(UPPER), jnp.int32(0), UPPER, PlanSpec((4, 2), (6, 3), 4, 4))


# --- the lower actor's edits ----------------------------------------------------------------------------------------------


@functools.cache
def grown(acted):
    """Every lower plan from the seed of an edge with, or without, an action."""
    root = root_plan(LOWER)
    return enumerate_plans(LOWER, root._replace(action=root.action.at[0, 0].set(5 if acted else 0)))


may_undo = jax.jit(backward_mask, static_argnums=1)


def test_a_seed_has_nothing_to_undo_and_its_action_stays():
    plans, given = grown(True).plans, site_index(0, 0, 1, LOWER.num_scales)
    undo = np.asarray(may_undo(plans, LOWER))
    assert not undo[0].any() and undo[1:].any(-1).all() and not undo[:, given].any()
    assert (plans.action[:, 0, 0] == 5).all() and (seed_edits(plans) == 1).all()
    assert (plans.tag[plans.valid & (plans.position > 0)] == 1).all(), "nothing stands beside an edge that is decided"
    # the same trees where the action is the actor's own: it can be undone where a slot is free
    own = np.asarray(may_undo(plans._replace(num_edits=plans.num_edits + 1), LOWER))
    assert own[:, given].tolist() == (~plans.valid.all(-1)).tolist()
    np.testing.assert_array_equal(np.delete(own, given, 1), np.delete(undo, given, 1))


def test_a_seed_without_an_action_is_a_plain_root():
    assert canonical_keys(grown(False).plans) == canonical_keys(enumerate_plans(LOWER).plans)
    given = site_index(0, 0, 1, LOWER.num_scales)
    assert np.asarray(may_undo(grown(False).plans, LOWER))[:, given].any() and not seed_edits(grown(False).plans).any()


def test_the_seeded_graph_against_the_nested_reference():
    """Forward from the seed; an acted edge can only be expanded, and `max_edits` counts from the seed."""
    start = (((4, None),), ())
    found, frontier = {start}, {start}
    for _ in range(LOWER.max_edits):
        frontier = {child for tree in frontier if nested.size(tree)[0] + 1 < LOWER.capacity
                    for _, _, _, child in nested.forward(tree, LOWER)}
        found |= frontier
    plans = grown(True).plans
    assert set(canonical_keys(plans)) == {nested.key(tree, LOWER) for tree in found}
    assert plans.num_edits.tolist() == [nested.size(nested.parse(name))[1] - 1 for name in canonical_keys(plans)]


def test_texts_of_seeded_plans_come_back_with_their_number_of_edits():
    plans = grown(True).plans
    texts = [print_plan(jax.tree.map(lambda x, b=b: x[b], plans), LOWER) for b in range(len(plans.num_edits))]
    again = [parse_plan(text, LOWER) for text in texts]
    together = jax.tree.map(lambda *xs: np.stack(xs), *again)
    assert canonical_keys(together) == canonical_keys(plans) and together.num_edits.tolist() == plans.num_edits.tolist()


@pytest.mark.parametrize("acted", [True, False])
def test_labelled_flows_from_a_seed_give_rewards_over_their_sum(acted):
    graph = grown(acted)
    undo = np.asarray(may_undo(graph.plans, LOWER)).sum(-1)
    assert undo.tolist() == np.bincount(graph.child, minlength=len(undo)).tolist()
    log_r = np.random.default_rng(1).normal(size=len(undo))
    flow, through = np.exp(log_r), np.zeros(len(graph.parent))
    for e in np.argsort(-graph.child, kind="stable"):
        through[e] = flow[graph.child[e]] / undo[graph.child[e]]
        flow[graph.parent[e]] += through[e]
    found = terminal_log_probs(graph.parent, graph.child, np.log(through / flow[graph.parent]), log_r - np.log(flow))
    np.testing.assert_allclose(found, normalise(log_r)[0], atol=1e-12)


def test_walks_from_a_seed_end_in_it():
    spec = PlanSpec((4, 2), (5, 3), capacity=6, max_edits=9)
    start = root_plan(spec, (30,))
    start = start._replace(action=start.action.at[:15, 0, 0].set(3))

    @jax.jit
    def walk(plan, key):
        def forth(now, key):
            legal = forward_mask(now, spec)
            after, _ = apply_forward(now, tiny.uniform(key, legal), jnp.zeros(30, jnp.int32), spec)
            return choose(legal.any(-1), after, now), None

        def back(now, key):
            legal = backward_mask(now, spec)
            return choose(legal.any(-1), apply_backward(now, tiny.uniform(key, legal), spec)[0], now), None

        keys = jax.random.split(key, (2, spec.max_edits))
        top = jax.lax.scan(forth, plan, keys[0])[0]
        return top, jax.lax.scan(back, top, keys[1])[0]

    top, end = walk(start, jax.random.key(0))
    assert np.asarray(top.num_edits).min() > 1 and np.asarray(top.num_edits).max() == spec.max_edits
    assert canonical_keys(end) == canonical_keys(start) and not np.asarray(end.num_edits).any()
