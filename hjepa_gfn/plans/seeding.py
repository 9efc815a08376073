"""Seeding a lower actor's plan with a leaf edge of an upper plan (DESIGN section 5).

Neighbouring actors share one scale: the finest of the upper actor is scale 0 of the lower one. An edge of the upper plan at
that scale, between two world states, becomes the lower actor's root edge between the same two states; what the upper actor
decided on the edge, its action, is given and not the lower actor's to undo. So the root of the lower plan is its *seed*:

- `num_edits` counts from the seed (0 there): trajectories begin and end in it, and a plan's length is the actor's own work;
- an action that came with the seed stays: UNACT of it is never legal (`edits.backward_mask`), and as the edge is not empty,
  nothing is inserted into it at scale 0: the lower actor expands it;
- an edge that came with the placeholder is a plain root: the lower actor may act on it or insert states, and undo both.
"""
from typing import NamedTuple

import jax.numpy as jnp

from hjepa_gfn.plans.plan import Plan, edge_exists, right_neighbour, root_plan
from hjepa_gfn.plans.spec import PlanSpec


class End(NamedTuple):
    """A world state that bounds the lower plan, as the upper plan knows it. Where `coded` is False, code and tag are 0."""

    coded: jnp.ndarray  # bool [...]   False: the upper plan's own end (its s_0 at the left; its target, or none, at the right)
    code: jnp.ndarray   # int32 [...]  state code, of the vocabulary of scale `tag` of the upper actor
    tag: jnp.ndarray    # int32 [...]  scale tag in the upper plan: the shared scale or a coarser one


class Seed(NamedTuple):
    """The root of a lower plan, and what stands at its ends."""

    plan: Plan
    start: End   # s_0 of the lower plan
    target: End  # s_T of the lower plan, if it has one


def leaf_edges(plan: Plan) -> jnp.ndarray:
    """bool [..., N, S]: the edges (token, scale) that exist and are not expanded; together they tile the timeline."""
    return edge_exists(plan) & ~plan.expanded


def seed_plan(
    upper: Plan, token: jnp.ndarray, upper_spec: PlanSpec, lower_spec: PlanSpec, scale: jnp.ndarray | None = None
) -> Seed:
    """Seeds lower plans with the edges of `scale` (by default the finest, which both share) that leave `token` to the right in
    upper plans. An edge of a coarser scale seeds a plain root: the lower actor has no word for its action.

    Args:
      upper: leaves [..., N, ...]; token: int32 [...], a slot for which `leaf_edges(upper)[..., token, -1]` is True (elsewhere
        there is no edge to seed with, and the seed means nothing).
      scale: int32 [...], for which the same holds of `leaf_edges(upper)[..., token, scale]`.
    Returns: Seed of plans [...] of `lower_spec` and both ends [...]. Pure, jit-able (specs are static).
    Raises:
      ValueError: the two actors do not share a scale: its vocabularies differ in size.
    """
    shared = [(spec.state_codes[d], spec.action_codes[d]) for spec, d in ((upper_spec, -1), (lower_spec, 0))]
    if shared[0] != shared[1]:
        raise ValueError(
            f"the upper actor's finest scale has (state, action) codes {shared[0]} and the lower actor's coarsest {shared[1]}; "
            "neighbouring actors share this scale")
    finest = upper_spec.num_scales - 1
    at = lambda x, slot: jnp.take_along_axis(x, slot[..., None], axis=-1, mode="clip")[..., 0]  # noqa: E731
    scale = jnp.full(upper.batch_shape, finest) if scale is None else scale
    right = at(right_neighbour(upper, jnp.broadcast_to(scale[..., None], upper.tag.shape)), token)

    def end(slot, coded):
        return End(coded, *(jnp.where(coded, at(x, jnp.maximum(slot, 0)), 0) for x in (upper.code, upper.tag)))

    root = root_plan(lower_spec, upper.batch_shape)
    held = jnp.where(scale == finest, at(upper.action[..., finest], token), 0)
    plan = root._replace(action=root.action.at[..., 0, 0].set(held))
    return Seed(plan, end(token, at(upper.position, token) > 0), end(right, right >= 0))
