"""Random exploring walks in two rooms: what a world model of them learns from. EB-JEPA's data, drawn anew for every batch.

    turn_t ~ von Mises(0, kappa),  angle_t = angle_{t-1} + turn_t,  length_t ~ N(mean, std) truncated;
a share of the walks is drawn through the door: forwards from a point in it, and backwards, within 45 degrees of the horizontal.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.worlds.two_rooms import Rooms, step


class Walks(NamedTuple):
    """A batch of walks of T steps."""

    layout: jnp.ndarray    # float [B, 2]
    position: jnp.ndarray  # float [B, T+1, 2]
    action: jnp.ndarray    # float [B, T, 2], also where it was blocked


def von_mises(key: jnp.ndarray, concentration: float, shape: tuple[int, ...]) -> jnp.ndarray:
    """Angles around 0 with density proportional to exp(concentration cos angle): the inverse of its tabulated distribution."""
    grid = jnp.linspace(-jnp.pi, jnp.pi, 1025)
    density = jnp.exp(concentration * (jnp.cos(grid) - 1.0))
    mass = jnp.concatenate([jnp.zeros(1), jnp.cumsum((density[1:] + density[:-1]) / 2)])
    return jnp.interp(jax.random.uniform(key, shape), mass / mass[-1], grid)


def strides(rooms: Rooms, key: jnp.ndarray, first: jnp.ndarray, steps: int) -> jnp.ndarray:
    """Displacements [B, steps, 2] of a walk whose first angle is `first` [B]."""
    turns, lengths = jax.random.split(key)
    turn = von_mises(turns, rooms.turn, (len(first), steps)).at[:, 0].set(0.0)
    angle = first[:, None] + jnp.cumsum(turn, 1)
    low, high = ((end - rooms.step_mean) / rooms.step_std for end in rooms.step_range)
    length = rooms.step_mean + rooms.step_std * jax.random.truncated_normal(lengths, low, high, angle.shape)
    return length[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def free_positions(rooms: Rooms, key: jnp.ndarray, layout: jnp.ndarray) -> jnp.ndarray:
    """Positions [B, 2], uniform in the box, those that fall into the wall moved beside it. layout [B, 2]."""
    place, side, beside = jax.random.split(key, 3)
    edge = 0.01
    low, high = rooms.low + edge, rooms.high - edge
    position = jax.random.uniform(place, layout.shape, minval=low, maxval=high)
    off = position - layout
    inside = (jnp.abs(off[:, 0]) <= rooms.wall_half) & (jnp.abs(off[:, 1]) > rooms.door_half)
    left, right = layout[:, 0] - rooms.wall_half - edge, layout[:, 0] + rooms.wall_half + edge
    share = jax.random.uniform(beside, (len(layout),))
    moved = low + share * (left - low)
    moved = jnp.where(jax.random.bernoulli(side, 0.5, moved.shape), moved, right + share * (high - right))
    return position.at[:, 0].set(jnp.where(inside, moved, position[:, 0]))


def through_door(rooms: Rooms, key: jnp.ndarray, layout: jnp.ndarray, steps: int) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(start [B, 2], action [B, steps, 2]) of walks that are in the door after k steps, k uniform in 1..steps."""
    place, angles, on, back, when, turn = jax.random.split(key, 6)
    batch = len(layout)
    half = jnp.array([rooms.wall_half, rooms.door_half])
    door = layout + half * jax.random.uniform(place, (batch, 2), minval=-1.0, maxval=1.0)
    angle = jax.random.uniform(angles, (2, batch), minval=-jnp.pi / 4, maxval=jnp.pi / 4)
    after, before = strides(rooms, on, angle[0], steps), strides(rooms, back, angle[1], steps)
    k = jax.random.randint(when, (batch, 1), 1, steps + 1)
    time = jnp.arange(steps)[None]
    # Step k-1 is the last before the door; read backwards from there, `before` leads away from it to the left.
    take = lambda rows, index: jnp.take_along_axis(rows, jnp.clip(index, 0, steps - 1)[..., None], 1)
    action = jnp.where((time < k)[..., None], take(before, k - 1 - time), take(after, time - k))
    action *= jnp.where(jax.random.bernoulli(turn, 0.5, (batch, 1, 1)), 1.0, -1.0)
    start = door - jnp.sum(jnp.where((time < k)[..., None], action, 0.0), 1)
    return jnp.clip(start, rooms.low + 0.01, rooms.high - 0.01), action


def walk(rooms: Rooms, layout: jnp.ndarray, start: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
    """Positions [B, T+1, 2] of the actions [B, T, 2] from start [B, 2] in layouts [B, 2]."""

    def move(position: jnp.ndarray, a: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        after = step(rooms, layout, position, a)
        return after, after

    _, after = jax.lax.scan(move, start, jnp.swapaxes(action, 0, 1))
    return jnp.concatenate([start[:, None], jnp.swapaxes(after, 0, 1)], 1)


def window(key: jnp.ndarray, walks: Walks, steps: int) -> Walks:
    """A window of `steps` steps, somewhere in each of longer walks."""
    batch, whole = walks.action.shape[:2]
    first = jax.random.randint(key, (batch, 1), 0, whole - steps + 1)
    take = lambda rows, n: jnp.take_along_axis(rows, (first + jnp.arange(n))[..., None], 1)
    return Walks(walks.layout, take(walks.position, steps + 1), take(walks.action, steps))


def draw_walks(rooms: Rooms, key: jnp.ndarray, choices: jnp.ndarray, batch: int, steps: int) -> Walks:
    """A batch of exploring walks of `steps` steps, windows of walks of `rooms.roam`, in layouts drawn from `choices` [N, 2]."""
    if rooms.roam > steps:
        whole = draw_walks(dataclasses.replace(rooms, roam=0), key, choices, batch, rooms.roam)
        return window(jax.random.fold_in(key, 0), whole, steps)
    which, begin, angle, roam, cross, share = jax.random.split(key, 6)
    layout = choices[jax.random.randint(which, (batch,), 0, len(choices))]
    start = free_positions(rooms, begin, layout)
    action = strides(rooms, roam, jax.random.uniform(angle, (batch,), maxval=2 * jnp.pi), steps)
    door, through = through_door(rooms, cross, layout, steps)
    # A start that was clipped into the box may lie in the wall; then the walk roams.
    off = jnp.abs(door - layout)
    solid = (off[:, 0] <= rooms.wall_half) & (off[:, 1] > rooms.door_half)
    chosen = jax.random.bernoulli(share, rooms.crossing, (batch,)) & ~solid
    start = jnp.where(chosen[:, None], door, start)
    action = jnp.where(chosen[:, None, None], through, action)
    return Walks(layout, walk(rooms, layout, start, action), action)
