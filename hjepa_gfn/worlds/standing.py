"""How things stand in an episode, as far as the agent has to do with it, and what each action would make of that.

Where it is, which way it looks, what it holds and what it has changed: enough to know that turning back, putting a thing back
where it came from, walking against a wall or grasping at nothing leads to where one was already. All is made of the agent's own
percepts and actions (path integration, `worlds.heading`, and what the cell ahead and its own cell showed before and after);
nothing here asks the simulator.
"""
from __future__ import annotations

from typing import NamedTuple

from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.heading import STRIDE
from hjepa_gfn.worlds.language import BALL, BOX, CLOSED, DOOR, EMPTY, KEY, LOCKED, OPEN

Cell = tuple[int, int, int]  # (object, colour, state), as views have it
NOTHING: Cell = (EMPTY, 0, 0)


class Standing(NamedTuple):
    """Place and quarter turns since the episode began, what is held, and the cells that are no longer as they were found."""

    place: tuple[int, int] = (0, 0)  # (ahead, right) of where the episode began
    turns: int = 0
    held: Cell = NOTHING
    changes: frozenset = frozenset()  # of (place, Cell as it is now, Cell as it was found)

    @property
    def ahead(self) -> tuple[int, int]:
        """The place before the agent."""
        step = STRIDE[self.turns]
        return int(self.place[0] + step[0]), int(self.place[1] + step[1])


def changed(before: Standing, held: Cell, was: Cell, now: Cell) -> Standing:
    """With `held` in hand and the cell ahead, which `was` so before, being so `now`; as it was found: no change."""
    found = next((first for place, _, first in before.changes if place == before.ahead), was)
    others = frozenset(change for change in before.changes if change[0] != before.ahead)
    return before._replace(held=held, changes=others if now == found else others | {(before.ahead, now, found)})


def foreseen(now: Standing, ahead: Cell, free: bool, action: int) -> Standing | None:
    """How things will stand after an action, where the cell ahead shows `ahead` and can be stepped onto if `free`; the same
    where the action does nothing, None where that is not known (what a box holds)."""
    kind, colour, state = ahead
    if action in (LEFT, RIGHT):
        return now._replace(turns=(now.turns + (1 if action == RIGHT else -1)) % 4)
    if action == FORWARD:
        return now._replace(place=now.ahead) if free else now
    if action == PICKUP and kind in (KEY, BALL, BOX) and now.held == NOTHING:
        return changed(now, ahead, ahead, NOTHING)
    if action == DROP and ahead == NOTHING and now.held != NOTHING:
        return changed(now, NOTHING, ahead, now.held)
    if action == TOGGLE and kind == BOX:
        return None
    if action == TOGGLE and kind == DOOR and (state != LOCKED or now.held[:2] == (KEY, colour)):
        return changed(now, now.held, ahead, (DOOR, colour, CLOSED if state == OPEN else OPEN))
    return now
