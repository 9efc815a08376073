"""What exemplary episodes aim at: where the next thing that is handled lies, or what a clause ends before.

Read off percepts and actions alone, by path integration: nobody is asked where things are. An action says little of where an
expert is going ("forward" serves many aims); where it ends up says all of it, and teaches which words of a mission mean which
cells (`models.context.Aim`; goals relabelled in hindsight, Andrychowicz et al. 2017).
"""
import jax
import jax.numpy as jnp

from hjepa_gfn.objectives.segments import Window
from hjepa_gfn.worlds.babyai import DROP, LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.egocentric_map import own_cell
from hjepa_gfn.worlds.heading import STRIDE, stride

UNKNOWN = -1  # the window ends before the aim is reached


def aims_of(window: Window, map: int = 0) -> jnp.ndarray:
    """int32 [B, W]: which cell i n + j of the percept [n, n] at each step of a window the expert will have ahead of it when it
    next picks up, drops or toggles, or when the clause or the episode is over. n n: a cell that the percept does not reach.
    `UNKNOWN`: the window's edge cuts that off, or there is no such step.

    The window's percepts are views, or maps of `map` cells a side. Nothing that is aimed at moves by itself.
    """
    action, clause, length = window["action"], window["clause"], window["length"][:, None]
    w = action.shape[1]
    t = jnp.arange(w + 1)
    real = t[:-1] < length
    turn = jnp.where(real, (action == RIGHT).astype(jnp.int32) - (action == LEFT), 0)
    turns = _before(turn) % 4
    moves = stride(window["view"][:, :-1], turns[:, :-1], action, map)
    place = _before(jnp.where(real[..., None], moves, 0))

    # action e handles what lies ahead of it; what step e arrived at, action e - 1 led to: an aim of the steps before e
    handles = real & ((action == PICKUP) | (action == DROP) | (action == TOGGLE))
    arrived = jnp.concatenate([(clause[:, 1:] != clause[:, :-1]) & real[:, 1:], jnp.zeros_like(real[:, :1])], axis=1)
    arrived |= (t[1:] == length) & (length < w)
    end = jnp.minimum(_next(handles, t[:-1]), _next(arrived, t[1:]))
    known, end = real & (end <= w), jnp.minimum(end, w)

    step = jnp.asarray(STRIDE)
    then = jnp.take_along_axis(turns, end, axis=1)
    away = jnp.take_along_axis(place, end[..., None], axis=1) + step[then] - place[:, :-1]
    ahead = jnp.sum(away * step[turns[:, :-1]], -1)
    right = jnp.sum(away * step[(turns[:, :-1] + 1) % 4], -1)
    (i, j), n = own_cell(map), window["view"].shape[-2]
    i, j = i + right, j - ahead
    inside = (i >= 0) & (i < n) & (j >= 0) & (j < n)
    return jnp.where(known, jnp.where(inside, i * n + j, n * n), UNKNOWN)


def _before(x: jnp.ndarray) -> jnp.ndarray:
    """Sums [B, W + 1, ...] of what came before each step, and after the last."""
    return jnp.concatenate([jnp.zeros_like(x[:, :1]), jnp.cumsum(x, axis=1)], axis=1)


def _next(marked: jnp.ndarray, t: jnp.ndarray) -> jnp.ndarray:
    """The first of the times t [W] from each on that is marked [B, W]; far beyond the window where none is."""
    return jax.lax.cummin(jnp.where(marked, t, 2 * len(t)), axis=1, reverse=True)
