"""The rest of a plan and its coarse view, on plans built edit by edit."""
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.plans import (
    ACT,
    EXPAND,
    INSERT,
    PlanSpec,
    advance,
    apply_forward,
    coarse_view,
    edge_exists,
    right_neighbour,
    root_plan,
    site_index,
)

SPEC = PlanSpec((4, 4), (5, 5), capacity=7, max_edits=16)


def build(*edits):
    plan = root_plan(SPEC, (1,))
    for token, scale, kind, code in edits:
        site = site_index(jnp.array([token]), jnp.array([scale]), jnp.array([kind]), 2)
        plan, _ = apply_forward(plan, site, jnp.array([code]), SPEC)
    return plan


def edges(plan):
    """The plan as its edges, in reading order of left ends: (position, scale, action, expanded, right end's position)."""
    out = []
    exists = np.asarray(edge_exists(plan))[0]
    for scale in range(2):
        right = np.asarray(right_neighbour(plan, jnp.full_like(plan.tag, scale)))[0]
        for n in range(SPEC.capacity):
            if exists[n, scale]:
                end = int(plan.position[0, right[n]]) if right[n] >= 0 else -1
                begin, action, expanded = plan.position[0, n], plan.action[0, n, scale], plan.expanded[0, n, scale]
                out.append((int(begin), scale, int(action), bool(expanded), end))
    return sorted(out)


# s_0 -macro 2-> S3 -macro 4-> open; inside the first leg: -step 1-> s2 -step 3-> (leg's end)
TWO_LEGS = [(0, 0, INSERT, 3), (0, 0, ACT, 2), (1, 0, ACT, 4), (0, 0, EXPAND, 0), (0, 1, INSERT, 2), (0, 1, ACT, 1),
            (2, 1, ACT, 3)]


def test_advance_inside_a_leg_and_past_its_end():
    rest = advance(build(*TWO_LEGS))
    # the leg goes on, its macro-action is dropped; what was s2 is where the rest begins
    assert edges(rest) == [(0, 0, 0, True, 1), (0, 1, 4, False, 1), (1, 0, 5, False, -1)]
    assert int(rest.num_edits[0]) == 4 and int(rest.code[0, 0]) == 0
    assert sorted(np.asarray(rest.code)[np.asarray(rest.valid)].tolist()) == [0, 3]
    again = advance(rest)
    assert edges(again) == [(0, 0, 5, False, -1)] and int(again.num_edits[0]) == 1
    nothing = advance(again)
    for a, b in zip(nothing, root_plan(SPEC, (1,)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_coarse_view_is_the_plan_without_its_sub_plans():
    found = coarse_view(build(*TWO_LEGS))
    for a, b in zip(found, build(*TWO_LEGS[:3]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rests_and_views_of_random_plans_lie_in_the_graph():
    system = tiny.system()
    plans = tiny.random_plans(system.spec, jax.random.key(0), 64)
    rest, coarse = jax.jit(lambda z: (advance(z), coarse_view(z)))(plans)
    edges_exist = jax.jit(edge_exists)
    for found in (rest, coarse):
        states = np.asarray(found.valid.sum(-1))
        for row in range(64):
            held = np.asarray(found.position)[row][np.asarray(found.valid)[row]]
            assert sorted(held.tolist()) == list(range(states[row])), "positions are 0..n-1"
        dangling = ((np.asarray(found.action) > 0) | np.asarray(found.expanded)) & ~np.asarray(edges_exist(found))
        assert not dangling.any(), "only edges that exist hold something"
    before = np.asarray(plans.valid.sum(-1))
    np.testing.assert_array_equal(np.asarray(rest.valid.sum(-1)), np.maximum(before - 1, 1))
    assert (before > 3).any() and not np.asarray(coarse.tag).any()
