"""What an actor's plans begin from: the root, or the seed that a leaf edge of the actor above gives, and where they lead.

A seed is one of three, by the leaf edge that it stands for:

    acted   an edge of the shared scale with its macro-action: given, and the actor's to spell out
    open    an edge of the shared scale without one: a plain root, bounded by the state at the edge's end
    coarse  an edge of a coarser scale: a plain root, bounded by that edge's end; the actor plans several legs on its way
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.models.context import Target, no_target
from hjepa_gfn.objectives.groups import actor_view, sampler_view
from hjepa_gfn.objectives.policies import Exploration, roots, sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import Coded, plan_of_codes
from hjepa_gfn.plans import Plan, leaf_edges, root_plan, seed_plan, tree_edits


class Seeded(NamedTuple):
    """Observed plans [B] of an actor and what they begin from."""

    plan: Plan
    root: Plan
    target: Target | None  # None: of the first actor, whose plans have none


class Made(NamedTuple):
    """A plan [B] that an actor made, and what it was made of."""

    plan: Plan
    root: Plan              # [B] what it began from
    target: Target | None   # [B]
    context: Context | None  # [B] (of a plan that others give: None)


def first_leaf(plan: Plan) -> jnp.ndarray:
    """int32 [...]: the scale of the leaf edge with which plans begin."""
    return jnp.argmax(leaf_edges(plan)[..., 0, :], axis=-1).astype(jnp.int32)


def begin_from(
    system: System, params: Params, upper: Plan, scale: jnp.ndarray, outer: Target | None
) -> tuple[Plan, Target]:
    """The root plan [B] and target of this actor for the leaf edges of `scale` int32 [B] with which the plans `upper` [B] of
    the actor above begin. An edge that runs to the open end of its plan leads to that plan's own target `outer`."""
    above = system.above
    seed = seed_plan(upper, jnp.zeros_like(scale), above.spec, system.spec, scale)
    tables, _ = system.level(params, method="tables")
    state, level = no_target(jnp.zeros((scale.shape[0], tables[0].shape[1]))) if outer is None else outer
    for tag, at in enumerate(above.levels):
        here = seed.target.coded & (seed.target.tag == tag)
        table = tables[at - 1]
        state = jnp.where(here[:, None], table[seed.target.code % table.shape[0]], state)
        level = jnp.where(here, at, level)
    return seed.plan, jax.lax.stop_gradient(Target(state, level))


def seeded(system: System, params: Params, coded: Coded, key: jnp.ndarray | None = None, plain: float = 0.0) -> Seeded:
    """The plan that a window in codes realises for this actor, the seed that the actor above would have given, and its target.

    Args:
      key, plain: a share `plain` of the rows, drawn with `key`, begins from a plain root, half of it open and half coarse (see
        the module); the rest is acted.
    """
    batch = coded.known.shape[0]
    if system.above is None:
        return Seeded(plan_of_codes(system, *coded[:3]), root_plan(system.spec, (batch,)), None)
    if key is None:
        of_above, draw = None, jnp.ones(batch)
    else:
        of_above, key = jax.random.split(key)
        draw = jax.random.uniform(key, (batch,))
    upper = seeded(system.above, params, coded, of_above, plain)
    finest = system.above.spec.num_scales - 1
    coarse, bare = draw < plain / 2, draw < plain
    root, target = begin_from(system, params, upper.plan, jnp.where(coarse, finest - 1, finest), upper.target)
    root = root._replace(action=jnp.where(bare[:, None, None], 0, root.action))
    plan = plan_of_codes(system, *coded[:3], first=~coarse)
    given = tree_edits(root)
    return Seeded(plan._replace(num_edits=tree_edits(plan) - given), root, target)


def make(
    actor: System, params: Params, key: jnp.ndarray, percept: dict[str, jnp.ndarray], start: tuple[jnp.ndarray, ...],
    mission: jnp.ndarray, above: Made | None, temperature: float,
) -> Made:
    """z ~ P_F(z|c) of an actor in B situations: from the root, or from the seed that the first leaf of the plan above gives.

    Args:
      params: of all actors. start: `windows.encode_start`. above: of the actor above; its plan and target are read.
    """
    view = actor_view(params, actor.name)
    root, target = (roots(actor, mission.shape[0]), None) if above is None else begin_from(
        actor, view, above.plan, first_leaf(above.plan), above.target)
    context = actor.net(view, percept, start[0], mission, target, method="context")
    plan = sample_plans(actor, sampler_view(view), key, context, None, Exploration(temperature), start=root)
    return Made(plan, root, target, context)
