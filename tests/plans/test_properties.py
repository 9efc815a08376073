"""What holds for every plan of every family: random families of one, two and three scales, batches of random plans of each."""

import functools
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import nested  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.gflownet.rollout import choose  # noqa: E402
from hjepa_gfn.plans import (  # noqa: E402
    EXPAND,
    INSERT,
    KINDS,
    Plan,
    PlanSpec,
    apply_backward,
    apply_forward,
    at_capacity,
    backward_mask,
    edge_exists,
    forward_mask,
    leaf_edges,
    right_neighbour,
    root_plan,
    split_site,
)
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

B, CODES = 8, 3


def drawn_spec(scales, seed):
    """A random family; no vocabulary has more than CODES codes."""
    rng = np.random.default_rng(100 * scales + seed)
    sizes = lambda: tuple(rng.integers(1, CODES + 1, scales).tolist())
    return PlanSpec(sizes(), sizes(), capacity=int(rng.integers(3, 7)), max_edits=int(rng.integers(5, 14)))


SPECS = [drawn_spec(1, 4), drawn_spec(2, 5), drawn_spec(3, 0)]  # room for 4, 4 and 6 states, 11, 12 and 7 edits
families = pytest.mark.parametrize("spec", SPECS, ids=str)
checked = settings(max_examples=10, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**31 - 1)
per_family = functools.partial(jax.jit, static_argnames="spec")


def plans_of(spec, seed):
    """Plans [B] after random walks, a quarter of whose edits are undone, so that free slots lie anywhere."""
    return tiny.random_plans(spec, jax.random.key(seed), B, 2 * spec.max_edits)


def each(plans, n):
    """[..., N] -> [..., n, N]: every plan n times."""
    batch = plans.num_edits.ndim
    return jax.tree.map(lambda x: jnp.repeat(jnp.expand_dims(x, batch), n, axis=batch), plans)


def moved(plans, order):
    """Slot i of the new buffer holds what was in slot order[..., i]."""
    at = lambda x: jnp.take_along_axis(x, order.reshape(*order.shape, *(1,) * (x.ndim - order.ndim)), order.ndim - 1)
    return Plan(*map(at, plans[:-1]), plans.num_edits)


def in_order(plans):
    """States in reading order in the buffer: equal arrays are equal trees."""
    return moved(plans, jnp.argsort(jnp.where(plans.valid, plans.position, plans.valid.shape[-1]), axis=-1))


def equal(one, two):
    """bool [...]: whether all arrays of two plans agree."""
    batch = one.num_edits.ndim
    return functools.reduce(jnp.logical_and, [jnp.all(a == b, tuple(range(batch, a.ndim))) for a, b in zip(one, two)])


def every_undo(plans, spec):
    """(parents [..., sites], redo sites, redo codes) of every backward site, legal or not."""
    sites = jnp.broadcast_to(jnp.arange(spec.num_sites), (*plans.num_edits.shape, spec.num_sites))
    return apply_backward(each(plans, spec.num_sites), sites, spec)


@per_family
def every_edit(plans, spec):
    """The child [B, sites * CODES] of every (site, code), legal or not, and its label."""
    site, code = jnp.repeat(jnp.arange(spec.num_sites), CODES), jnp.tile(jnp.arange(CODES), spec.num_sites)
    grid = lambda x: jnp.broadcast_to(x, (B, len(x)))
    return apply_forward(each(plans, len(site)), grid(site), grid(code), spec)


can_edit, can_undo, full, undone, exists, leaves = (
    per_family(f) for f in (forward_mask, backward_mask, at_capacity, every_undo, lambda plans, spec: edge_exists(plans),
                            lambda plans, spec: leaf_edges(plans)))


def names(plans):
    """Canonical keys of plans [...], flat."""
    batch = plans.num_edits.shape
    return canonical_keys(jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[len(batch):]), plans))


def vocabulary(spec, site):
    _, scale, kind = split_site(int(site), spec.num_scales)
    return 1 if kind == EXPAND else (spec.state_codes if kind == INSERT else spec.action_codes)[scale]


# --- edits and their inverses -----------------------------------------------------------------------------------------


@per_family
def ways_home(plans, codes, spec):
    """(labels [B, sites], bool [B, sites, sites]: the legal undos of each edit's result that lead home by this label)."""
    sites = jnp.broadcast_to(jnp.arange(spec.num_sites), codes.shape)
    children, label = apply_forward(each(plans, spec.num_sites), sites, codes, spec)
    parents, redo, redo_code = every_undo(children, spec)
    named = (redo == sites[..., None]) & (redo_code == codes[..., None])
    home = equal(parents, each(each(plans, spec.num_sites), spec.num_sites))
    return label, backward_mask(children, spec) & named & home


@families
@checked
@given(seeds)
def test_every_forward_edit_is_undone_by_exactly_one_labelled_backward_edit(spec, seed):
    plans = plans_of(spec, seed)
    size = np.array([vocabulary(spec, site) for site in range(spec.num_sites)])
    codes = np.random.default_rng(seed).integers(0, size, (B, spec.num_sites)).astype(np.int32)
    label, home = map(np.asarray, ways_home(plans, codes, spec=spec))
    legal = np.asarray(can_edit(plans, spec=spec))
    assert (home.sum(-1)[legal] == 1).all()
    assert (home.argmax(-1)[legal] == label[legal]).all()


@per_family
def redone(plans, spec):
    """bool [B, sites]: whether the edit that a backward site undoes is legal in the smaller plan, and leads back."""
    parents, site, code = every_undo(plans, spec)
    again, _ = apply_forward(parents, site, code, spec)
    legal = jnp.take_along_axis(forward_mask(parents, spec), site[..., None], axis=-1)[..., 0]
    return legal & equal(in_order(again), in_order(each(plans, spec.num_sites)))


@families
@checked
@given(seeds)
def test_every_backward_edit_is_redone_by_its_labelled_forward_edit(spec, seed):
    plans = plans_of(spec, seed)
    legal = np.asarray(can_undo(plans, spec=spec))
    assert np.asarray(redone(plans, spec=spec))[legal].all()


@families
@checked
@given(seeds)
def test_masks_in_both_directions_are_the_edits_of_the_nested_tree(spec, seed):
    """Brute force: the trees that the legal sites and codes lead to are those of the reference, label by label."""
    plans = plans_of(spec, seed)
    trees = [nested.parse(name) for name in names(plans)]
    legal, undo = (np.asarray(mask(plans, spec=spec)) for mask in (can_edit, can_undo))
    children = names(every_edit(plans, spec=spec)[0])
    parents, _, lost = undone(plans, spec=spec)
    parents, lost = names(parents), np.asarray(lost)
    for b, tree in enumerate(trees):
        states, edits = nested.size(tree)
        assert (states, edits) == (plans.valid[b].sum() - 1, plans.num_edits[b]), "an edit is an edit"
        is_full = states + 1 == spec.capacity
        kind = lambda site: (KINDS[site % 3], site // 3 % spec.num_scales)
        found = Counter((*kind(site), code, children[(b * spec.num_sites + site) * CODES + code])
                        for site in np.flatnonzero(legal[b]) for code in range(vocabulary(spec, site)))
        assert found == Counter((k, d, c, nested.key(t, spec)) for k, d, c, t in nested.forward(tree, spec)
                                if not is_full and edits < spec.max_edits)
        found = Counter((*kind(site), lost[b, site], parents[b * spec.num_sites + site]) for site in np.flatnonzero(undo[b]))
        assert found == Counter((k, d, c, nested.key(t, spec)) for k, d, c, t in nested.backward(tree)
                                if not is_full or k == "insert")


# --- the buffer, its capacity, and what a plan covers -------------------------------------------------------------------


@families
@checked
@given(seeds)
def test_the_order_of_the_buffer_makes_no_difference(spec, seed):
    plans, rng = plans_of(spec, seed), np.random.default_rng(seed)
    order = np.stack([np.r_[0, 1 + rng.permutation(spec.capacity - 1)] for _ in range(B)])
    other = jax.tree.map(np.asarray, moved(plans, order))
    assert names(other) == names(plans)
    by_slot = lambda x: np.asarray(x).reshape(B, spec.capacity, -1)
    for ask in (can_edit, can_undo, exists, leaves):
        there, here = (by_slot(ask(z, spec=spec)) for z in (other, plans))
        np.testing.assert_array_equal(there, np.take_along_axis(here, order[..., None], axis=1))
    np.testing.assert_array_equal(full(other, spec=spec), full(plans, spec=spec))
    # the edits of a slot, wherever it lies, lead to the same trees
    here, there = (np.array(list(map(hash, names(every_edit(z, spec=spec)[0])))) for z in (plans, other))
    legal = by_slot(can_edit(other, spec=spec)).repeat(CODES, -1)
    np.testing.assert_array_equal(by_slot(there)[legal], np.take_along_axis(by_slot(here), order[..., None], axis=1)[legal])


@families
@checked
@given(seeds)
def test_at_capacity_only_stop_is_legal_and_a_full_buffer_is_left_through_remove(spec, seed):
    plans = plans_of(spec, seed)
    stuck = np.asarray(full(plans, spec=spec))
    used = np.asarray(plans.valid).sum(-1)
    np.testing.assert_array_equal(stuck, (used == spec.capacity) | (np.asarray(plans.num_edits) == spec.max_edits))
    can, undo = (np.asarray(mask(plans, spec=spec)) for mask in (can_edit, can_undo))
    assert not can[stuck].any()
    # elsewhere whatever edge holds nothing can be edited
    open_edge = np.asarray(exists(plans, spec=spec) & (plans.action == 0)).any((1, 2))
    assert can.any(-1)[~stuck & open_edge].all()
    assert not undo[used == spec.capacity].reshape(-1, spec.num_sites // 3, 3)[..., 1:].any()


def test_random_plans_lie_on_both_sides_of_every_bound():
    """Guards the tests above against plans that would make them empty."""
    used_up = 0
    for spec in SPECS:
        plans = [jax.tree.map(np.asarray, plans_of(spec, seed)) for seed in range(6)]
        filled, edits = np.concatenate([z.valid.all(-1) for z in plans]), np.concatenate([z.num_edits for z in plans])
        assert filled.any() and (edits < spec.max_edits)[~filled].any() and edits.max() > spec.num_scales
        used_up += (edits == spec.max_edits)[~filled].sum()
    assert used_up > 0, "in some family the edits are used up first"


@per_family
def walked_home(plans, key, spec):
    """Plans after random legal undos, until none is legal."""

    def step(now, key):
        legal = backward_mask(now, spec)
        smaller, _, _ = apply_backward(now, tiny.uniform(key, legal), spec)
        return choose(legal.any(-1), smaller, now), None

    return jax.lax.scan(step, plans, jax.random.split(key, spec.max_edits))[0]


@families
@checked
@given(seeds)
def test_every_backward_walk_ends_in_the_root(spec, seed):
    end = in_order(walked_home(plans_of(spec, seed), jax.random.key(seed + 1), spec=spec))
    jax.tree.map(np.testing.assert_array_equal, end, root_plan(spec, (B,)))


@families
@checked
@given(seeds)
def test_every_partial_plan_is_complete(spec, seed):
    """In the view of each scale, the finest edges shown lead from s_0 to the end without gap or overlap."""
    plans = jax.tree.map(np.asarray, plans_of(spec, seed))
    there, leaf = np.asarray(exists(plans, spec=spec)), np.asarray(leaves(plans, spec=spec))
    right = [np.asarray(neighbour(plans, d)) for d in range(spec.num_scales)]
    for b in range(B):
        slots = sorted(np.flatnonzero(plans.valid[b]), key=lambda n: plans.position[b, n])
        assert [plans.position[b, n] for n in slots] == list(range(len(slots))) and slots[0] == 0
        for d in range(spec.num_scales):
            view = [n for n in slots if plans.tag[b, n] <= d]
            shown = [(n, e) for n in view for e in range(d + 1)
                     if there[b, n, e] and (e == d or not plans.expanded[b, n, e])]
            assert [n for n, _ in shown] == view, "one edge leaves each state of the view"
            ends = [right[e][b, n] for n, e in shown]
            assert ends == [*view[1:], -1], "and leads to the next one, the last to the open end"
        assert [(n, e) for n, e in shown] == [(n, e) for n in slots for e in np.flatnonzero(leaf[b, n])], "the leaves"
        absent = ~there[b]
        assert not plans.action[b][absent].any() and not plans.expanded[b][absent].any()


@functools.partial(jax.jit, static_argnums=1)
def neighbour(plans, scale):
    return right_neighbour(plans, jnp.full_like(plans.tag, scale))
