"""A plan tree in a fixed-capacity buffer (DESIGN section 3).

One token is one world state *together with the edges that leave it to the right*: the state tagged with scale t has, in
every view d >= t in which its left end is still unfolded, exactly one edge to its right. An edge is therefore named by
(token of its left end, scale), and needs no token of its own: n states cost n tokens, not n states + m edges.

Tokens are append-only: an insertion writes a free slot and shifts integer positions; no activation is ever moved.
"""
from typing import NamedTuple

import jax.numpy as jnp

from hjepa_gfn.plans.spec import PlanSpec


class Plan(NamedTuple):
    """A batch of plan trees; every leaf may carry any leading batch axes. Slot 0 holds `s_0`."""

    code: jnp.ndarray       # int32 [..., N]     state code (0 for s_0 and for free slots)
    tag: jnp.ndarray        # int32 [..., N]     scale tag of the state (0 for s_0)
    position: jnp.ndarray   # int32 [..., N]     place in reading order (0 for s_0)
    valid: jnp.ndarray      # bool  [..., N]     whether the slot holds a state
    action: jnp.ndarray     # int32 [..., N, S]  1 + action code of the edge (token, scale); 0 is the placeholder
    expanded: jnp.ndarray   # bool  [..., N, S]  whether the edge (token, scale) is expanded
    num_edits: jnp.ndarray  # int32 [...]        how many edits lead here from the root (of a seeded plan: from its seed)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.num_edits.shape


def root_plan(spec: PlanSpec, batch_shape: tuple[int, ...] = ()) -> Plan:
    """The root `s_0 --placeholder--> s_T`: complete, and as vague as a plan can be."""
    n, s = spec.capacity, spec.num_scales
    zeros = jnp.zeros((*batch_shape, n), jnp.int32)
    edges = (*batch_shape, n, s)
    return Plan(
        code=zeros, tag=zeros, position=zeros, valid=jnp.broadcast_to(jnp.arange(n) == 0, zeros.shape),
        action=jnp.zeros(edges, jnp.int32), expanded=jnp.zeros(edges, bool),
        num_edits=jnp.zeros(batch_shape, jnp.int32),
    )


def tree_edits(plan: Plan) -> jnp.ndarray:
    """int32 [...]: the edits that a tree holds. Each interior state, action and expansion is exactly one."""
    held = jnp.sum(plan.action > 0, axis=(-2, -1)) + jnp.sum(plan.expanded, axis=(-2, -1))
    return (jnp.sum(plan.valid, axis=-1) - 1 + held).astype(jnp.int32)


def seed_edits(plan: Plan) -> jnp.ndarray:
    """int32 [...]: the edits that a plan's seed holds, which are not the plan's own to undo (see `plans.seeding`).

    1 where the root came with an action on its edge, else 0. It needs no field of its own: it is what the tree holds over
    `num_edits`, which counts from the seed.
    """
    return tree_edits(plan) - plan.num_edits


def edge_exists(plan: Plan) -> jnp.ndarray:
    """bool [..., N, S]: the edge to the right of a token exists at its own scale, and finer while it is expanded."""
    scale = jnp.arange(plan.action.shape[-1])
    own = plan.tag[..., None]
    # all edges of this token from its own scale up to d-1 are expanded
    unfolded = jnp.cumprod(jnp.where(scale < own, True, plan.expanded).astype(jnp.int32), axis=-1)
    above = jnp.concatenate([jnp.ones_like(unfolded[..., :1]), unfolded[..., :-1]], axis=-1)
    return plan.valid[..., None] & (scale >= own) & (above == 1)


def _nearest(plan: Plan, scale: jnp.ndarray, to_the_right: bool) -> jnp.ndarray:
    """Per token, the slot of the nearest state in the view of its given scale on one side, or -1 (the open end s_T)."""
    here, there = plan.position[..., :, None], plan.position[..., None, :]
    ahead = there > here if to_the_right else there < here
    in_view = ahead & plan.valid[..., None, :] & (plan.tag[..., None, :] <= scale[..., :, None])
    distance = jnp.where(in_view, jnp.abs(there - here), jnp.iinfo(jnp.int32).max)
    return jnp.where(in_view.any(-1), jnp.argmin(distance, axis=-1), -1).astype(jnp.int32)


def left_neighbour(plan: Plan, scale: jnp.ndarray) -> jnp.ndarray:
    """int32 [..., N]: left neighbour of each token in the view of `scale` [..., N] (-1 for s_0)."""
    return _nearest(plan, scale, to_the_right=False)


def right_neighbour(plan: Plan, scale: jnp.ndarray) -> jnp.ndarray:
    """int32 [..., N]: right neighbour of each token in the view of `scale` [..., N] (-1: the plan's open end)."""
    return _nearest(plan, scale, to_the_right=True)
