"""Shutting doors behind: where a plan could do it, and what it would then be."""

from typing import NamedTuple

from hjepa_gfn.exemplary.rollout import Rollout, roll
from hjepa_gfn.exemplary.simulation import OPEN
from hjepa_gfn.worlds.babyai import LEFT, RIGHT, TOGGLE

_TURNS = {0: (), 1: (RIGHT,), 2: (RIGHT, RIGHT), 3: (LEFT,)}


class Shutting(NamedTuple):
    """A change to a list of actions: at `start`, `new` in place of the `dropped` turns that stood there."""

    start: int
    dropped: tuple[int, ...]
    new: tuple[int, ...]

    def apply(self, actions: tuple[int, ...]) -> tuple[int, ...]:
        """The changed actions."""
        return (*actions[: self.start], *self.new, *actions[self.start + len(self.dropped) :])


def turns(by: int) -> tuple[int, ...]:
    """The fewest turns that add up to so many quarter turns to the right."""
    return _TURNS[by % 4]


def left_open(rollout: Rollout) -> list[int]:
    """Numbers of the doors that were found shut, are open in the end, and that the mission does not ask to open."""
    asked = {item for part in rollout.layout.mission.parts if part.kind == "open" for item in part.things}
    doors = rollout.start.door.items()
    return [item for item, found in doors if found != OPEN and rollout.final.door[item] == OPEN and item not in asked]


def shut_behind(rollout: Rollout, item: int) -> Shutting | None:
    """How to shut a door after it is passed for the last time (or where it is last faced); None: the mission would fail."""
    cell = next(cell for cell, other in rollout.final.at.items() if other == item)
    inside = [t for t, pose in enumerate(rollout.poses) if pose[:2] == cell]
    opened = max((t for t, e in enumerate(rollout.effects) if e.item == item and e.after == OPEN), default=-1)
    if inside and inside[-1] > opened:
        start = inside[-1] + 1  # the agent has just stepped out, with its back to the door
        around = 2
    else:
        facing = [t for t in range(opened + 1, rollout.steps) if _front(rollout.poses[t]) == cell]
        start, around = (facing[-1], 0) if facing else (rollout.steps, 0)
    if start >= rollout.steps:
        return None
    after = start
    while after < len(rollout.actions) and rollout.actions[after] in (LEFT, RIGHT):
        after += 1
    dropped = rollout.actions[start:after]
    onward = sum(1 if action == RIGHT else -1 for action in dropped)
    for way in (turns(around), tuple(LEFT + RIGHT - turn for turn in turns(around))):
        shutting = Shutting(start, dropped, (*way, TOGGLE, *turns(onward - around)))
        changed = roll(rollout.start, shutting.apply(rollout.actions))
        if changed.success and changed.final.door[item] != OPEN:  # turning may fulfil the mission before the door is shut
            return shutting
    return None


def _front(pose: tuple[int, int, int]) -> tuple[int, int]:
    x, y, heading = pose
    dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[heading]
    return x + dx, y + dy
