"""A world whose percepts are joined by what was seen before (`egocentric_map`)."""
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from hjepa_gfn.worlds import egocentric_map
from hjepa_gfn.worlds.babyai import LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.heading import channels, check_heading, placed, stride, turned
from hjepa_gfn.worlds.language import AGENT_CELL, BOX, KEY, UNSEEN
from hjepa_gfn.worlds.protocol import Observation, World
from hjepa_gfn.worlds.standing import Cell, Standing, changed, foreseen

UNSHOWN = 13  # cells a side of a map that is kept for comparison: as far as views reach, on all sides


class Remembering:
    """A `World` around another: percepts also hold "contradicted" float32 [B], which share of what is remembered and shown
    again is not as remembered; "tried" float32 [B, A], how often each action was taken before where the agent is now, with
    what it perceives now; "stood" float32 [B, A], how often things stood before as each action would leave them
    (`worlds.standing`), 0 where that is not known; and, of the cells around it, "faced" float32 [B, M, M], how often it came to
    stand before a thing there, and "blocked" bool [B, M, M], which it knows to be impassable. With `shown`, "view" is the map
    uint8 [B, M, M, 3]. All is made of percepts and actions alone.
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
                             "stood": ((world.num_actions,), np.dtype(np.float32)),
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
        self._stood: list[Counter[Standing]] = [Counter() for _ in range(rows)]  # before the newest percept
        self._stands_before = [Standing() for _ in range(rows)]
        self._ahead_before = egocentric_map.cell_ahead(self._before)
        return self.show(observation)

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """See `World.step`."""
        self._action = np.where(self._done, -1, np.asarray(actions))
        for i in np.flatnonzero(~self._done):
            self._counts(i)[self._action[i]] += 1
            self._stood[i][self._stands[i]] += 1
        self._stands_before, self._ahead_before = self._stands, egocentric_map.cell_ahead(self._known)
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
        rows = range(len(self._view))
        tried = np.stack([self._counts(i) for i in rows]).astype(np.float32)
        self._stands = [self._standing(i) for i in rows]
        stood = np.stack([self._stood_before(i) for i in rows]).astype(np.float32)
        if self.heading != "compass":
            direction = self._turns
        if self.heading == "placed":
            view = placed(view, self._place, self._turns, self.shown)
        return observation._replace(percept={
            **observation.percept, "view": view, "direction": direction, "contradicted": contradicted.astype(np.float32),
            "tried": tried, "stood": stood, "faced": self._faced[..., 0], "blocked": blocked})

    def _counts(self, row: int) -> np.ndarray:
        """How often each action was taken before in the situation of an episode: its place, its direction and its view."""
        situation = self._place[row].tobytes() + self._turns[row].tobytes() + np.ascontiguousarray(self._view[row]).tobytes()
        return self._tried[row].setdefault(situation, np.zeros(self.num_actions, int))

    def _standing(self, row: int) -> Standing:
        """How things stand in an episode, by its newest percept."""
        before, held = self._stands_before[row], cell_of(self._view[row][AGENT_CELL])
        now = before._replace(place=tuple(self._place[row].tolist()), turns=int(self._turns[row]))
        if PICKUP <= self._action[row] <= TOGGLE and held[0] != UNSEEN:
            was, ahead = cell_of(self._ahead_before[row]), cell_of(egocentric_map.cell_ahead(self._known[row]))
            return changed(now, held, was, ahead)
        return now

    def _stood_before(self, row: int) -> list[int]:
        """How often things stood before as each action would leave them."""
        now, ahead = self._stands[row], egocentric_map.cell_ahead(self._known[row])
        free = bool(egocentric_map.passable(ahead))
        after = [foreseen(now, cell_of(ahead), free, action) for action in range(self.num_actions)]
        return [self._stood[row][standing] + (standing == now) for standing in after]


def cell_of(cell: np.ndarray) -> Cell:
    """A view's cell [c] as numbers: object, colour, state."""
    return tuple(cell[:3].tolist())
