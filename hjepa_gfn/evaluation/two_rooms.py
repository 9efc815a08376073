"""Held-out measures in two rooms: success of planning to a goal's picture, and what a representation holds.

The planner sees percepts of now and of the goal, through `see`; positions are the simulator's, kept to act and to score.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.mppi import Mppi, cut, mppi, path_cost
from hjepa_gfn.evaluation.probes import probe_r2, ridge_fit
from hjepa_gfn.evaluation.two_rooms_push import pushing
from hjepa_gfn.models.pixel_jepa import PixelJepa
from hjepa_gfn.worlds.two_rooms import Rooms, layouts, render, start_and_goal, step
from hjepa_gfn.worlds.two_rooms_walks import draw_walks, strides, walk

Sight = Callable[[jnp.ndarray, jnp.ndarray], jnp.ndarray]  # (layout [2], position [2]) -> what is planned in [D]
Advance = Callable[[jnp.ndarray, jnp.ndarray, jnp.ndarray], jnp.ndarray]  # (layout [2], [N, D], actions [N, 2]) -> [N, D]


Pair = tuple[jnp.ndarray, jnp.ndarray]


class Tasks(NamedTuple):
    """Episodes to run: layouts, starts and goals, float [B, 2] each."""

    layout: jnp.ndarray
    start: jnp.ndarray
    goal: jnp.ndarray


def draw_tasks(rooms: Rooms, split: str, episodes: int, seed: int) -> Tasks:
    """Episodes in layouts of a split, as many different ones as there are, start and goal in different rooms."""
    every = layouts(rooms, split)
    order = np.random.default_rng(seed).permutation(len(every))
    layout = jnp.asarray(every[np.resize(order, episodes)])
    return Tasks(layout, *start_and_goal(rooms, jax.random.key(seed), layout))


def planned(rooms: Rooms, settings: Mppi, see: Sight, advance: Advance, key: jnp.ndarray, tasks: Tasks) -> jnp.ndarray:
    """Positions [B, allowed + 1, 2] of episodes under the planner.

    It looks, plans, and takes the plan's first `replan` actions, each `hold` times.
    """
    taken = settings.replan
    rounds = -(-rooms.allowed // (taken * settings.hold))

    def episode(key: jnp.ndarray, layout: jnp.ndarray, start: jnp.ndarray, goal: jnp.ndarray) -> jnp.ndarray:
        target = see(layout, goal)

        def decide(carry: Pair, key: jnp.ndarray) -> tuple[Pair, jnp.ndarray]:
            position, mean = carry
            cost = path_cost(lambda s, a: advance(layout, s, a), see(layout, position), target, settings.hold, settings.squared)
            plan = mppi(key, mean, cost, settings)
            moved = walk(rooms, layout[None], position[None], jnp.repeat(plan[None, :taken], settings.hold, 1))[0, 1:]
            rest = jnp.concatenate([plan[taken:], jnp.zeros_like(plan[:taken])])
            return (moved[-1], rest if settings.warm else jnp.zeros_like(plan)), moved

        mean = jnp.zeros((settings.knots, 2))
        _, moved = jax.lax.scan(decide, (start, mean), jax.random.split(key, rounds))
        return jnp.concatenate([start[None], moved.reshape(-1, 2)[: rooms.allowed]])

    return jax.vmap(episode)(jax.random.split(key, len(tasks.layout)), *tasks)


def true_sight(layout: jnp.ndarray, position: jnp.ndarray) -> jnp.ndarray:
    """The position itself: with `true_advance` the upper bound, a planner that knows the simulator."""
    del layout
    return position


def true_advance(rooms: Rooms) -> Advance:
    """The simulator's own dynamics."""
    return lambda layout, position, action: step(rooms, jnp.broadcast_to(layout, position.shape), position, action)


def learned(model: PixelJepa, params: dict, rooms: Rooms) -> tuple[Sight, Advance]:
    """What a trained model sees and foresees: pixels only."""
    apply = lambda method, *args: model.apply({"params": params}, *args, method=method)
    see = lambda layout, position: apply("encode", render(rooms, layout, position))
    return see, lambda _, z, action: apply("predict", z, action)


@functools.cache
def planner(model: PixelJepa, rooms: Rooms, settings: Mppi) -> Callable[..., jnp.ndarray]:
    """`planned` by a trained model, compiled once for all: (params, key, tasks) -> positions [B, allowed + 1, 2]."""
    return jax.jit(lambda params, key, tasks: planned(rooms, settings, *learned(model, params, rooms), key, tasks))


def roaming(rooms: Rooms, key: jnp.ndarray, tasks: Tasks) -> jnp.ndarray:
    """Positions [B, allowed + 1, 2] of the exploring walk that the training data is drawn from, from the episodes' starts."""
    begin, turns = jax.random.split(key)
    first = jax.random.uniform(begin, (len(tasks.layout),), maxval=2 * jnp.pi)
    return walk(rooms, tasks.layout, tasks.start, cut(strides(rooms, turns, first, rooms.allowed), rooms.step_range[1]))


def outcome(rooms: Rooms, tasks: Tasks, position: jnp.ndarray) -> dict[str, Any]:
    """Shares of episodes [B, T+1, 2] that end near the goal (`success`, EB-JEPA's), that were near it once (`reached`).

    `crossed`: that end in the goal's room; `distance`: mean, at the end.
    """
    apart = np.linalg.norm(np.asarray(position) - np.asarray(tasks.goal)[:, None], axis=-1)
    wall = np.asarray(tasks.layout)[:, 0]
    same = (np.asarray(position)[:, -1, 0] > wall) == (np.asarray(tasks.goal)[:, 0] > wall)
    return {
        "success": float((apart[:, -1] < rooms.near).mean()), "reached": float((apart < rooms.near).any(1).mean()),
        "crossed": float(same.mean()), "distance": float(apart[:, -1].mean()), "episodes": len(apart)}


@functools.cache
def _collector(model: PixelJepa, rooms: Rooms, horizon: int, walks: int) -> Callable[..., tuple[jnp.ndarray, ...]]:
    """(params, key, layouts [N, 2]) -> z, positions, layouts [W, 4, ...] of walks at four times; prediction over copy [3]."""
    at = jnp.array([0, 1, horizon, 4 * horizon])

    def collect(params: dict, key: jnp.ndarray, choices: jnp.ndarray) -> tuple[jnp.ndarray, ...]:
        apply = lambda method, *args: model.apply({"params": params}, *args, method=method)
        some = draw_walks(rooms, key, choices, walks, 4 * horizon)
        z = apply("encode", render(rooms, some.layout[:, None], some.position[:, at]))
        ahead = apply("unroll", z[:, 0], some.action)
        error = jnp.mean((ahead[:, at[1:] - 1] - z[:, 1:]) ** 2, (0, 2))
        copy = jnp.mean((z[:, :1] - z[:, 1:]) ** 2, (0, 2))
        layout = jnp.broadcast_to(some.layout[:, None], (walks, 4, 2))
        return z, some.position[:, at], layout, error / jnp.maximum(copy, 1e-9)

    return jax.jit(collect)


def representation(
    model: PixelJepa, params: dict, rooms: Rooms, key: jnp.ndarray, horizon: int, split: str = "test", walks: int = 256
) -> dict[str, float]:
    """What linear probes read off z in layouts of `split` (fitted on training layouts), spread, and prediction over copy error.

    probe_position, probe_layout: R^2 of (x, y) and of (wall, door). pred_over_copy, pred_over_copy_far: open loop over
    `horizon` steps and over 4 times as many, over the error of predicting no change. creep, through: see
    `two_rooms_push.crept`.
    """
    collect, data = _collector(model, rooms, horizon, walks), {}
    for index, name in enumerate(("train", split)):
        some = collect(params, jax.random.fold_in(key, index), jnp.asarray(layouts(rooms, name)))
        *parts, ratio = jax.tree.map(np.asarray, some)
        data[name] = tuple(x.reshape(-1, x.shape[-1]).astype(np.float64) for x in parts)
    reading = ridge_fit(*data["train"][:2])
    probe = lambda column: probe_r2(*((data[name][0], data[name][column]) for name in ("train", split)))
    return pushing(model, params, rooms, jax.random.fold_in(key, 2), reading, split, 2 * horizon) | {
        "probe_position": probe(1), "probe_layout": probe(2), "std": float(data[split][0].std(0).mean()),
        "pred_over_copy": float(ratio[1]), "pred_over_copy_far": float(ratio[2])}
