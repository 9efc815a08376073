"""Edits and masks on random plans: each edit undone exactly, against the nested reference and by properties."""

import functools
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import nested  # noqa: E402

from hjepa_gfn.plans import (  # noqa: E402
    ACT,
    EXPAND,
    INSERT,
    KINDS,
    PlanSpec,
    apply_backward,
    apply_forward,
    at_capacity,
    backward_mask,
    edge_exists,
    forward_mask,
    left_neighbour,
    right_neighbour,
    root_plan,
    site_index,
    split_site,
)
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

SPEC = PlanSpec(state_codes=(2, 3, 2), action_codes=(3, 2, 4), capacity=6, max_edits=11)
CODES = 4  # no vocabulary is larger
walks = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 9)), max_size=25)
checked = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def unbatch(plan, b=0):
    return jax.tree.map(lambda x: np.asarray(x)[b], plan)


def batch_of(plan, n=1):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *np.shape(x))), plan)


def name(plan):
    return canonical_keys(batch_of(plan))[0]


@functools.cache
def compiled():
    """(forward mask, backward mask, the plan after each forward (site, code), after each backward site), jitted."""
    sites = jnp.arange(SPEC.num_sites)

    def all_forward(plan):
        pairs = jnp.repeat(sites, CODES), jnp.tile(jnp.arange(CODES), SPEC.num_sites)
        return apply_forward(batch_of(plan, SPEC.num_sites * CODES), *pairs, SPEC)

    return (jax.jit(lambda p: forward_mask(p, SPEC)), jax.jit(lambda p: backward_mask(p, SPEC)), jax.jit(all_forward),
            jax.jit(lambda p: apply_backward(batch_of(p, SPEC.num_sites), sites, SPEC)),
            jax.jit(lambda p, s, c: apply_forward(p, s, c, SPEC)), jax.jit(lambda p, s: apply_backward(p, s, SPEC)))


def vocabulary(site):
    _, scale, kind = split_site(int(site), SPEC.num_scales)
    return 1 if kind == EXPAND else (SPEC.state_codes if kind == INSERT else SPEC.action_codes)[scale]


def label(site, code):
    _, scale, kind = split_site(int(site), SPEC.num_scales)
    return KINDS[kind], scale, int(code)


def walk(choices):
    """The plan after a random walk of legal edits, a third of them backward, so that free slots lie anywhere."""
    can, undo, _, _, go, back = compiled()
    plan = unbatch(root_plan(SPEC, (1,)))
    for pick, code, way in choices:
        mask = np.flatnonzero(undo(plan) if way < 3 else can(plan))
        if len(mask):
            site = mask[pick % len(mask)]
            plan = back(plan, site)[0] if way < 3 else go(plan, site, code % vocabulary(site))[0]
    return jax.tree.map(np.asarray, plan)


def assert_well_formed(plan):
    """The invariants of the buffer."""
    n = int(plan.valid.sum())
    assert plan.valid[0] and plan.tag[0] == plan.code[0] == plan.position[0] == 0
    assert sorted(plan.position[plan.valid]) == list(range(n))
    for leaf in (plan.code, plan.tag, plan.position, plan.action.any(-1), plan.expanded.any(-1)):
        assert not leaf[~plan.valid].any(), "a free slot must look like a fresh one"
    exists = np.asarray(edge_exists(plan))
    assert not plan.action[~exists].any() and not plan.expanded[~exists].any()
    tree = nested.parse(name(plan))
    assert nested.key(tree, SPEC) == name(plan)
    assert nested.size(tree) == (n - 1, int(plan.num_edits))
    return tree


@checked
@given(walks)
def test_forward_edits_are_those_of_the_reference_and_each_is_undone_exactly(choices):
    can, undo, all_forward, _, _, back = compiled()
    plan = walk(choices)
    tree = assert_well_formed(plan)
    mask = np.asarray(can(plan))
    children, undo_site = jax.tree.map(np.asarray, all_forward(plan))
    found = Counter()
    for site in np.flatnonzero(mask):
        for code in range(vocabulary(site)):
            at = site * CODES + code
            child = unbatch(children, at)
            found[(*label(site, code), name(child))] += 1
            assert child.num_edits == plan.num_edits + 1
            assert np.asarray(undo(child))[undo_site[at]], "the labelled inverse must be legal"
            again, redo, redo_code = back(child, undo_site[at])
            jax.tree.map(np.testing.assert_array_equal, again, plan)
            assert (redo, redo_code) == (site, code)
    can_go = plan.valid.sum() < SPEC.capacity and plan.num_edits < SPEC.max_edits
    expected = Counter(
        (kind, scale, code, nested.key(child, SPEC)) for kind, scale, code, child in nested.forward(tree, SPEC) if can_go)
    assert found == expected


@checked
@given(walks)
def test_backward_edits_are_those_of_the_reference_and_each_is_redone(choices):
    can, _, _, all_backward, go, _ = compiled()
    plan = walk(choices)
    tree = nested.parse(name(plan))
    mask = np.asarray(compiled()[1](plan))
    parents, redo_site, redo_code = jax.tree.map(np.asarray, all_backward(plan))
    found = Counter()
    for site in np.flatnonzero(mask):
        parent = unbatch(parents, site)
        assert_well_formed(parent)
        found[(*label(site, redo_code[site]), name(parent))] += 1
        assert parent.num_edits == plan.num_edits - 1
        assert np.asarray(can(parent))[redo_site[site]], "the forward edit that leads back must be legal"
        again, undo_site = go(parent, redo_site[site], redo_code[site])
        assert name(again) == name(plan)
        # the same state may land in another free slot: then the label names that slot
        token, scale, kind = split_site(int(site), SPEC.num_scales)
        if kind == INSERT:
            token = int(np.argmin(parent.valid))
        assert undo_site == site_index(token, scale, kind, SPEC.num_scales)
    full = plan.valid.sum() == SPEC.capacity
    expected = Counter(
        (kind, scale, code, nested.key(parent, SPEC)) for kind, scale, code, parent in nested.backward(tree)
        if kind == "insert" or not full)
    assert found == expected
    assert mask.any() == (plan.num_edits > 0), "only the root has nothing to undo"


can_edit, can_undo = (jax.jit(f, static_argnums=1) for f in (forward_mask, backward_mask))
edited = jax.jit(apply_forward, static_argnums=3)


def grown(spec, *edits):
    """The plan after edits (token, scale, kind) from the root, each with code 0."""
    plan = root_plan(spec)
    for edit in edits:
        site = site_index(*edit, spec.num_scales)
        assert can_edit(plan, spec)[site], "the test's own edit is illegal"
        plan, _ = edited(plan, site, 0, spec)
    return jax.tree.map(np.asarray, plan)


def kinds(mask):
    return {KINDS[site % 3] for site in np.flatnonzero(mask)}


def test_at_max_edits_only_stop_and_every_undo_are_legal():
    spec = PlanSpec((2, 2), (2, 2), capacity=9, max_edits=3)
    edits = [(0, 0, INSERT), (0, 0, EXPAND), (1, 0, ACT)]
    before, last = grown(spec, *edits[:2]), grown(spec, *edits)
    assert kinds(can_edit(before, spec)) == {"insert", "act", "expand"} and not at_capacity(before, spec)
    assert not np.asarray(can_edit(last, spec)).any() and at_capacity(last, spec)
    assert kinds(can_undo(last, spec)) == {"act", "expand"}


def test_in_a_full_buffer_only_stop_and_remove_are_legal():
    spec = PlanSpec((2, 2), (2, 2), capacity=4, max_edits=9)
    # an action and an empty expansion, each of which could be undone if a slot were free
    edits = [(0, 0, INSERT), (1, 0, INSERT), (1, 0, EXPAND), (0, 0, ACT), (2, 0, INSERT)]
    before, full = grown(spec, *edits[:-1]), grown(spec, *edits)
    assert kinds(can_edit(before, spec)) == {"insert", "act", "expand"} and not at_capacity(before, spec)
    assert kinds(can_undo(before, spec)) == {"act", "expand"}
    assert full.num_edits < spec.max_edits and at_capacity(full, spec)
    assert not np.asarray(can_edit(full, spec)).any()
    # both ends of the state inserted last are empty; the others have an edge that holds something
    assert np.flatnonzero(can_undo(full, spec)).tolist() == [site_index(3, 0, INSERT, 2)]


def test_a_batch_of_mixed_edits_equals_the_edits_one_by_one():
    can, undo, _, _, go, back = compiled()
    rng = np.random.default_rng(0)
    plans = [walk([(int(a), int(b), int(c)) for a, b, c in rng.integers(0, 10, (9, 3))]) for _ in range(12)]
    plans = [p for p in plans if np.asarray(can(p)).any() and np.asarray(undo(p)).any()]
    assert len(plans) > 5
    sites = np.array([rng.choice(np.flatnonzero(can(p))) for p in plans])
    codes = np.array([rng.integers(vocabulary(s)) for s in sites])
    undone = np.array([rng.choice(np.flatnonzero(undo(p))) for p in plans])
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *plans)
    assert len({s % 3 for s in sites}) == 3
    forth, there = go(stacked, sites, codes), back(stacked, undone)
    for b, plan in enumerate(plans):
        jax.tree.map(np.testing.assert_array_equal, unbatch(forth, b), go(plan, sites[b], codes[b]))
        jax.tree.map(np.testing.assert_array_equal, unbatch(there, b), back(plan, undone[b]))


def test_neighbours_in_a_view_against_a_scan_of_the_tokens():
    rng = np.random.default_rng(1)
    for _ in range(10):
        plan = walk([(int(a), int(b), 9) for a, b in rng.integers(0, 10**6, (9, 2))])
        for scale in range(SPEC.num_scales):
            at = jnp.full(SPEC.capacity, scale)
            left, right = np.asarray(left_neighbour(plan, at)), np.asarray(right_neighbour(plan, at))
            for n in np.flatnonzero(plan.valid):
                view = [(plan.position[m], m) for m in np.flatnonzero(plan.valid) if plan.tag[m] <= scale]
                before = [m for p, m in sorted(view) if p < plan.position[n]]
                after = [m for p, m in sorted(view) if p > plan.position[n]]
                assert left[n] == (before[-1] if before else -1) and right[n] == (after[0] if after else -1)
