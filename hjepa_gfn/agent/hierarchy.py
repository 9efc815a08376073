"""Planning with several actors: each plans from a leaf edge of the plan above it; what is left of a plan is gone on with."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from hjepa_gfn.agent.decision import Decision, Percept, passes_to_build
from hjepa_gfn.agent.reading import first_leg
from hjepa_gfn.gflownet.rollout import choose
from hjepa_gfn.objectives.energy import energy_of, make_ground
from hjepa_gfn.objectives.groups import actor_view
from hjepa_gfn.objectives.policies import Exploration, roots, sample_plans
from hjepa_gfn.objectives.seeds import begin_from, first_leaf
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import Plan, advance


def what_is_left(held: tuple[Plan, ...], keep: jnp.ndarray) -> tuple[list[Plan], list[jnp.ndarray]]:
    """What the actors above the finest go on with, once the finest one's plan was carried out.

    The plan next above has its first leaf edge behind it; where nothing is left of it, so has the one above that, and so on. A
    plan is used up where its first edge says nothing and leads to no state; so is one whose first leaf edge is coarser than
    the scale that it shares with the plan below: that carried out a part of the edge only.

    Args:
      held: plans [B] of every actor but the finest, coarsest first. keep: bool [B], False where all plan anew.
    Returns: what is left of each plan [B], and whether it is gone on with, bool [B].
    """
    left, goes_on, ended = [], [], keep
    for plan in reversed(held):
        partly = first_leaf(plan) < plan.action.shape[-1] - 1
        rest = choose(ended, advance(plan), plan)
        leaf = jnp.take_along_axis(rest.action[:, 0], first_leaf(rest)[:, None], axis=1, mode="clip")[:, 0]
        over = ended & (partly | ((rest.valid.sum(-1) == 1) & (leaf == 0)))
        left, goes_on, ended = [rest, *left], [keep & ~over, *goes_on], over
    return left, goes_on


def plan_down(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, held: tuple[Plan, ...],
    keep: jnp.ndarray, temperature: float,
) -> Decision:
    """A plan of every actor in B situations, from the coarsest: what is left of the plan that it holds, or z ~ P_F(z|c) from
    the seed that the first leaf edge of the plan above gives (`seeds.begin_from`); the finest one's plan is acted on.

    Args:
      system: the first of the actors. held, keep: see `what_is_left`.
    Returns: the decision, with the first actor's plan and its energy, and the plans that are held now.
    """
    start, (left, goes_on) = encode_start(system, params, percept), what_is_left(held, keep)
    root, target = roots(system, mission.shape[0]), None
    plans, passes = [], 1
    for number, actor in enumerate(system.actors):
        view = actor_view(params, actor.name)
        context = actor.net(view, percept, start[0], mission, target, method="context")
        plan = sample_plans(
            actor, view, jax.random.fold_in(key, number), context, None, Exploration(temperature), start=root)
        built = 1 + passes_to_build(actor, plan.num_edits)
        if number < len(left):
            plan, built = choose(goes_on[number], (left[number], jnp.zeros_like(built)), (plan, built))
            below = system.actors[number + 1]
            root, target = begin_from(below, params, plan, first_leaf(plan), target)
        if not number:
            ground = make_ground(actor, view, *start)
            energy = energy_of(actor, view, jax.tree.map(lambda x: x[:, None], plan), context, ground)[:, 0]
        plans.append(plan)
        passes = passes + built
    leg = first_leg(actor, view, plan)
    return Decision(plans[0], energy, energy[:, None], leg, passes, None, tuple(plans[:-1]))
