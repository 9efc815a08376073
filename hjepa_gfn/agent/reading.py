"""Reading a plan: which primitive actions it begins with, and which states it expects after each."""
from typing import NamedTuple

import jax.numpy as jnp

from hjepa_gfn.models import fsq
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan


class FirstLeg(NamedTuple):
    """The finest-scale actions a plan begins with. L = max_steps or the longest leg, whichever is larger."""

    action: jnp.ndarray    # int32 [B, L]
    expected: jnp.ndarray  # int32 [B, L] step-state code after the action, -1 where the plan says nothing
    count: jnp.ndarray     # int32 [B] how many actions; 0: the plan is too vague to act on
    decoded: jnp.ndarray   # bool [B] whether they were decoded from the first leg's macro-action (no steps in the plan)


def reading_order(plan: Plan) -> jnp.ndarray:
    """int32 [B, N]: slots sorted by position, free slots last."""
    return jnp.argsort(jnp.where(plan.valid, plan.position, plan.position.shape[-1]), axis=-1)


def first_leg(system: System, params: Params, plan: Plan) -> FirstLeg:
    """The first leg's steps if the plan spells them out; else the steps that its macro-action stands for, if it has one (where
    only a coarser edge has: that which the coarser macro-action begins with). Of an actor whose scales end with the steps."""
    longest = max(system.max_steps, system.jepa.sizes.levels[0].longest)
    order = reading_order(plan)[:, : system.max_steps]
    pick = lambda x: jnp.take_along_axis(x, order, axis=1, mode="clip")  # noqa: E731
    held, tag, code, valid = pick(plan.action[..., -1]), pick(plan.tag), pick(plan.code), pick(plan.valid)
    inner = valid & (tag == system.spec.num_scales - 1)
    belongs = jnp.concatenate([plan.expanded[:, :1, -2], inner[:, 1:]], axis=1)
    running = jnp.cumprod((belongs & (held > 0)).astype(jnp.int32), axis=1)
    follows = jnp.concatenate([inner[:, 1:], jnp.zeros_like(inner[:, :1])], axis=1)
    next_code = jnp.concatenate([code[:, 1:], jnp.zeros_like(code[:, :1])], axis=1)
    steps = FirstLeg(held - 1, jnp.where(follows, next_code, -1), running.sum(1), jnp.zeros(plan.batch_shape, bool))

    held = jnp.zeros(plan.batch_shape, jnp.int32)
    for scale, level in enumerate(system.levels[:-1]):
        # the first edge's macro-action at this level: the plan's, or else what the macro-action above begins with
        own, grid = plan.action[:, 0, scale], system.jepa.sizes.levels[level - 2].action
        macro = jnp.where(own > 0, own, held)
        controls = fsq.from_code(jnp.maximum(macro - 1, 0), grid)
        decoded = jnp.argmax(system.level(params, controls, method="decode_macro", level=level), axis=-1)
        goes = (macro > 0) & (decoded[:, 0] < system.jepa.sizes.action_codes(level - 1))
        held = jnp.where(goes, decoded[:, 0] + 1, 0)
    goes_on = jnp.cumprod((decoded < system.jepa.sizes.num_actions).astype(jnp.int32), axis=1)
    count = jnp.where(macro > 0, goes_on.sum(1), 0)

    vague = steps.count == 0
    widen = lambda x, fill: jnp.pad(  # noqa: E731
        x, ((0, 0), (0, longest - x.shape[1])), constant_values=fill)
    action = jnp.where(vague[:, None], widen(decoded, 0), widen(steps.action, 0))
    expected = jnp.where(vague[:, None], -1, widen(steps.expected, -1))
    return FirstLeg(action.astype(jnp.int32), expected, jnp.where(vague, count, steps.count), vague & (count > 0))


def code_distance(system: System, a: jnp.ndarray, b: jnp.ndarray) -> jnp.ndarray:
    """City-block distance, in grid cells, of two step-state codes int32 [...]: how far the world is from what was planned."""
    levels = system.jepa.sizes.step_levels
    half = (jnp.asarray(levels, jnp.float32) - 1.0) / 2.0
    gap = jnp.abs(fsq.from_code(jnp.maximum(a, 0), levels) - fsq.from_code(jnp.maximum(b, 0), levels))
    return jnp.round(jnp.sum(gap * half, axis=-1)).astype(jnp.int32)
