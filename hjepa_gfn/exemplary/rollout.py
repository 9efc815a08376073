"""What happens if: a list of actions rolled forward from an episode's start, with the facts that checkers need."""

import dataclasses
import functools

import numpy as np

from hjepa_gfn.exemplary.percepts import look, set_code, world_codes
from hjepa_gfn.exemplary.simulation import DIRECTIONS, Cell, Effect, Layout, State, code_of
from hjepa_gfn.worlds.language import Place

NEVER = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What a list of actions leads to. Time t is before action t; T actions are taken (fewer than given if it ends).

    Attributes:
        actions: all actions given.
        success, failed: whether they fulfil the mission, or break it beyond repair.
        steps: T, how many were taken.
        poses: T + 1 poses (x, y, heading); headings 0..3 are east, south, west, north.
        effects: T effects, what each action did.
        carried: T + 1 item numbers, or None.
        done: (number of the mission's part, actions taken until it was done), in order.
        keys: T + 1 keys of states: equal keys, equal states.
        start, final: the first and the last state.
    """

    actions: tuple[int, ...]
    success: bool
    failed: bool
    steps: int
    poses: tuple[tuple[int, int, int], ...]
    effects: tuple[Effect, ...]
    carried: tuple[int | None, ...]
    done: tuple[tuple[int, int], ...]
    keys: tuple
    start: State
    final: State

    @property
    def layout(self) -> Layout:
        """What stays as it is during the episode."""
        return self.start.layout

    @functools.cached_property
    def _percepts(self) -> tuple[np.ndarray, np.ndarray]:
        layout, codes = self.layout, world_codes(self.start)
        views = np.empty((self.steps + 1, 7, 7, 3), np.uint8)
        seen = np.full((layout.width, layout.height), NEVER, np.int32)
        state = self.start.copy()  # only its items and doors are kept up to date
        for t in range(self.steps + 1):
            if t and self.effects[t - 1].kind in ("pickup", "drop", "toggle"):
                _redo(state, self.effects[t - 1])
                set_code(codes, self.effects[t - 1].cell, code_of(state, self.effects[t - 1].cell))
            held = self.carried[t]
            item = None if held is None else layout.items[held]
            views[t], (xs, ys) = look(codes, self.poses[t], (item.kind, item.colour, 0) if item else None)
            inside = (xs >= 0) & (xs < layout.width) & (ys >= 0) & (ys < layout.height)
            xs, ys = xs[inside], ys[inside]
            seen[xs, ys] = np.minimum(seen[xs, ys], t)
        return views, seen

    @property
    def views(self) -> np.ndarray:
        """The percepts: uint8[T + 1, 7, 7, 3]."""
        return self._percepts[0]

    @property
    def seen(self) -> np.ndarray:
        """The time at which each cell was first in view, NEVER if it was not: int32[W, H]."""
        return self._percepts[1]

    @property
    def directions(self) -> np.ndarray:
        """The compass direction at each time: int32[T + 1]."""
        return np.array([pose[2] for pose in self.poses], np.int32)

    @functools.cached_property
    def aims(self) -> tuple[tuple[int, Cell], ...]:
        """(time, cell) of what is handled (picked up, toggled), and of what is faced at the end."""
        handled = [(t, e.cell) for t, e in enumerate(self.effects) if e.kind in ("pickup", "toggle")]
        return (*handled, (self.steps, self.final.front))

    def relative(self, cell: Cell) -> Place:
        """A cell as (ahead, right) of the agent at the start."""
        return relative(self.poses[0], cell)


def relative(pose: tuple[int, int, int], cell: Cell) -> Place:
    """A cell as (ahead, right) of a pose."""
    x, y, heading = pose
    dx, dy = cell[0] - x, cell[1] - y
    (fx, fy), (rx, ry) = DIRECTIONS[heading], DIRECTIONS[(heading + 1) % 4]
    return dx * fx + dy * fy, dx * rx + dy * ry


def absolute(pose: tuple[int, int, int], place: Place) -> Cell:
    """The inverse of `relative`."""
    x, y, heading = pose
    (fx, fy), (rx, ry) = DIRECTIONS[heading], DIRECTIONS[(heading + 1) % 4]
    return x + place[0] * fx + place[1] * rx, y + place[0] * fy + place[1] * ry


def roll(start: State, actions: tuple[int, ...]) -> Rollout:
    """Rolls actions forward from a state until they are used up or the episode ends."""
    state = start.copy()
    poses, effects, carried, done = [(*state.pos, state.heading)], [], [state.carrying], []
    world = state.world_key()
    keys = [(*poses[0], world, state.memory.key())]
    for t, action in enumerate(actions):
        if state.over:
            break
        finished = len(state.memory.finished)
        effect = state.step(action)
        done += [(part, t + 1) for part in state.memory.finished[finished:]]
        if effect.kind in ("pickup", "drop", "toggle"):
            world = state.world_key()
        poses.append((*state.pos, state.heading))
        effects.append(effect)
        carried.append(state.carrying)
        keys.append((*poses[-1], world, state.memory.key()))
    return Rollout(
        tuple(actions), state.success, state.failed, len(effects), tuple(poses), tuple(effects), tuple(carried),
        tuple(done), tuple(keys), start, state,
    )  # fmt: skip


def _redo(state: State, effect: Effect) -> None:
    """What an effect changed among items and doors."""
    if effect.kind == "drop":
        state.at[effect.cell] = effect.item
    elif effect.after is not None:
        state.door[effect.item] = effect.after
    else:
        del state.at[effect.cell]
        inside = state.layout.items[effect.item].contains
        if effect.kind == "toggle" and inside is not None:
            state.at[effect.cell] = inside

