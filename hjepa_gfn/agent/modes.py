"""Modes of acting as jitted functions of percept and mission: habitual, planning, optimisation (DESIGN section 5)."""
from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.aiming import aim_probabilities
from hjepa_gfn.agent.decision import (
    REMEMBERED,
    Decision,
    Percept,
    encode,
    how_legs_begin,
    log_habit_of,
    log_habits,
    passes_to_build,
    which_of,
)
from hjepa_gfn.agent.hierarchy import optimise_down, plan_down
from hjepa_gfn.agent.optimisation import decide, optimise
from hjepa_gfn.agent.options import OLDER, Optimise, options_of
from hjepa_gfn.agent.reading import code_distance, first_leg
from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives.em import sample_text
from hjepa_gfn.objectives.energy import energy_of, make_ground
from hjepa_gfn.objectives.policies import Exploration, sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, root_plan


def habitual(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, temperature: float
) -> jnp.ndarray:
    """Actions int32 [B] of the habitual policy, sampled at a temperature (0: the most probable one)."""
    context, _ = encode(system, params, percept, mission)
    logits = log_habits(system, params, context, percept.get("tried"))
    return jnp.argmax(logits + temperature * jax.random.gumbel(key, logits.shape), axis=-1).astype(jnp.int32)


def plan(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, samples: int, temperature: float,
    choose: str = "energy",
) -> Decision:
    """Samples K plans z ~ P_F(z|c) in each of B situations and keeps one: `choose` "energy": that of least energy; "habit": a
    draw by the habit's probability of how it begins (`draw_by_habit`).

    The plans that cannot be acted on (no first action at the finest scale, nor a macro-action to decode) come last.
    """
    batch = mission.shape[0]
    context, start = encode(system, params, percept, mission)
    ground = make_ground(system, params, *start)
    rows = np.repeat(np.arange(batch), samples)
    wide_of = lambda tree: jax.tree.map(lambda x: x[rows], tree)  # noqa: E731
    wide = wide_of(context)
    plans = sample_plans(system, params, key, wide, None, Exploration(temperature))
    ground = ground._replace(start=wide_of(ground.start))
    seen = jax.tree.map(lambda x: x[:, None], plans)
    energy = energy_of(system, params, seen, wide, ground)[:, 0]
    leg = first_leg(system, params, plans)
    vague, by_row = leg.count == 0, lambda x: x.reshape(batch, samples)
    begins = None
    if choose == "habit":
        begins = by_row(how_legs_begin(system, params, wide, leg, wide_of(percept)))
    best = which_of(key, by_row(energy), by_row(vague), begins) + jnp.arange(batch) * samples
    pick = lambda tree: jax.tree.map(lambda x: x[best], tree)  # noqa: E731
    passes = 1 + (passes_to_build(system, plans.num_edits) + 1).reshape(batch, samples).sum(1)
    return Decision(pick(plans), energy[best], energy.reshape(batch, samples), pick(leg), passes)


def doubted(
    system: System, params: Params, percept: Percept, mission: jnp.ndarray, action: jnp.ndarray, bar: float
) -> jnp.ndarray:
    """Whether the habit gives an action int32 [B] that a plan has next a probability below `bar`: bool [B]; False where it is
    -1. A leg is decided on before its later percepts are seen: what stands in its way then, the habit sees."""
    context, _ = encode(system, params, percept, mission)
    log_habit = log_habit_of(system, params, context, jnp.maximum(action, 0), percept.get("tried"))
    return (action >= 0) & (log_habit < jnp.log(bar))


def left_plan(
    system: System, params: Params, percept: Percept, expected: jnp.ndarray
) -> jnp.ndarray:
    """How far, in cells of the code's grid, the world state is from the planned one: int32 [B]; 0 where nothing is expected."""
    state = system.level(params, percept["view"], percept["direction"], method="encode")
    code = system.level(params, state, method="code", level=1)
    return jnp.where(expected >= 0, code_distance(system, code, expected), 0)


def explain(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, plans: Plan, temperature: float,
    given: jnp.ndarray | None = None,
) -> jnp.ndarray:
    """The plan in words: token ids int32 [B, X] sampled from p(x|z,c); `given`: see `sample_text`."""
    context, _ = encode(system, params, percept, mission)
    return sample_text(system, params, key, plans, context, temperature, given)


def optimiser(system: System, options: Optimise, temperature: float) -> Any:
    """Optimisation mode as one function (not jitted), of parameters, key, percept, mission, how many moves (at most those of
    the options), whether the best plan is acted on or a sample, and with several actors the plans held: (Decision, Anytime)."""
    def optimised(p, k, o, m, moves, best, *held):
        if system.lower:
            return optimise_down(system, p, k, o, m, *held, options, temperature, moves, best)
        found = optimise(system, p, k, o, m, options, temperature, moves)
        return decide(system, p, found, moves, best, k if options.choose == "habit" else None), found

    return optimised


def compiled(system: System, options: Any) -> dict[str, Any]:
    """The functions above, jitted for one system and `config.agent`; "optimise" is `optimiser`. With several actors "plan" is
    `hierarchy.plan_down`, which also takes the plans held, and what is explained is the first actor's plan.

    Raises:
      UserError: options that make no sense, or, with several actors, are not there.
    """
    chosen = options_of(options)
    veto, choose, go_on, tried, stood, back = (
        options.get(name, OLDER[name]) for name in ("veto", "choose", "go_on", "tried", "stood", "returns"))
    if system.lower and chosen.choose == "habit":
        raise UserError("agent.optimise.choose='habit': with several actors the first one's plan does not say what to do first")
    if choose not in ("energy", "habit"):
        raise UserError(f"agent.choose={choose!r}: one of energy, habit")
    if not 0 <= veto < 1:
        raise UserError(f"agent.veto={veto}: must be a probability from 0 (never) to below 1")
    if tried < 0:
        raise UserError(f"agent.tried={tried}: nats from 0 (what was tried is forgotten) on")
    if stood < 0:
        raise UserError(f"agent.stood={stood}: nats from 0 (whether things stood so before does not count) on")
    if back < 0:
        raise UserError(f"agent.returns={back}: nats from 0 (where a leg leads back to does not count) on")

    def weighed(percept: Percept) -> Percept:
        """Percepts whose counts of what was tried or leads back, and of where the agent stood, are nats against it, if they are
        to count: in "tried" those against actions, in "faced" those against where legs lead."""
        rest = {name: value for name, value in percept.items() if name not in REMEMBERED}
        if (tried or stood) and "tried" in percept:
            rest["tried"] = tried * percept["tried"] + stood * percept["stood"]
        if back and "faced" in percept:
            rest |= {"faced": back * percept["faced"], "blocked": percept["blocked"]}
        return rest

    def planned(p, k, o, m, *held):
        if system.lower:
            plans, keep = held
            return plan_down(
                system, p, k, weighed(o), m, plans, keep & go_on, options.temperature, options.plan_samples, choose)
        return plan(system, p, k, weighed(o), m, options.plan_samples, options.temperature, choose)

    optimised = optimiser(system, chosen, options.temperature)
    # what those above the finest hold in episodes [B] that begin
    blank = {"blank": lambda batch: tuple(root_plan(actor.spec, (batch,)) for actor in system.actors[:-1])}
    doubt = {"doubted": jax.jit(lambda p, o, m, a: doubted(system, p, weighed(o), m, a, veto))} if veto else {}
    anew = {"doubted_anew": doubt["doubted"]} if veto and (tried or stood) else {}
    aim = {"aim": jax.jit(partial(aim_probabilities, system))} if system.network.sizes.aim else {}
    return (blank if system.lower else {}) | doubt | anew | aim | {
        "optimise": jax.jit(lambda p, k, o, *rest: optimised(p, k, weighed(o), *rest)),
        "habitual": jax.jit(lambda p, k, o, m: habitual(system, p, k, weighed(o), m, options.habit_temperature)),
        "plan": jax.jit(planned),
        "left_plan": jax.jit(lambda p, o, e: left_plan(system, p, o, e)),
        "explain": jax.jit(lambda p, k, o, m, z, given=None: explain(system, p, k, o, m, z, 0.3, given)),
    }
