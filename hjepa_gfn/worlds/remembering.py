"""A world whose percepts are joined by what was seen before (`egocentric_map`)."""
from collections.abc import Callable, Sequence

import numpy as np

from hjepa_gfn.worlds import egocentric_map
from hjepa_gfn.worlds.babyai import LEFT, RIGHT
from hjepa_gfn.worlds.heading import channels, check_heading, placed, stride, turned
from hjepa_gfn.worlds.language import BOX, KEY, UNSEEN
from hjepa_gfn.worlds.protocol import Observation, World

UNSHOWN = 13  # cells a side of a map that is kept for comparison: as far as views reach, on all sides


class Remembering:
    """A `World` around another: percepts also hold "contradicted" float32 [B], which share of what is remembered and shown
    again is not as remembered; "tried" float32 [B, A], how often each action was taken before where the agent is now, with
    what it perceives now; and, of the cells around it, "faced" float32 [B, M, M], how often it came to stand before a thing
    there, and "blocked" bool [B, M, M], which it knows to be impassable. With `shown`, "view" is the map uint8 [B, M, M, 3].
    All is made of percepts and actions alone.
    """

    def __init__(self, world: World, shown: int = 0, heading: str = "compass"):
        """shown: M, cells a side of the map that percepts hold; 0: they hold the view, and the map is for comparison only.
        heading: what percepts say of the own direction and place since the episode began (`worlds.heading`)."""
        egocentric_map.check_size(shown)
        self.world, self.shown, self.size, self.heading = world, shown, shown or UNSHOWN, check_heading(heading)
        self.num_actions, self.action_names = world.num_actions, world.action_names
        shape, dtype = world.percept_spec["view"]
        view = ((*((shown, shown) if shown else shape[:2]), channels(heading)), dtype)
        self.percept_spec = {**world.percept_spec, "view": view, "contradicted": ((), np.dtype(np.float32)),
                             "tried": ((world.num_actions,), np.dtype(np.float32)),
                             "faced": ((self.size, self.size), np.dtype(np.float32)),
                             "blocked": ((self.size, self.size), np.dtype(bool))}
        self.situation, self.render, self.pose = world.situation, world.render, world.pose

    def reset(self, seeds: Sequence[int]) -> Observation:
        """See `World.reset`."""
        rows = len(seeds)
        self._before = egocentric_map.empty_map((rows,), self.size)  # what was known before the newest percept
        self._faced_before = np.zeros((rows, self.size, self.size, 1), np.float32)
        self._arrived = np.ones(rows, bool)
        self._action, self._done = np.full(rows, -1), np.zeros(rows, bool)
        observation = self.world.reset(seeds)
        self._first = np.asarray(observation.percept["direction"])
        self._place = np.zeros((rows, 2), np.int32)
        self._tried: list[dict[bytes, np.ndarray]] = [{} for _ in range(rows)]  # by episode: counts [A] by situation
        return self.show(observation)

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """See `World.step`."""
        self._action = np.where(self._done, -1, np.asarray(actions))
        for i in np.flatnonzero(~self._done):
            self._counts(i)[self._action[i]] += 1
        self._before = egocentric_map.moved(self._known, self._action)
        self._faced_before = egocentric_map.moved(self._known, self._action, self._faced)
        gone = stride(self._known, self._turns, self._action, self.size)
        self._arrived = gone.any(-1) | (self._action == LEFT) | (self._action == RIGHT)
        self._place = self._place + gone
        observation, reward, done = self.world.step(actions)
        self._done = np.asarray(done)
        return self.show(observation), reward, done

    def displace(self, rows: Sequence[int]) -> Observation:
        """See `BabyAIWorld.displace`: the agent does not know that it was moved."""
        return self.show(self.world.displace(rows))

    def tamper(self, change: Callable[[np.ndarray], np.ndarray]) -> Observation:
        """The newest observation with another view: an accident for evaluations to inject."""
        view = change(self._newest.percept["view"])
        return self.show(self._newest._replace(percept={**self._newest.percept, "view": view}))

    def show(self, observation: Observation) -> Observation:
        """The newest percept as it is, or as an evaluation made it, on top of what was known before it."""
        self._newest, self._view = observation, observation.percept["view"]
        self._known, contradicted = egocentric_map.seen(self._before, self._view, self._action)
        view = egocentric_map.percept(self._known, self._view) if self.shown else self._view
        direction = np.asarray(observation.percept["direction"])
        self._turns = turned(direction, self._first)
        kind = egocentric_map.cell_ahead(self._known)[..., 0]
        i, j = egocentric_map.own_cell(self.size)
        self._faced = self._faced_before.copy()
        self._faced[:, i, j - 1, 0] += self._arrived & (kind >= KEY) & (kind <= BOX)
        blocked = (self._known[..., 0] != UNSEEN) & ~egocentric_map.passable(self._known)
        tried = np.stack([self._counts(i) for i in range(len(self._view))]).astype(np.float32)
        if self.heading != "compass":
            direction = self._turns
        if self.heading == "placed":
            view = placed(view, self._place, self._turns, self.shown)
        return observation._replace(percept={
            **observation.percept, "view": view, "direction": direction, "contradicted": contradicted.astype(np.float32),
            "tried": tried, "faced": self._faced[..., 0], "blocked": blocked})

    def _counts(self, row: int) -> np.ndarray:
        """How often each action was taken before in the situation of an episode: its place, its direction and its view."""
        situation = self._place[row].tobytes() + self._turns[row].tobytes() + np.ascontiguousarray(self._view[row]).tobytes()
        return self._tried[row].setdefault(situation, np.zeros(self.num_actions, int))
