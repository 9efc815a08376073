"""Episodes in a world, batched: every mode sees percepts and missions only."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.following import NOT_TIMED, OnDecision, PlanFollower, timed
from hjepa_gfn.worlds.protocol import Observation, World


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


class HabitualMode:
    """Next action from the world state, at every step."""

    def __init__(self, agent: Agent, seed: int):
        self.agent, self.key, self.tick = agent, jax.random.key(seed), 0
        self.counts = {"habitual": 0, "passes": 0, **NOT_TIMED}

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        self.tick += 1
        self.counts["habitual"] += int(running.sum())
        self.counts["passes"] += int(running.sum())  # the context of one situation
        key = jax.random.fold_in(self.key, self.tick)
        percept = {name: jnp.asarray(value) for name, value in observation.percept.items()}
        mission = self.agent.missions(observation.mission)
        habitual = self.agent.act["habitual"]
        return np.asarray(timed(self.counts, len(running), habitual, self.agent.params, key, percept, mission))


class PlanningMode:
    """Sample plans, act on the best one's finest-scale actions, plan anew when they end or the world leaves the plan."""

    def __init__(self, agent: Agent, seed: int, on_decision: OnDecision | None = None):
        self.follower = PlanFollower(agent, seed, agent.act["plan"], on_decision)
        self.counts = self.follower.counts

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        return self.follower(observation, running)

    def forget(self, rows: np.ndarray) -> None:
        """See `PlanFollower.forget`."""
        self.follower.forget(rows)


def random_mode(seed: int, num_actions: int) -> Callable[[Observation, np.ndarray], np.ndarray]:
    """Uniform actions."""
    rng = np.random.default_rng(seed)
    return lambda observation, running: rng.integers(num_actions, size=len(running))
