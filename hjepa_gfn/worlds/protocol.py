"""What the rest of the system may ask of a world. Every world is a batch of independent episodes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class Observation(NamedTuple):
    """What the sensors give, for a batch of B episodes.

    Attributes:
        percept: name -> array[B, ...], as declared in `World.percept_spec`.
        mission: B strings, the instruction of each episode.
    """

    percept: dict[str, np.ndarray]
    mission: list[str]


@runtime_checkable
class World(Protocol):
    """A batch of episodes that are reset and stepped together.

    Attributes:
        percept_spec: name -> (shape without the batch dimension, dtype).
        num_actions: number of primitive actions; ids are 0..num_actions-1.
        action_names: a word for each action id.
    """

    percept_spec: dict[str, tuple[tuple[int, ...], np.dtype]]
    num_actions: int
    action_names: tuple[str, ...]

    def reset(self, seeds: Sequence[int]) -> Observation:
        """Start one episode a row; the seed alone determines the episode. `seeds`: B integers."""
        ...

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """Take one action a row. Returns the observation, reward float32[B] and done bool[B].

        A row that is done stays frozen: its observation does not change and its reward is 0 from then on.
        """
        ...

    def situation(self, i: int) -> str:
        """Row i's situation in words, from its percept and mission only."""
        ...

    def render(self, i: int) -> np.ndarray:
        """Row i as an image uint8[H, W, 3]: for reports, never shown to the agent."""
        ...

    def pose(self, i: int) -> tuple[int, int, int]:
        """Row i's true (x, y, direction): for drawing in reports, never shown to the agent."""
        ...
