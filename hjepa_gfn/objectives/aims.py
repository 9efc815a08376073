"""What exemplary episodes aim at: where the next thing that is handled lies, or what a clause ends before.

Read off percepts and actions alone, by path integration: nobody is asked where things are. An action says little of where an
expert is going ("forward" serves many aims); where it ends up says all of it, and teaches which words of a mission mean which
cells (`models.context.Aim`; goals relabelled in hindsight, Andrychowicz et al. 2017).
"""
import jax
import jax.numpy as jnp

from hjepa_gfn.models.layers import NEG
from hjepa_gfn.objectives.segments import Window
from hjepa_gfn.worlds.babyai import DROP, PICKUP, TOGGLE
from hjepa_gfn.worlds.egocentric_map import own_cell
from hjepa_gfn.worlds.heading import STRIDE, places, turned
from hjepa_gfn.worlds.language import DOOR

UNKNOWN = -1
# (ahead, right) of what an action may be about, as seen from where it is taken: the cell ahead, and those beside that one
AHEAD, BESIDE = (1, 0), ((1, -1), (1, 1), (2, 0))


def aims_of(window: Window, map: int = 0) -> jnp.ndarray:
    """int32 [B, W, 4]: which cells i n + j of the percept [n, n] at each step of a window the expert may be aiming at,
    `UNKNOWN` where there are less. n n: a cell that the percept does not reach.

    It aims at the cell that it will have ahead of it when it next picks up or toggles, or when its clause or the episode is
    over; and where it next puts something down, at the things beside that cell, as "next to the box" means the box; if there
    are none, at the cell. None are known where the window's edge cuts that off, or where there is no such step.

    The window's percepts are views, or maps of `map` cells a side. Nothing that is aimed at moves by itself.
    """
    action, length = window["action"], window["length"][:, None]
    clause = window.get("clause", jnp.zeros_like(action))  # windows may say nothing of clauses
    w = action.shape[1]
    t = jnp.arange(w + 1)
    real = t[:-1] < length
    turns = turned(window["direction"], window["direction"][:, :1])
    place = places(window["view"], turns, action, map)

    # action e handles what lies ahead of it; what step e arrived at, action e - 1 led to: an aim of the steps before e
    handles = real & ((action == PICKUP) | (action == DROP) | (action == TOGGLE))
    arrived = jnp.concatenate([(clause[:, 1:] != clause[:, :-1]) & real[:, 1:], jnp.zeros_like(real[:, :1])], axis=1)
    arrived |= (t[1:] == length) & (length < w)
    end = jnp.minimum(_next(handles, t[:-1]), _next(arrived, t[1:]))
    known, end = real & (end <= w), jnp.minimum(end, w)

    at = lambda x: jnp.take_along_axis(x, end.reshape(*end.shape, *[1] * (x.ndim - 2)), axis=1)  # noqa: E731
    (ci, cj), n = own_cell(map), window["view"].shape[-2]
    beside = jnp.stack([window["view"][..., ci + right, cj - ahead, 0] >= DOOR for ahead, right in BESIDE], -1)
    drops = jnp.pad(action == DROP, ((0, 0), (0, 1)))
    about = at(beside & drops[..., None])
    about = jnp.concatenate([~about.any(-1, keepdims=True), about], axis=-1) & known[..., None]

    # from where the action is taken to here, and into the directions of here
    away = jnp.stack([_rotated(jnp.asarray(offset), at(turns)) for offset in (AHEAD, *BESIDE)], axis=2)
    away = _rotated(away + (at(place) - place[:, :-1])[:, :, None], -turns[:, :-1, None])
    i, j = ci + away[..., 1], cj - away[..., 0]
    inside = (i >= 0) & (i < n) & (j >= 0) & (j < n)
    return jnp.where(about, jnp.where(inside, i * n + j, n * n), UNKNOWN)


def _rotated(offset: jnp.ndarray, turns: jnp.ndarray) -> jnp.ndarray:
    """What lies (ahead, right) [..., 2] of an agent that has made `turns` [...] quarter turns to the right, as seen before."""
    step = jnp.asarray(STRIDE)
    ahead, right = step[turns % 4], step[(turns + 1) % 4]
    return offset[..., :1] * ahead + offset[..., 1:] * right


def pointed_at(logits: jnp.ndarray, aims: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray]:
    """Of logits [B, n n + 1] and aims int32 [B, K]: log of the probability of all aims, float [B], whether the likeliest cell
    is one of them, and whether any is known, bool [B]."""
    among = (aims[..., None] == jnp.arange(logits.shape[-1])).any(-2)  # a cell that is named twice counts once
    log_p = jax.nn.logsumexp(jnp.where(among, jax.nn.log_softmax(logits), NEG), axis=-1)
    return log_p, jnp.take_along_axis(among, logits.argmax(-1)[:, None], axis=-1)[:, 0], among.any(-1)


def _next(marked: jnp.ndarray, t: jnp.ndarray) -> jnp.ndarray:
    """The first of the times t [W] from each on that is marked [B, W]; far beyond the window where none is."""
    return jax.lax.cummin(jnp.where(marked, t, 2 * len(t)), axis=1, reverse=True)
