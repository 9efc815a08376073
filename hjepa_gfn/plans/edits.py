"""The edits of a plan tree, their inverses and their masks (DESIGN section 3).

A *site* is (token, scale, kind), flattened as `(token * S + scale) * 3 + kind`. Forward kinds are INSERT, ACT, EXPAND
at the edge (token, scale); the backward label at the same flat layout is REMOVE of the token (at its own scale), UNACT
and COLLAPSE of the edge. STOP is no site: it is a Bernoulli of its own. Each forward edit has exactly one labelled
inverse, which is why labelled P_F pairs with labelled P_B site by site (never over unique parents).

Both masks describe one and the same graph: an undo is legal exactly where the edit that it undoes is legal in the smaller
plan. Since no edit leaves a plan at capacity, a plan whose buffer is full was completed by an INSERT: only REMOVE is legal
there. A full plan without a state to REMOVE lies outside the graph; no walk of legal edits, in either direction, reaches one.
"""
from typing import NamedTuple

import jax.numpy as jnp

from hjepa_gfn.plans.plan import Plan, edge_exists, left_neighbour, right_neighbour, seed_edits
from hjepa_gfn.plans.spec import PlanSpec

INSERT, ACT, EXPAND = 0, 1, 2
KINDS = ("insert", "act", "expand")


class Edit(NamedTuple):
    """One labelled edit between z and z'."""

    site: jnp.ndarray      # int32 [...] forward site in z
    code: jnp.ndarray      # int32 [...] code within its own vocabulary (0 for EXPAND)
    backward: jnp.ndarray  # int32 [...] backward site in z' that undoes it


def site_index(token: jnp.ndarray, scale: jnp.ndarray, kind: jnp.ndarray, num_scales: int) -> jnp.ndarray:
    """Flat site of (token, scale, kind)."""
    return (token * num_scales + scale) * 3 + kind


def split_site(site: jnp.ndarray, num_scales: int) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray]:
    """(token, scale, kind) of a flat site."""
    return site // (3 * num_scales), site // 3 % num_scales, site % 3


def is_full(plan: Plan, spec: PlanSpec) -> jnp.ndarray:
    """bool [...]: no slot of the buffer is free."""
    return plan.valid.sum(-1) >= spec.capacity


def at_capacity(plan: Plan, spec: PlanSpec) -> jnp.ndarray:
    """bool [...]: the buffer is full or the edits are used up: only STOP is legal."""
    return is_full(plan, spec) | (plan.num_edits >= spec.max_edits)


def forward_mask(plan: Plan, spec: PlanSpec) -> jnp.ndarray:
    """bool [..., num_sites]: the legal forward edits; all False at capacity."""
    exists = edge_exists(plan)
    empty, plain = plan.action == 0, ~plan.expanded
    finer = jnp.arange(spec.num_scales) < spec.num_scales - 1
    mask = jnp.stack([exists & empty & plain, exists & empty, exists & plain & finer], axis=-1)
    mask &= ~at_capacity(plan, spec)[..., None, None, None]
    return mask.reshape(*plan.batch_shape, spec.num_sites)


def backward_mask(plan: Plan, spec: PlanSpec) -> jnp.ndarray:
    """bool [..., num_sites]: the legal backward edits; all False at the root (of a seeded plan: at its seed) only."""
    exists = edge_exists(plan)
    empty_plain = (plan.action == 0) & ~plan.expanded
    scale = jnp.arange(spec.num_scales)
    own = scale == plan.tag[..., None]
    # REMOVE: both own-scale edges of the state are plain and empty
    left = jnp.maximum(left_neighbour(plan, plan.tag), 0)
    own_edge = jnp.any(own & empty_plain, axis=-1)
    left_edges = jnp.take_along_axis(empty_plain, left[..., None], axis=-2, mode="clip")
    left_edge = jnp.any(own & left_edges, axis=-1)
    is_interior = plan.valid & (plan.position > 0)
    remove = own & (is_interior & own_edge & left_edge)[..., None]
    # COLLAPSE: the sub-plan is a single plain, empty edge
    finer_empty = jnp.concatenate([empty_plain[..., 1:], jnp.zeros_like(empty_plain[..., :1])], axis=-1)
    collapse = []
    for d in range(spec.num_scales):
        right = right_neighbour(plan, jnp.full_like(plan.tag, d + 1))
        right_tag = jnp.take_along_axis(plan.tag, jnp.maximum(right, 0), axis=-1, mode="clip")
        collapse.append((right < 0) | (right_tag <= d))
    collapse = jnp.stack(collapse, axis=-1) & exists & plan.expanded & finer_empty
    # UNACT: whatever the plan's seed did not bring along
    slot = jnp.arange(spec.capacity)[:, None]
    given = (slot == 0) & (scale == 0) & (seed_edits(plan) > 0)[..., None, None]
    unact = exists & (plan.action > 0) & ~given
    # an edit that took no slot cannot have led to a full buffer
    some_free = ~is_full(plan, spec)[..., None, None]
    mask = jnp.stack([remove, unact & some_free, collapse & some_free], axis=-1)
    return mask.reshape(*plan.batch_shape, spec.num_sites)


def apply_forward(plan: Plan, site: jnp.ndarray, code: jnp.ndarray, spec: PlanSpec) -> tuple[Plan, jnp.ndarray]:
    """Applies one legal forward edit per plan.

    Args:
      site: int32 [...]; code: int32 [...], within the vocabulary of the edit's scale.
    Returns:
      the new plan, and the backward site [...] that undoes the edit.
    """
    token, scale, kind = (x[..., None] for x in split_site(site, spec.num_scales))
    code = code[..., None]
    slot = jnp.arange(spec.capacity)
    free = jnp.argmin(plan.valid, axis=-1).astype(jnp.int32)[..., None]
    here = jnp.take_along_axis(plan.position, token, axis=-1, mode="clip")
    insert = kind == INSERT
    new = insert & (slot == free)
    edge = (slot == token)[..., None] & (jnp.arange(spec.num_scales) == scale[..., None])
    shifted = plan.position + (insert & plan.valid & (plan.position > here))
    edited = Plan(
        code=jnp.where(new, code, plan.code),
        tag=jnp.where(new, scale, plan.tag),
        position=jnp.where(new, here + 1, shifted),
        valid=plan.valid | new,
        action=jnp.where(edge & (kind == ACT)[..., None], code[..., None] + 1, plan.action),
        expanded=plan.expanded | (edge & (kind == EXPAND)[..., None]),
        num_edits=plan.num_edits + 1,
    )
    undo = site_index(jnp.where(insert, free, token), scale, kind, spec.num_scales)[..., 0]
    return edited, undo.astype(jnp.int32)


def apply_backward(plan: Plan, site: jnp.ndarray, spec: PlanSpec) -> tuple[Plan, jnp.ndarray, jnp.ndarray]:
    """Undoes one edit per plan: the backward `site` int32 [...] must be legal.

    Returns:
      the smaller plan, and the forward (site, code) [...] that would redo the edit.
    """
    token, scale, kind = (x[..., None] for x in split_site(site, spec.num_scales))
    slot = jnp.arange(spec.capacity)
    remove = kind == INSERT
    left = jnp.take_along_axis(left_neighbour(plan, plan.tag), token, axis=-1, mode="clip")
    here = jnp.take_along_axis(plan.position, token, axis=-1, mode="clip")
    gone = remove & (slot == token)
    edge = (slot == token)[..., None] & (jnp.arange(spec.num_scales) == scale[..., None])
    held = jnp.sum(jnp.where(edge, plan.action, 0), axis=(-2, -1))[..., None]
    code = jnp.where(remove, jnp.take_along_axis(plan.code, token, axis=-1, mode="clip"), 0)
    code = jnp.where(kind == ACT, held - 1, code)
    smaller = Plan(
        code=jnp.where(gone, 0, plan.code),
        tag=jnp.where(gone, 0, plan.tag),
        position=jnp.where(gone, 0, plan.position - (remove & plan.valid & (plan.position > here))),
        valid=plan.valid & ~gone,
        action=jnp.where(edge & (kind == ACT)[..., None], 0, plan.action),
        expanded=plan.expanded & ~(edge & (kind == EXPAND)[..., None]),
        num_edits=plan.num_edits - 1,
    )
    redo = site_index(jnp.where(remove, left, token), scale, kind, spec.num_scales)[..., 0]
    return smaller, redo.astype(jnp.int32), code[..., 0].astype(jnp.int32)
