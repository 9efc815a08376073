"""A window of an executed episode, seen by the JEPA hierarchy: states, legs, macro-actions, codes, and its observed plan."""
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.models import fsq
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, tree_edits

Window = dict[str, jnp.ndarray]  # view [B,W+1,7,7,3], direction [B,W+1], action [B,W], segment [B,W], length [B]


class Legs(NamedTuple):
    """Where the legs of a window lie."""

    step: jnp.ndarray    # bool [B, W]      real steps
    place: jnp.ndarray   # int32 [B, W]     place of a step in its leg
    member: jnp.ndarray  # float32 [B, K, W] 1 where step w belongs to leg k
    valid: jnp.ndarray   # bool [B, K]


class Levels(NamedTuple):
    """The latents of a window at both levels."""

    z1: jnp.ndarray      # [B, W+1, Z]
    z2: jnp.ndarray      # [B, K+1, Z]   index 0: the start state alone; k+1: after leg k
    macro: jnp.ndarray   # [B, K, F]     on the FSQ grid


def find_legs(window: Window, max_legs: int) -> Legs:
    """Legs 0..max_legs-1 of a window; later legs are dropped."""
    action, segment = window["action"], window["segment"]
    t = jnp.arange(action.shape[1])
    step = t < window["length"][:, None]
    begins = jnp.concatenate([jnp.ones_like(step[:, :1]), segment[:, 1:] != segment[:, :-1]], axis=1)
    start = jax.lax.associative_scan(jnp.maximum, jnp.where(begins, t, 0), axis=1)
    member = (segment[:, None] == jnp.arange(max_legs)[:, None]) & step[:, None]
    return Legs(step, (t - start).astype(jnp.int32), member.astype(jnp.float32), member.any(-1))


def encode_window(system: System, params: Params, window: Window, legs: Legs) -> Levels:
    """Encodes a window; the input of level 2 is stop-gradiented (each level learns from its own loss)."""
    z1 = system.level(params, window["view"], window["direction"], method="encode")
    below = jax.lax.stop_gradient(z1)
    start = system.level(params, below[:, :1], jnp.ones(z1.shape[:1] + (1,)), method="encode_segment")
    after = system.level(params, below[:, None, 1:], legs.member, method="encode_segment")
    macro = encode_macros(system, params, window["action"], legs)
    return Levels(z1, jnp.concatenate([start[:, None], after], axis=1), macro)


def encode_macros(system: System, params: Params, action: jnp.ndarray, legs: Legs) -> jnp.ndarray:
    """Macro-actions [B, K, F] of the legs of action int32 [B, W]."""
    legwise = lambda x: jnp.broadcast_to(x[:, None], legs.member.shape)  # noqa: E731
    return system.level(params, legwise(action), legwise(legs.place), legs.member, method="macro")


def encode_start(system: System, params: Params, percept: dict[str, jnp.ndarray]) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(z1_0, z2_0), both [B, Z], of percepts {view [B,7,7,3], direction [B]}: what the agent has at the moment of planning."""
    z1 = system.level(params, percept["view"], percept["direction"], method="encode")
    z2 = system.level(params, z1[:, None], jnp.ones((z1.shape[0], 1)), method="encode_segment")
    return z1, z2


def observed_plan(system: System, params: Params, window: Window) -> tuple[Plan, jnp.ndarray]:
    """The plan that an executed window realises: its legs at scale 0, and the steps of the first leg at scale 1.

    Legs past `max_legs` and steps past `max_steps` are left to a last, empty edge: the plan is vaguer there, not wrong.
    Buffer layout: slot 0 is s_0; slots 1..L-1 hold the states after legs 0..L-2; the next slots those inside leg 0. What is
    left of the buffer stays free, so that no observed plan is at capacity.

    Returns: plans [B] and known bool [B] (False where the sample has no trajectory).
    """
    legs = find_legs(window, system.max_legs + 1)
    levels = jax.lax.stop_gradient(encode_window(system, params, window, legs))
    code_1 = system.level(params, levels.z1, method="code_1")
    code_2 = system.level(params, levels.z2, method="code_2")
    macro = fsq.to_code(levels.macro, system.jepa.sizes.macro_levels)
    return plan_of_codes(system, window, legs, code_1, code_2, macro), window["length"] > 0


def imagined_plan(
    system: System, params: Params, percept: dict[str, jnp.ndarray], action: jnp.ndarray, segment: jnp.ndarray,
    length: jnp.ndarray,
) -> tuple[Plan, jnp.ndarray]:
    """The plan that a text states, as the agent's own world model imagines it: latents rolled out by the JEPA's predictor.

    This is how drafts, which nobody executed, get a plan with states. percept {view [B,7,7,3], direction [B]}; action and
    segment int32 [B, W], length int32 [B], parsed from the text. Returns plans [B] and known bool [B].
    """
    stated = {"action": action, "segment": segment, "length": length}
    legs = find_legs(stated, system.max_legs + 1)
    z1_0, z2_0 = encode_start(system, params, percept)

    def step(z, a):
        z = system.level(params, z, a, method="predict_1")
        return z, z

    _, later = jax.lax.scan(step, z1_0, action.T)
    later = jnp.moveaxis(later, 0, 1)
    z1 = jnp.concatenate([z1_0[:, None], later], axis=1)
    z2 = system.level(params, later[:, None], legs.member, method="encode_segment")
    macro = fsq.to_code(encode_macros(system, params, action, legs), system.jepa.sizes.macro_levels)
    code_1 = system.level(params, z1, method="code_1")
    code_2 = system.level(params, jnp.concatenate([z2_0[:, None], z2], axis=1), method="code_2")
    return jax.lax.stop_gradient((plan_of_codes(system, stated, legs, code_1, code_2, macro), length > 0))


def plan_of_codes(system: System, window: Window, legs: Legs, code_1, code_2, macro) -> Plan:
    """Lays out the codes of a window as a plan. code_1 [B, W+1], code_2 [B, K+1], macro [B, K], K = max_legs + 1."""
    spec, max_legs, max_steps = system.spec, system.max_legs, system.max_steps
    batch = code_1.shape[0]
    first_leg = legs.member[:, 0].sum(-1).astype(jnp.int32)        # steps in leg 0
    num_legs = legs.valid.sum(-1).astype(jnp.int32)
    some = first_leg > 0
    inner_steps = jnp.clip(first_leg - 1, 0, max_steps - 1)        # states inside leg 0
    inner_legs = jnp.clip(num_legs - 1, 0, max_legs - 1)           # states between legs
    leg, step = jnp.arange(max_legs - 1), jnp.arange(max_steps - 1)
    leg_valid, step_valid = leg < inner_legs[:, None], step < inner_steps[:, None]
    zero = jnp.zeros((batch, 1), jnp.int32)
    wide = lambda x, y: jnp.broadcast_to(x, y.shape)  # noqa: E731
    code = jnp.concatenate([zero, code_2[:, 1:max_legs], code_1[:, 1:max_steps]], axis=1)
    valid = jnp.concatenate([jnp.ones((batch, 1), bool), leg_valid, step_valid], axis=1)
    tag = jnp.concatenate([zero, wide(0 * leg, leg_valid), wide(1 + 0 * step, step_valid)], axis=1)
    # reading order: s_0, the states inside leg 0, then the later legs' states
    position = jnp.concatenate([zero, inner_steps[:, None] + 1 + leg, wide(1 + step, step_valid)], axis=1)
    # scale 0: the edge after the k-th leg state is leg k; empty where it stands for more than one leg
    true_leg = (jnp.arange(max_legs) < jnp.minimum(num_legs, max_legs)[:, None])
    true_leg &= ~((jnp.arange(max_legs) == max_legs - 1) & (num_legs > max_legs)[:, None])
    macro_held = jnp.where(true_leg, macro[:, :max_legs] + 1, 0)
    # scale 1: step i leaves s_0 (i = 0) or the i-th inner state; empty where it stands for more than one step
    i = jnp.arange(max_steps)
    true_step = (i < first_leg[:, None]) & ~((i == max_steps - 1) & (first_leg > max_steps)[:, None])
    step_held = jnp.where(true_step, window["action"][:, :max_steps] + 1, 0)
    none_0 = jnp.zeros((batch, max_steps - 1), jnp.int32)
    none_1 = jnp.zeros((batch, max_legs - 1), jnp.int32)
    action = jnp.stack([
        jnp.concatenate([macro_held, none_0], axis=1),
        jnp.concatenate([step_held[:, :1], none_1, step_held[:, 1:]], axis=1),
    ], axis=-1)
    action = jnp.where(valid[..., None], action, 0)
    expanded = jnp.zeros(action.shape, bool).at[:, 0, 0].set(some)
    free = ~valid
    plan = Plan(
        code=jnp.where(free, 0, code).astype(jnp.int32), tag=jnp.where(free, 0, tag).astype(jnp.int32),
        position=jnp.where(free, 0, position).astype(jnp.int32), valid=valid, action=action.astype(jnp.int32),
        expanded=expanded, num_edits=jnp.zeros((batch,), jnp.int32))
    spare = spec.capacity - valid.shape[1]
    assert spare > 0, "a plan that fills its buffer can only be left through REMOVE: the layout above needs a slot to spare"
    widen = lambda x: jnp.pad(x, [(0, 0), (0, spare)] + [(0, 0)] * (x.ndim - 2))  # noqa: E731
    plan = Plan(*map(widen, plan[:-1]), plan.num_edits)
    return plan._replace(num_edits=tree_edits(plan))
