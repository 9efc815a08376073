"""Exploring and perturbed behaviour, rolled out inside jitted programs: what experts' episodes do not show.

Three kinds of rows, drawn at random: independent actions (`WALK`); persistent walks, whose turns and runs go on (a Markov chain
over actions, `PERSISTENT`); perturbed exemplary behaviour, the episode's own actions with some replaced, a persistent walk
after their end. Only initial worlds come from outside; no step of a mission is judged.
"""
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from minigrid.minigrid_env import MiniGridEnv

from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.babyai import DONE, FORWARD, LEFT, PICKUP, RIGHT, make_env, reset_env
from hjepa_gfn.worlds.egocentric_map import remember
from hjepa_gfn.worlds.heading import along

WALK = np.array([0.22, 0.22, 0.5, 0.02, 0.02, 0.02, 0.0])  # probabilities of MiniGrid's actions, drawn independently
REPLACED = 0.25   # of the actions of a perturbed row, those that are replaced
CUT = 0.25        # chance that a leg of a walk ends after a step; it also ends after an action that handles something


def _persistent() -> np.ndarray:
    """Row a: the probabilities of what follows action a."""
    table = np.tile([0.12, 0.12, 0.67, 0.03, 0.03, 0.03, 0.0], (7, 1))
    table[LEFT] = [0.55, 0.02, 0.37, 0.02, 0.02, 0.02, 0.0]
    table[RIGHT] = [0.02, 0.55, 0.37, 0.02, 0.02, 0.02, 0.0]
    table[FORWARD] = [0.09, 0.09, 0.76, 0.02, 0.02, 0.02, 0.0]
    return table


PERSISTENT = _persistent()


class Starts(NamedTuple):
    """Initial worlds [B], and what their exemplary episodes do in them.

    Attributes:
        world: states, leaves [B, ...].
        action: int32[B, W], the first actions of the exemplary episode. length: int32[B], how many of them are real.
    """

    world: jitted.GridState
    action: jax.Array
    length: jax.Array


def initial_worlds(level: str, seeds: Sequence[int], shape: tuple[int, int] | None = None) -> list[jitted.GridState]:
    """The worlds that a level's seeds begin with (numpy). Raises UserError: see `jitted.snapshot`."""
    env = make_env(level)
    return [initial_world(env, seed, shape) for seed in seeds]


def initial_world(env: MiniGridEnv, seed: int, shape: tuple[int, int] | None = None) -> jitted.GridState:
    """The world that a seed begins with, on a simulator of its level. Raises UserError: see `jitted.snapshot`."""
    reset_env(env, int(seed))
    return jitted.snapshot(env, shape)


def draw_actions(key: jax.Array, exemplary: jax.Array, length: jax.Array, begin: jax.Array, steps: int) -> jax.Array:
    """Actions int32[B, T] of exploring rows, a third of each kind on average.

    Args:
        key: random key.
        exemplary: int32[B, W], actions that perturbed rows follow from step `begin` int32[B] on; length: int32[B], real ones.
        steps: T.
    """
    rows = exemplary.shape[0]
    k_kind, k_first, k_walk, k_replace = jax.random.split(key, 4)
    kind = jnp.where(length > 0, jax.random.randint(k_kind, (rows,), 0, 3), jax.random.randint(k_kind, (rows,), 0, 2))
    tables = jnp.asarray(np.cumsum(np.stack([np.tile(WALK, (7, 1)), PERSISTENT]), -1), jnp.float32)
    table = jnp.minimum(kind, 1)  # perturbed rows wander persistently where they do not follow
    place = jnp.arange(steps) - begin[:, None]
    follow = (kind[:, None] == 2) & (place >= 0) & (place < length[:, None])
    follow &= jax.random.uniform(k_replace, (rows, steps)) >= REPLACED
    stated = jnp.take_along_axis(exemplary, jnp.clip(place, 0, exemplary.shape[1] - 1), axis=1)

    def step(last: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
        u, follows, own = inputs
        drawn = jnp.sum(u[:, None] >= tables[table, last][:, :-1], -1).astype(jnp.int32)
        action = jnp.where(follows, own, jnp.minimum(drawn, DONE - 1))
        return action, action

    first = jax.random.randint(k_first, (rows,), 0, 3)
    _, actions = jax.lax.scan(step, first, (jax.random.uniform(k_walk, (steps, rows)), follow.T, stated.T))
    return actions.T


def cut_legs(key: jax.Array, action: jax.Array, longest: int) -> jax.Array:
    """Leg indices int32[B, T] of actions int32[B, T]: legs end after pick-up, drop and toggle, by chance, and at `longest`."""
    steps = action.shape[1]
    ends = (action >= PICKUP) | (jax.random.uniform(key, action.shape) < CUT)

    def step(carry: tuple, over: jax.Array) -> tuple[tuple, jax.Array]:
        leg, place = carry
        over = over | (place + 1 >= longest)
        return (leg + over, jnp.where(over, 0, place + 1)), leg

    zero = jnp.zeros(action.shape[:1], jnp.int32)
    _, legs = jax.lax.scan(step, (zero, zero), ends.T, length=steps)
    return legs.T


def explore(key: jax.Array, starts: Starts, steps: int, lead: int = 0, longest: int = 8, map: int = 0,
            heading: str = "compass") -> dict[str, jax.Array]:
    """Windows of exploring rows, as the JEPA reads them.

    Args:
        key: random key.
        starts: initial worlds [B].
        steps: T, actions in a window.
        lead: at most so many steps are taken before the window begins (how many is drawn by row).
        longest: steps of a leg, at most.
        map: cells a side of maps that percepts come in (`egocentric_map`); 0: plain views.
        heading: what percepts say of the own direction and place since the walk began (see `worlds.heading`).

    Returns:
        view uint8[B, T+1, 7, 7, 3] (or maps, or with sectors), direction int32[B, T+1], action and segment int32[B, T], length
        int32[B] (all T).
    """
    rows = starts.action.shape[0]
    k_idle, k_act, k_leg = jax.random.split(key, 3)
    begin = jax.random.randint(k_idle, (rows,), 0, lead + 1)  # before it a row idles, so that windows lie at one place
    action = draw_actions(k_act, starts.action, starts.length, begin, lead + steps)
    action = jnp.where(jnp.arange(lead + steps) < begin[:, None], DONE, action)
    _, seen = jitted.roll_out(starts.world, action)
    view = remember(seen["view"], action, map) if map else seen["view"]
    view, direction = along(view, seen["direction"], action, heading, map)
    action = action[:, lead:]
    return {
        "view": view[:, lead:], "direction": direction[:, lead:].astype(jnp.int32), "action": action,
        "segment": cut_legs(k_leg, action, longest), "length": jnp.full((rows,), steps, jnp.int32)}
