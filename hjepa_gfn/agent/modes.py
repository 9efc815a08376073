"""Modes of acting as jitted functions of percept and mission: habitual and planning (DESIGN section 5)."""
from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.reading import FirstLeg, code_distance, first_leg
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.em import sample_text
from hjepa_gfn.objectives.energy import energy_of, make_ground
from hjepa_gfn.objectives.policies import Exploration, sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import Plan

Percept = dict[str, jnp.ndarray]


class Decision(NamedTuple):
    """The plan chosen in each situation, and what was decided on."""

    plan: Plan             # [B]
    energy: jnp.ndarray    # [B] of the plan chosen
    energies: jnp.ndarray  # [B, K] of all plans sampled
    leg: FirstLeg


def encode(system: System, params: Params, percept: Percept, mission: jnp.ndarray) -> tuple[Context, tuple]:
    """Context tokens of B situations, and their start states (z1_0, z2_0), each [B, Z]."""
    z1, z2 = encode_start(system, params, percept)
    return system.net(params, percept, z1, mission, method="context"), (z1, z2)


def habitual(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, temperature: float
) -> jnp.ndarray:
    """Actions int32 [B] of the habitual policy, sampled at a temperature (0: the most probable one)."""
    context, _ = encode(system, params, percept, mission)
    logits = system.net(params, context, method="habit")
    return jnp.argmax(logits + temperature * jax.random.gumbel(key, logits.shape), axis=-1).astype(jnp.int32)


def plan(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, samples: int, temperature: float
) -> Decision:
    """Samples K plans z ~ P_F(z|c) in each of B situations and keeps the one of least energy.

    The plans that cannot be acted on (no first action at the finest scale, nor a macro-action to decode) come last.
    """
    batch = mission.shape[0]
    context, start = encode(system, params, percept, mission)
    ground = make_ground(system, params, *start)
    rows = np.repeat(np.arange(batch), samples)
    wide = jax.tree.map(lambda x: x[rows], context)
    plans = sample_plans(system, params, key, wide, None, Exploration(temperature))
    ground = ground._replace(start=jax.tree.map(lambda x: x[rows], ground.start))
    seen = jax.tree.map(lambda x: x[:, None], plans)
    energy = energy_of(system, params, seen, wide, ground)[:, 0]
    leg = first_leg(system, params, plans)
    score = (energy + 1e6 * (leg.count == 0)).reshape(batch, samples)
    best = jnp.arange(batch) * samples + jnp.argmin(score, axis=1)
    pick = lambda tree: jax.tree.map(lambda x: x[best], tree)  # noqa: E731
    return Decision(pick(plans), energy[best], energy.reshape(batch, samples), pick(leg))


def left_plan(
    system: System, params: Params, percept: Percept, expected: jnp.ndarray
) -> jnp.ndarray:
    """How far, in cells of the code's grid, the world state is from the planned one: int32 [B]; 0 where nothing is expected."""
    code = system.level(params, system.level(params, percept["view"], percept["direction"], method="encode"), method="code_1")
    return jnp.where(expected >= 0, code_distance(system, code, expected), 0)


def explain(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, plans: Plan, temperature: float,
    given: jnp.ndarray | None = None,
) -> jnp.ndarray:
    """The plan in words: token ids int32 [B, X] sampled from p(x|z,c); `given`: see `sample_text`."""
    context, _ = encode(system, params, percept, mission)
    return sample_text(system, params, key, plans, context, temperature, given)


def compiled(system: System, options: Any) -> dict[str, Any]:
    """The functions above, jitted for one system and `config.agent`."""
    return {
        "habitual": jax.jit(lambda p, k, o, m: habitual(system, p, k, o, m, options.habit_temperature)),
        "plan": jax.jit(lambda p, k, o, m: plan(system, p, k, o, m, options.plan_samples, options.temperature)),
        "left_plan": jax.jit(lambda p, o, e: left_plan(system, p, o, e)),
        "explain": jax.jit(lambda p, k, o, m, z, given=None: explain(system, p, k, o, m, z, 0.3, given)),
    }
