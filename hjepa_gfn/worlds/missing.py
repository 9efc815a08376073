"""A world whose views go missing now and then: a dropped frame. The compass is another sense and stays."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.protocol import Observation, World


def check_share(share: float) -> float:
    """The share of views that are missing, as it is. Raises UserError unless it lies in [0, 1)."""
    if not 0 <= share < 1:
        raise UserError(f"share of missing views {share}: must be 0 or more and below 1")
    return share


class Missing:
    """A `World` around another: after each step, with probability `share` and in each row by itself, "view" is all zeros, as
    if nothing were seen. Which ones depends on the episodes' seeds and steps alone; an episode's first view is never missing.
    """

    def __init__(self, world: World, share: float, seed: int = 0):
        self.world, self.share, self.seed = world, check_share(share), seed
        self.percept_spec, self.num_actions, self.action_names = world.percept_spec, world.num_actions, world.action_names
        self.situation, self.render, self.pose = world.situation, world.render, world.pose

    def reset(self, seeds: Sequence[int]) -> Observation:
        """See `World.reset`."""
        self._rngs = [np.random.default_rng([self.seed, int(seed)]) for seed in seeds]
        return self.world.reset(seeds)

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """See `World.step`."""
        observation, reward, done = self.world.step(actions)
        gone = np.array([rng.random() < self.share for rng in self._rngs])
        view = np.where(gone[:, None, None, None], 0, observation.percept["view"])
        view = view.astype(observation.percept["view"].dtype)
        return observation._replace(percept={**observation.percept, "view": view}), reward, done
