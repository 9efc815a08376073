"""Planning with several actors: each plans from a leaf edge of the plan above it; what is left of a plan is gone on with."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.decision import (
    Decision,
    Percept,
    encode,
    how_legs_begin,
    passes_to_build,
    which_of,
)
from hjepa_gfn.agent.elaboration import edge_name, recall
from hjepa_gfn.agent.optimisation import FAR, Anytime, decide, optimise
from hjepa_gfn.agent.options import Optimise
from hjepa_gfn.agent.reading import FirstLeg, first_leg
from hjepa_gfn.gflownet.rollout import choose
from hjepa_gfn.objectives.energy import energy_of, make_ground
from hjepa_gfn.objectives.groups import actor_view
from hjepa_gfn.objectives.seeds import Made, first_leaf, make
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import Plan, advance

BELOW = FAR + 3  # folded into a decision's key for the plans below one that was moved


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


def plan_below(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, start: tuple[jnp.ndarray, ...], mission: jnp.ndarray,
    top: Plan, given: list[tuple[Plan, jnp.ndarray]], temperature: float,
) -> tuple[list[Plan], FirstLeg, jnp.ndarray]:
    """Plans of the actors below the first, each from the seed that the first leaf edge of the plan above gives.

    Args:
      top: [B] the first actor's plan. given: of the first of those below, as far as it goes, (plan [B], where it is that one
        that counts, bool [B]); else z ~ P_F(z|c). start: `encode_start`.
    Returns: a plan [B] of each, how the finest begins, and the network passes [B] that this took.
    """
    above, plans, passes = Made(top, top, None, None), [], jnp.zeros(mission.shape, jnp.int32)[:, 0]
    for number, actor in enumerate(system.lower, 1):
        above = make(actor, params, jax.random.fold_in(key, number), percept, start, mission, above, temperature)
        built = 1 + passes_to_build(actor, above.plan.num_edits)
        if number <= len(given):
            held, counts = given[number - 1]
            plan, built = choose(counts, (held, jnp.zeros_like(built)), (above.plan, built))
            above = above._replace(plan=plan)
        plans.append(above.plan)
        passes += built
    return plans, first_leg(actor, actor_view(params, actor.name), plans[-1]), passes


def plan_down(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, held: tuple[Plan, ...],
    keep: jnp.ndarray, temperature: float, samples: int = 1, choose_by: str = "energy",
) -> Decision:
    """Plans of every actor in B situations, `samples` times, and of these those that are acted on: `choose_by` "energy", the
    first actor's plan of least energy; "habit", a draw by the habit's probability of how the finest one begins.

    Args: see `one_of_each`.
    """
    if samples == 1:
        return one_of_each(system, params, key, percept, mission, held, keep, temperature)
    batch = mission.shape[0]
    rows = np.repeat(np.arange(batch), samples)
    wide = lambda tree: jax.tree.map(lambda x: x[rows], tree)  # noqa: E731
    made = one_of_each(system, params, key, wide(percept), wide(mission), wide(held), keep[rows], temperature)
    by_row = lambda x: x.reshape(batch, samples)  # noqa: E731
    begins = None
    if choose_by == "habit":
        view = actor_view(params, system.name)
        context, _ = encode(system, view, percept, mission)
        begins = by_row(how_legs_begin(system, view, wide(context), made.leg, wide(percept)))
    best = which_of(key, by_row(made.energy), by_row(made.leg.count == 0), begins) + jnp.arange(batch) * samples
    found = jax.tree.map(lambda x: x[best], made)
    passes = by_row(made.passes).sum(1) + (choose_by == "habit")
    return found._replace(energies=by_row(made.energy), passes=passes)


def one_of_each(
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
    made = make(system, params, jax.random.fold_in(key, 0), percept, start, mission, None, temperature)
    built = 1 + passes_to_build(system, made.plan.num_edits)
    plan, built = choose(goes_on[0], (left[0], jnp.zeros_like(built)), (made.plan, built))
    view = actor_view(params, system.name)
    seen, ground = jax.tree.map(lambda x: x[:, None], plan), make_ground(system, view, *start)
    energy = energy_of(system, view, seen, made.context, ground)[:, 0]
    given = list(zip(left[1:], goes_on[1:], strict=True))
    plans, leg, passes = plan_below(system, params, key, percept, start, mission, plan, given, temperature)
    return Decision(plan, energy, energy[:, None], leg, 1 + built + passes, None, (plan, *plans[:-1]))


def optimise_down(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, held: tuple[Plan, ...],
    keep: jnp.ndarray, options: Optimise, temperature: float, moves: jnp.ndarray | int, best: jnp.ndarray | bool,
) -> tuple[Decision, Anytime]:
    """Optimisation mode of several actors, in B situations: the first one's plan is moved, beginning with what is left of the
    plan that it holds or with a new one; those below plan from what it came to. Where a sub-plan was made of its first leaf
    edge, that one is carried out; plans held further below count where that edge is still the one that they were made of.

    Args:
      held, keep: see `what_is_left`. options, moves, best: see `optimisation.optimise` and `decide`.
    """
    left, goes_on = what_is_left(held, keep)
    found = optimise(
        system, params, key, percept, mission, options, temperature, moves, left=(left[0], goes_on[0]))
    decision = decide(system, params, found, moves, best)
    top, name = decision.plan, edge_name(system.lower[0], decision.plan)
    same = goes_on[0] & (name == edge_name(system.lower[0], left[0])).all(-1)
    given = [(plan, counts & same) for plan, counts in zip(left[1:], goes_on[1:], strict=True)]
    if found.memory is not None:
        slot, known = recall(found.memory, name)
        others = given[0] if given else (slot.plan, known)
        given = [(choose(known, slot.plan, others[0]), known | others[1]), *given[1:]]
    start = encode_start(system, params, percept)
    plans, leg, passes = plan_below(
        system, params, jax.random.fold_in(key, BELOW), percept, start, mission, top, given, temperature)
    return decision._replace(leg=leg, passes=decision.passes + passes, held=(top, *plans[:-1])), found
