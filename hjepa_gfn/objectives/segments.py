"""Where the segments of a window lie, at every level above the first: which units of the level below belong together."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives.system import System

# view [B,W+1,7,7,3], direction [B,W+1]; action, segment [B,W], length [B]; where a level is cut by clauses also clause [B,W]
Window = dict[str, jnp.ndarray]


class Segments(NamedTuple):
    """The K segments of a level; n units of the level below (W steps, at level 2)."""

    step: jnp.ndarray    # bool [B, n]      real units
    place: jnp.ndarray   # int32 [B, n]     place of a unit in its segment
    member: jnp.ndarray  # float32 [B, K, n] 1 where unit w belongs to segment k
    valid: jnp.ndarray   # bool [B, K]


def group(label: jnp.ndarray, real: jnp.ndarray, most: int) -> Segments:
    """Segments 0..most-1 of units with labels int32 [B, n] (0, 1, ... in order), where they are real, bool [B, n]; later ones
    are dropped."""
    n = jnp.arange(label.shape[1])
    begins = jnp.concatenate([jnp.ones_like(real[:, :1]), label[:, 1:] != label[:, :-1]], axis=1)
    start = jax.lax.associative_scan(jnp.maximum, jnp.where(begins, n, 0), axis=1)
    member = (label[:, None] == jnp.arange(most)[:, None]) & real[:, None]
    return Segments(real, (n - start).astype(jnp.int32), member.astype(jnp.float32), member.any(-1))


def find_legs(window: Window, max_legs: int) -> Segments:
    """Legs 0..max_legs-1 of a window."""
    return group(window["segment"], _real_steps(window), max_legs)


def find_segments(system: System, window: Window, extra: int = 0) -> tuple[Segments, ...]:
    """Of every level above the first: as many segments as an observed plan may have at that level, and `extra` more.

    A level sees only what the level below it keeps: a clause whose later legs are dropped ends where they begin.

    Raises:
      UserError: a level is cut by clauses, and the window has none.
    """
    real = _real_steps(window)
    first = jnp.broadcast_to(jnp.arange(real.shape[1]), real.shape)  # the first step of each unit
    found: list[Segments] = []
    for sizes, most in zip(system.jepa.sizes.levels, system.units[1:], strict=True):
        one = group(_labels(window, sizes.segments, first, sizes.name), real, most + extra)
        found.append(one)
        first = jnp.take_along_axis(first, jnp.argmax(one.member, -1), axis=1)
        real = one.valid
    return tuple(found)


def _real_steps(window: Window) -> jnp.ndarray:
    return jnp.arange(window["action"].shape[1]) < window["length"][:, None]


def _labels(window: Window, by: Any, first: jnp.ndarray, name: str) -> jnp.ndarray:
    """int32 [B, n]: the segment of each unit, whose first steps are given."""
    if by == "legs":
        return window["segment"]
    if by == "clauses":
        if window.get("clause") is None:
            raise UserError(f"model.levels: level {name!r} is cut by clauses, but the batch has no 'clause' for each step")
        clause = jnp.take_along_axis(window["clause"], first, axis=1)
        # clauses may be carried out in any order: what counts is where one ends
        change = jnp.concatenate([jnp.zeros_like(clause[:, :1]), clause[:, 1:] != clause[:, :-1]], axis=1)
        return jnp.cumsum(change, axis=1).astype(jnp.int32)
    return jnp.broadcast_to(jnp.arange(first.shape[1]) // int(by), first.shape)
