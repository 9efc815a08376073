"""Sub-plans that are made while an upper plan is being moved: what they turn out to be takes the place of what was predicted.

In optimisation mode with characteristics (`model.characteristics`), the upper actor's plan is moved against

    E(z;c) + w r(edge(z)),    w = agent.optimise.characteristics,
edge(z) the first leaf edge, r the risk that its embedding tells of: predicted from z, or true, once a sub-plan was made of that
edge. A lower actor sees of z its seed alone, so an edge goes by its seed: whatever plan holds it, what was made of it is true.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.agent.decision import Percept, passes_to_build
from hjepa_gfn.gflownet.rollout import choose
from hjepa_gfn.objectives.characteristics import foresee, measure, risk_of
from hjepa_gfn.objectives.seeds import Made, first_leaf, make
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, root_plan, seed_plan


class Memory(NamedTuple):
    """The edges of B situations of which a sub-plan was made, in S slots."""

    edge: jnp.ndarray       # int32 [B, S, 4] `edge_name`
    made: jnp.ndarray       # bool [B, S] whether the slot is used
    embedding: jnp.ndarray  # [B, S, E] true ones
    plan: Plan              # [B, S] the sub-plans


def edge_name(lower: System, plan: Plan) -> jnp.ndarray:
    """What the first leaf edges of plans [...] of the actor above `lower` seed: int32 [..., 4], equal where `lower` would plan
    alike (the action given; whether a state bounds the edge, which one, and at which scale)."""
    seed = seed_plan(plan, jnp.zeros(plan.batch_shape, jnp.int32), lower.above.spec, lower.spec, first_leaf(plan))
    return jnp.stack([seed.plan.action[..., 0, 0], seed.target.coded.astype(jnp.int32), seed.target.code, seed.target.tag], -1)


def nothing_made(system: System, params: Params, batch: int, slots: int) -> Memory:
    """An empty memory of at least one slot."""
    lower, shape = system.lower[0], (batch, max(slots, 1))
    blank = jnp.zeros((*shape, 4))
    width = jnp.zeros((*shape, lower.network.sizes.width))
    embedding = jax.eval_shape(lambda: system.describe(params, lower, width, blank, method="compress"))
    return Memory(blank.astype(jnp.int32), jnp.zeros(shape, bool), jnp.zeros(embedding.shape), root_plan(lower.spec, shape))


def recall(memory: Memory, name: jnp.ndarray) -> tuple[Memory, jnp.ndarray]:
    """The first slot [R] that holds the edge of name int32 [R, 4], and whether there is one, bool [R]; memory [R, S]."""
    hit = memory.made & (memory.edge == name[:, None]).all(-1)
    at = jnp.argmax(hit, axis=1)
    return jax.tree.map(lambda x: x[jnp.arange(len(at)), at], memory), hit.any(1)


def edge_risk(system: System, params: Params, plan: Plan, features: jnp.ndarray, memory: Memory) -> jnp.ndarray:
    """r(edge(z)) [R] of upper plans [R] with features [R, N, D]; memory [R, S]."""
    lower = system.lower[0]
    slot, known = recall(memory, edge_name(lower, plan))
    embedding = choose(known, slot.embedding, foresee(system, params, lower, plan, features))
    return risk_of(system, params, lower, embedding)


def true_risk(system: System, params: Params, plan: Plan, risk: jnp.ndarray, memory: Memory) -> jnp.ndarray:
    """r(edge(z)) [R] where a sub-plan was made of the edge of upper plans [R], else `risk` [R]; memory [R, S]."""
    lower = system.lower[0]
    slot, known = recall(memory, edge_name(lower, plan))
    return jnp.where(known, risk_of(system, params, lower, slot.embedding), risk)


def elaborate(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, start: tuple[jnp.ndarray, ...], mission: jnp.ndarray,
    plan: Plan, memory: Memory, slot: jnp.ndarray | int, temperature: float,
) -> tuple[Memory, jnp.ndarray]:
    """The lower actor makes a sub-plan of the first leaf edge of upper plans [B]: memory [B, S] with it in `slot`, and the
    network passes [B] that it took. start: `windows.encode_start`."""
    lower = system.lower[0]
    made = make(lower, params, key, percept, start, mission, Made(plan, plan, None, None), temperature)
    found = measure(lower, params, start, made)
    embedding = system.describe(params, lower, found.features, found.values, method="compress")
    new = Memory(edge_name(lower, plan), jnp.ones(plan.batch_shape, bool), embedding, made.plan)
    put = lambda rows, x: jax.lax.dynamic_update_index_in_dim(rows, x, slot, 1)  # noqa: E731
    return jax.tree.map(put, memory, new), 1 + passes_to_build(lower, made.plan.num_edits) + 2
