"""What a model foresees where walls stop: positions read off its predictions while it pushes straight at a wall."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.models.pixel_jepa import PixelJepa
from hjepa_gfn.worlds.two_rooms import Rooms, layouts, render
from hjepa_gfn.worlds.two_rooms_walks import Walks


def pushes(rooms: Rooms, key: jnp.ndarray, choices: jnp.ndarray, batch: int, steps: int) -> Walks:
    """Walks that stand before the wall, nearer than a step and clear of door and border, and push straight at it.

    Either side; steps of the exploring walks' mean length. None of them moves. choices [N, 2]: the layouts.
    """
    which, side, near, where = jax.random.split(key, 4)
    layout = choices[jax.random.randint(which, (batch,), 0, len(choices))]
    side = jnp.where(jax.random.bernoulli(side, 0.5, (batch,)), 1.0, -1.0)
    gap = jax.random.uniform(near, (batch,), minval=0.05, maxval=0.9) * rooms.step_mean
    # The height: uniform over what is left of the box below and above the door.
    clear, door = rooms.door_half + 1.0, layout[:, 1]
    low, high = rooms.low + 1.0, rooms.high - 1.0
    below, above = jnp.maximum(door - clear - low, 0.0), jnp.maximum(high - door - clear, 0.0)
    share = jax.random.uniform(where, (batch,)) * (below + above)
    y = jnp.where(share < below, low + share, door + clear + share - below)
    start = jnp.stack([layout[:, 0] - side * (rooms.wall_half + gap), y], -1)
    action = jnp.stack([side * rooms.step_mean, jnp.zeros(batch)], -1)
    still = jnp.broadcast_to(start[:, None], (batch, steps + 1, 2))
    return Walks(layout, still, jnp.broadcast_to(action[:, None], (batch, steps, 2)))


@functools.cache
def _foresight(model: PixelJepa, rooms: Rooms, batch: int, steps: int) -> Callable[..., tuple[jnp.ndarray, Walks]]:
    """(params, key, choices) -> z and what follows it as foreseen [batch, steps + 1, state], the pushes."""

    def foresee(params: dict, key: jnp.ndarray, choices: jnp.ndarray) -> tuple[jnp.ndarray, Walks]:
        apply = lambda method, *args: model.apply({"params": params}, *args, method=method)
        some = pushes(rooms, key, choices, batch, steps)
        z = apply("encode", render(rooms, some.layout, some.position[:, 0]))
        return jnp.concatenate([z[:, None], apply("unroll", z, some.action)], 1), some

    return jax.jit(foresee)


def crept(rooms: Rooms, layout: np.ndarray, action: np.ndarray, read: np.ndarray) -> dict[str, float]:
    """Of positions read off foreseen states, read [B, T+1, 2], while walks push by `action` [B, T, 2] at their wall:

    creep: how far they come, in steps, a step pushed (a wall: 0; no wall: 1); through: the share that ends behind the wall.
    """
    side = np.sign(action[:, 0, 0])
    come = (read[:, -1, 0] - read[:, 0, 0]) * side
    return {
        "creep": float(come.mean() / (rooms.step_mean * action.shape[1])),
        "through": float(((read[:, -1, 0] - layout[:, 0]) * side > 0).mean())}


def pushing(
    model: PixelJepa, params: dict, rooms: Rooms, key: jnp.ndarray, probe: np.ndarray, split: str, steps: int, batch: int = 256
) -> dict[str, float]:
    """`crept` in layouts of `split`, over `steps` pushes. probe [state + 1, 2]: `ridge_fit`'s, of positions."""
    z, some = _foresight(model, rooms, batch, steps)(params, key, jnp.asarray(layouts(rooms, split)))
    z = np.asarray(z, np.float64)
    return crept(rooms, np.asarray(some.layout), np.asarray(some.action), z @ probe[:-1] + probe[-1])
