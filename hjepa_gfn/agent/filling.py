"""What an agent perceives where a view is missing (`agent.fill`): nothing, the last view, or what it believes it would see."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hjepa_gfn.agent.believing import KeptBelief, believed_view
from hjepa_gfn.errors import UserError
from hjepa_gfn.models.belief import Belief
from hjepa_gfn.worlds.protocol import Observation, World

FILLS = ("", "last", "belief")


def check_fill(fill: str, belief: Belief | None) -> str:
    """`agent.fill` as it is. Raises UserError for a value that means nothing, and for a belief that the agent does not have."""
    if fill not in FILLS:
        raise UserError(f"agent.fill={fill!r}: must be one of {', '.join(map(repr, FILLS))}")
    if fill == "belief" and belief is None:
        raise UserError("agent.fill='belief': this agent has no belief (model.belief.size is 0)")
    return fill


class Filling:
    """A `World` around another, whose missing views (all zeros) are filled in by what the agent itself knows: with "last" its
    last view, with "belief" what its belief s_t = U(s_{t-1}, a_{t-1}, o_t) expects. Views that are there are left as they are.
    """

    def __init__(self, world: World, fill: str, belief: Belief | None, params: Any):
        """params: of the belief's module, for "belief"."""
        self.world, self.fill = world, check_fill(fill, belief)
        self.percept_spec, self.num_actions, self.action_names = world.percept_spec, world.num_actions, world.action_names
        self.situation, self.render, self.pose = world.situation, world.render, world.pose
        self.kept = KeptBelief(belief, params) if fill == "belief" else None
        self._expect = jax.jit(lambda p, s: believed_view(belief, p, s))

    def reset(self, seeds: Sequence[int]) -> Observation:
        """See `World.reset`."""
        observation = self.world.reset(seeds)
        self._last = observation.percept["view"]
        if self.kept:
            self.kept.begin(len(seeds))
        return self._filled(observation)

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """See `World.step`."""
        observation, reward, done = self.world.step(actions)
        if self.kept:
            self.kept.act(actions)
        return self._filled(observation), reward, done

    def _filled(self, observation: Observation) -> Observation:
        view = observation.percept["view"]
        gone = ~view[..., :3].any(axis=(1, 2, 3))  # sectors (`worlds.heading`) are known without seeing
        known = np.asarray(self._expect(self.kept.params, self.kept.state)) if self.kept else self._last
        filled = view.copy()
        filled[gone, ..., :3] = known[gone, ..., :3]
        if self.kept:
            self.kept.perceive(observation.percept, ~gone)
        self._last = filled
        return observation._replace(percept={**observation.percept, "view": filled})
