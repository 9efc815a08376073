"""What an agent perceives where a view is missing (`agent.fill`): nothing, the last view, or what it believes it would see."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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

    def reset(self, seeds: Sequence[int]) -> Observation:
        """See `World.reset`."""
        observation = self.world.reset(seeds)
        self._before = observation.percept["view"]  # the last view, or the belief, before the newest percept
        if self.kept:
            self.kept.begin(len(seeds))
            self._before = self.kept.state
        return self.show(observation)

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """See `World.step`."""
        observation, reward, done = self.world.step(actions)
        self._before = self._shown
        if self.kept:
            self.kept.act(actions)
            self._before = self.kept.state
        return self.show(observation), reward, done

    def displace(self, rows: Sequence[int]) -> Observation:
        """See `Remembering.displace`."""
        return self.show(self.world.displace(rows))

    def tamper(self, change: Callable[[np.ndarray], np.ndarray]) -> Observation:
        """See `Remembering.tamper`."""
        return self.show(self.world.tamper(change))

    def show(self, observation: Observation) -> Observation:
        """The newest percept, filled in by what was known before it."""
        view = observation.percept["view"]
        gone = ~view[..., :3].any(axis=(1, 2, 3))  # sectors (`worlds.heading`) are known without seeing
        self._shown = view.copy()
        if gone.any():
            known = believed_view(self.kept.belief, self.kept.params, self._before) if self.kept else self._before
            self._shown[gone, ..., :3] = np.asarray(known)[gone, ..., :3]
        if self.kept:
            self.kept.state = self._before
            self.kept.perceive(observation.percept, ~gone)
        return observation._replace(percept={**observation.percept, "view": self._shown})
