"""A window of an executed episode, seen by the JEPA hierarchy: states, macro-actions, codes, and its observed plan."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.models import fsq
from hjepa_gfn.objectives.segments import Segments, Window, find_legs, find_segments, group
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, tree_edits

__all__ = ["Coded", "Levels", "Segments", "Window", "climb", "encode_macros", "encode_start", "encode_window", "find_legs",
           "find_segments", "group", "imagined_codes", "imagined_plan", "lift", "observed_codes", "observed_plan",
           "plan_of_codes"]


class Levels(NamedTuple):
    """The latents of a window at every level."""

    z: tuple[jnp.ndarray, ...]      # [B, W+1, Z], then [B, K+1, Z] each: index 0: the start state alone; k+1: after segment k
    macro: tuple[jnp.ndarray, ...]  # [B, K, F] on the FSQ grid, of every level from the second


def encode_window(system: System, params: Params, window: Window, segments: tuple[Segments, ...]) -> Levels:
    """Encodes a window at all levels; see `climb`."""
    z = system.level(params, window["view"], window["direction"], method="encode")
    return climb(system, params, z, window["action"], segments)


def climb(
    system: System, params: Params, z: jnp.ndarray, action: jnp.ndarray, segments: tuple[Segments, ...]
) -> Levels:
    """All levels of step states z [B, W+1, Z] and actions int32 [B, W]; the input of every level is stop-gradiented (each
    level learns from its own loss)."""
    states, macros = [z], []
    for level, one in enumerate(segments, 2):
        states.append(encode_level(system, params, jax.lax.stop_gradient(states[-1]), one, level))
        macros.append(encode_macros(system, params, action, one, level))
        action = fsq.to_code(jax.lax.stop_gradient(macros[-1]), system.jepa.sizes.levels[level - 2].action)
    return Levels(tuple(states), tuple(macros))


def encode_level(system: System, params: Params, below: jnp.ndarray, segments: Segments, level: int) -> jnp.ndarray:
    """z^l [B, K+1, Z] of the states z^{l-1} [B, n+1, Z]: of the first alone, then of each segment."""
    first = jnp.ones(below.shape[:1] + (1,))
    start = system.level(params, below[:, :1], first, method="encode_segment", level=level)
    after = system.level(params, below[:, None, 1:], segments.member, method="encode_segment", level=level)
    return jnp.concatenate([start[:, None], after], axis=1)


def encode_macros(system: System, params: Params, action: jnp.ndarray, segments: Segments, level: int = 2) -> jnp.ndarray:
    """Macro-actions [B, K, F] of the segments of action int32 [B, n] (codes of the level below)."""
    each = lambda x: jnp.broadcast_to(x[:, None], segments.member.shape)  # noqa: E731
    return system.level(params, each(action), each(segments.place), segments.member, method="macro", level=level)


def encode_start(system: System, params: Params, percept: dict[str, jnp.ndarray]) -> tuple[jnp.ndarray, ...]:
    """(z^1_0, z^2_0, ...), each [B, Z], of percepts {view [B,7,7,3], direction [B]}: what the agent has when it plans."""
    return lift(system, params, system.level(params, percept["view"], percept["direction"], method="encode"))


def lift(system: System, params: Params, z: jnp.ndarray) -> tuple[jnp.ndarray, ...]:
    """(z^1, z^2, ...), each [B, Z]: a step state z [B, Z] seen by every level, as a segment of its own."""
    states = [z]
    for level in range(2, len(system.jepa.sizes.names) + 1):
        below = states[-1]
        states.append(system.level(params, below[:, None], jnp.ones((below.shape[0], 1)), method="encode_segment", level=level))
    return tuple(states)


class Coded(NamedTuple):
    """A window in codes, at every JEPA level from the first: what plans of any actor are laid out from."""

    segments: tuple[Segments, ...]     # `find_segments(..., extra=1)`
    states: tuple[jnp.ndarray, ...]    # state codes int32 [B, n+1] of the n units of each level
    actions: tuple[jnp.ndarray, ...]   # action codes int32 [B, n]
    known: jnp.ndarray                 # bool [B]: False where there is no trajectory


def observed_codes(system: System, params: Params, window: Window) -> Coded:
    """The codes of an executed window [B]."""
    segments = find_segments(system, window, extra=1)
    levels = jax.lax.stop_gradient(encode_window(system, params, window, segments))
    return coded(system, params, levels, window["action"], segments, window["length"] > 0)


def observed_plan(system: System, params: Params, window: Window) -> tuple[Plan, jnp.ndarray]:
    """The plan that an executed window realises; see `plan_of_codes`.

    Returns: plans [B] and known bool [B] (False where the sample has no trajectory).
    """
    found = observed_codes(system, params, window)
    return plan_of_codes(system, *found[:3]), found.known


def imagined_codes(
    system: System, params: Params, percept: dict[str, jnp.ndarray], action: jnp.ndarray, segment: jnp.ndarray,
    length: jnp.ndarray, clause: jnp.ndarray | None = None,
) -> Coded:
    """The codes of what a text states, as the agent's own world model imagines it: latents rolled out by the JEPA's predictor.

    This is how drafts, which nobody executed, get a plan with states. percept {view [B,7,7,3], direction [B]}; action, segment
    and clause int32 [B, W], length int32 [B], parsed from the text.
    """
    stated = {"action": action, "segment": segment, "length": length, "clause": clause}
    segments = find_segments(system, stated, extra=1)
    start = system.level(params, percept["view"], percept["direction"], method="encode")

    def step(z, a):
        z = system.level(params, z, a, method="predict", level=1)
        return z, z

    _, later = jax.lax.scan(step, start, action.T)
    z = jnp.concatenate([start[:, None], jnp.moveaxis(later, 0, 1)], axis=1)
    levels = climb(system, params, z, action, segments)
    return jax.lax.stop_gradient(coded(system, params, levels, action, segments, length > 0))


def imagined_plan(system: System, params: Params, *stated: Any) -> tuple[Plan, jnp.ndarray]:
    """The plan of `imagined_codes`, which says what `stated` is. Returns plans [B] and known bool [B]."""
    found = imagined_codes(system, params, *stated)
    return plan_of_codes(system, *found[:3]), found.known


def coded(
    system: System, params: Params, levels: Levels, action: jnp.ndarray, segments: tuple[Segments, ...], known: jnp.ndarray
) -> Coded:
    """The codes of latents."""
    codes = tuple(system.level(params, z, method="code", level=level) for level, z in enumerate(levels.z, 1))
    macros = [fsq.to_code(m, sizes.action) for m, sizes in zip(levels.macro, system.jepa.sizes.levels, strict=True)]
    return Coded(segments, codes, (action, *macros), known)


def plan_of_codes(
    system: System, segments: tuple[Segments, ...], codes: tuple[jnp.ndarray, ...], actions: tuple[jnp.ndarray, ...],
    first: jnp.ndarray | None = None,
) -> Plan:
    """Lays out the codes of a window as an actor's plan: at scale 0 all units of its coarsest level that lie in the first unit
    of the level above (of the JEPA's top level: all there are), at scale 1 those in the first of them, and so on; where the
    actor goes down to the steps, down to those of the first leg.

    Units past a scale's span (`system.spans`) are left to its last, empty edge: the plan is vaguer there, not wrong. Buffer
    layout: slot 0 is s_0; then for each scale, from the coarsest, the states after its units but the last. What is left of the
    buffer stays free, so that no observed plan is at capacity.

    Args:
      segments: `find_segments(..., extra=1)`.
      codes, actions: by level from the first: state codes int32 [B, n+1] and action codes int32 [B, n] of its n units.
      first: bool [B], rows whose plan holds the first unit of scale 0 only (what a seed of the actor above spans).
    """
    spans, scales = system.spans, system.spec.num_scales
    batch = codes[0].shape[0]
    # units of each scale within the first unit of the level above: all of them at the top
    within = [*(one.member[:, 0].sum(-1) for one in segments), segments[-1].valid.sum(-1)]
    counts = [within[level - 1].astype(jnp.int32) for level in system.levels]
    if first is not None:
        counts[0] = jnp.where(first, jnp.minimum(counts[0], 1), counts[0])
    inner = [jnp.clip(count - 1, 0, span - 1) for count, span in zip(counts, spans, strict=True)]
    blank = [jnp.zeros((batch, span - 1), jnp.int32) for span in spans]
    zero = jnp.zeros((batch, 1), jnp.int32)
    code, tag, position, valid, held = [zero], [zero], [zero], [zero == 0], []
    for scale, (count, span) in enumerate(zip(counts, spans, strict=True)):
        states, acted = (by_level[system.levels[scale] - 1] for by_level in (codes, actions))
        i = jnp.arange(span)
        code.append(states[:, 1:span])
        tag.append(blank[scale] + scale)
        # the states inside the first unit are read before the state after it
        position.append(sum(inner[scale + 1 :], zero[:, 0])[:, None] + 1 + i[:-1])
        valid.append(i[:-1] < inner[scale][:, None])
        # the edge before the i-th state is unit i; empty where it stands for more than one unit
        true = (i < count[:, None]) & ~((i == span - 1) & (count > span)[:, None])
        edge = jnp.where(true, acted[:, :span] + 1, 0)
        held.append(jnp.concatenate([edge[:, :1], *blank[:scale], edge[:, 1:], *blank[scale + 1 :]], axis=1))
    join = lambda parts: jnp.concatenate(parts, axis=1)  # noqa: E731
    valid = join(valid)
    action = jnp.where(valid[..., None], jnp.stack(held, -1), 0)
    expanded = jnp.zeros(action.shape, bool)
    for scale in range(scales - 1):
        expanded = expanded.at[:, 0, scale].set(counts[scale + 1] > 0)
    clean = lambda parts: jnp.where(valid, join(parts), 0).astype(jnp.int32)  # noqa: E731
    plan = Plan(code=clean(code), tag=clean(tag), position=clean(position), valid=valid, action=action.astype(jnp.int32),
                expanded=expanded, num_edits=jnp.zeros((batch,), jnp.int32))
    spare = system.spec.capacity - valid.shape[1]
    assert spare > 0, "a plan that fills its buffer can only be left through REMOVE: the layout above needs a slot to spare"
    widen = lambda x: jnp.pad(x, [(0, 0), (0, spare)] + [(0, 0)] * (x.ndim - 2))  # noqa: E731
    plan = Plan(*map(widen, plan[:-1]), plan.num_edits)
    return plan._replace(num_edits=tree_edits(plan))
