"""Episodes in a world, batched: every mode sees percepts and missions only."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.worlds.protocol import Observation, World

CHUNK = 64  # situations planned for at once: one compiled shape, whatever the number of episodes that need a plan


def run_episodes(
    world: World, seeds: Sequence[int], choose: Callable[[Observation, np.ndarray], np.ndarray], max_steps: int,
    watch: Callable[[World, Observation, np.ndarray | None], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Runs one episode per seed until success, the world's time limit, or `max_steps`.

    Args:
      choose: (observation, running bool [B]) -> actions int [B].
      watch: called with (world, observation, actions or None at the end) before each step, e.g. to draw.
    Returns: success bool [B], steps int [B].
    """
    observation = world.reset(seeds)
    running = np.ones(len(seeds), bool)
    success, steps = np.zeros(len(seeds), bool), np.zeros(len(seeds), int)
    for _ in range(max_steps):
        actions = choose(observation, running)
        if watch:
            watch(world, observation, actions)
        observation, reward, done = world.step(actions)
        steps += running
        success |= running & (reward > 0)
        running &= ~done
        if not running.any():
            break
    if watch:
        watch(world, observation, None)
    return success, steps


def in_chunks(rows: np.ndarray, size: int) -> list[tuple[np.ndarray, int]]:
    """Index arrays of exactly `size` (the last one padded by repetition) and how many entries of each count."""
    pieces = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [(np.resize(piece, size), len(piece)) for piece in pieces]


class HabitualMode:
    """Next action from the world state, at every step."""

    def __init__(self, agent: Agent, seed: int):
        self.agent, self.key, self.tick, self.counts = agent, jax.random.key(seed), 0, {"habitual": 0}

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        self.tick += 1
        self.counts["habitual"] += int(running.sum())
        key = jax.random.fold_in(self.key, self.tick)
        percept = {name: jnp.asarray(value) for name, value in observation.percept.items()}
        return np.asarray(self.agent.act["habitual"](self.agent.params, key, percept, self.agent.missions(observation.mission)))


class PlanningMode:
    """Sample plans, act on the best one's finest-scale actions, plan anew when they end or the world leaves the plan.

    Where no sampled plan says how to begin, the habitual action is taken (and counted).
    """

    def __init__(self, agent: Agent, seed: int, on_decision: Callable[[int, Any], None] | None = None):
        self.agent, self.key, self.tick = agent, jax.random.key(seed), 0
        self.queue: list[list[tuple[int, int]]] | None = None  # per episode: (action, code expected after it)
        self.expected: np.ndarray | None = None
        self.on_decision = on_decision
        self.counts = {"plans": 0, "plan_ended": 0, "left_plan": 0, "decoded_macro": 0, "habit_instead": 0, "actions": 0}

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        self.tick += 1
        batch = len(running)
        if self.queue is None:
            self.queue, self.expected = [[] for _ in range(batch)], np.full(batch, -1, np.int32)
        percept = {name: np.asarray(value) for name, value in observation.percept.items()}
        mission = self.agent.missions(observation.mission)
        key_plan, key_habit = jax.random.split(jax.random.fold_in(self.key, self.tick))
        away = np.asarray(self.agent.act["left_plan"](self.agent.params, percept, self.expected))
        left = running & (away > self.agent.config.agent.leave_distance)
        empty = np.array([not queue for queue in self.queue])
        self.counts["left_plan"] += int((left & ~empty).sum())
        self.counts["plan_ended"] += int((running & empty).sum())
        vague = self._plan(key_plan, percept, mission, np.flatnonzero(running & (left | empty)))
        actions = np.zeros(batch, np.int64)
        for i in np.flatnonzero(running):
            if self.queue[i]:
                actions[i], self.expected[i] = self.queue[i].pop(0)
        if len(vague):
            habit = np.asarray(self.agent.act["habitual"](self.agent.params, key_habit, percept, mission))
            actions[vague] = habit[vague]
            self.expected[vague] = -1
        self.counts["actions"] += int(running.sum())
        return actions

    def forget(self, rows: np.ndarray) -> None:
        """Drops the plans of the episodes `rows` int [R]: made before another mode acted, they are about what is past."""
        for i in rows if self.queue is not None else ():
            self.queue[i], self.expected[i] = [], -1

    def _plan(self, key: jnp.ndarray, percept: dict, mission: jnp.ndarray, rows: np.ndarray) -> np.ndarray:
        """Refills the queues of the episodes `rows`; returns those whose plan does not say how to begin."""
        vague = []
        for number, (index, count) in enumerate(in_chunks(rows, CHUNK)):
            seen = {name: value[index] for name, value in percept.items()}
            decision = self.agent.act["plan"](self.agent.params, jax.random.fold_in(key, number), seen, mission[index])
            decision = jax.tree.map(np.asarray, decision)
            for j, i in enumerate(index[:count]):
                length = int(decision.leg.count[j])
                self.queue[i] = list(zip(
                    decision.leg.action[j, :length].tolist(), decision.leg.expected[j, :length].tolist(), strict=True))
                self.counts["decoded_macro"] += int(decision.leg.decoded[j])
                if not length:
                    vague.append(i)
                if self.on_decision:
                    self.on_decision(int(i), jax.tree.map(lambda x, j=j: x[j], decision))
            self.counts["plans"] += count
        self.counts["habit_instead"] += len(vague)
        return np.asarray(vague, int)


def random_mode(seed: int, num_actions: int) -> Callable[[Observation, np.ndarray], np.ndarray]:
    """Uniform actions."""
    rng = np.random.default_rng(seed)
    return lambda observation, running: rng.integers(num_actions, size=len(running))
