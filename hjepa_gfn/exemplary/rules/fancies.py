"""Naive beliefs about what happens: worlds with another physics, percepts misread, wishes taken for facts."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from hjepa_gfn.exemplary.forecasts import Prediction
from hjepa_gfn.exemplary.foresight.checks import NEAR
from hjepa_gfn.exemplary.foresight.foresee import Foresight, foresee
from hjepa_gfn.exemplary.foresight.picture import HOME, Picture, picture
from hjepa_gfn.exemplary.simulation import CLOSED, DIRECTIONS, MOVABLE, Cell, Effect, Item, State
from hjepa_gfn.worlds.babyai import DONE, LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.language import COLOUR_WORDS, DOOR

# By the discipline that objects to them; those that seldom make a difference come first.
FANCIES: dict[str, tuple[str, ...]] = {
    "rationality": ("near_enough", "on_to_the_end", "wishful", "free_turns"),
    "epistemology": ("any_colour", "mirrored", "unseen_is_empty", "unsure"),
    "physics": ("any_key", "roomy_hands", "long_arms", "doors_give_way", "walls_give_way"),
    "ethics": ("no_trace",),
    "design": ("unseen_is_walled", "idle_counts"),
}
_ARM = 3  # cells that a long arm reaches
_SPAN = range(-40, 41)
_EVERYWHERE = frozenset((HOME[0] + x, HOME[1] + y) for x in _SPAN for y in _SPAN)  # what is filled in by who does not know


class FanciedState(State):
    """The simulator's dynamics as somebody with naive beliefs imagines them."""

    __slots__ = ("fancies",)

    def __init__(self, *arguments: Any, fancies: frozenset[str]):
        """`fancies`: names of beliefs."""
        super().__init__(*arguments)
        self.fancies = fancies

    def copy(self) -> "FanciedState":
        """An independent copy."""
        at, door = dict(self.at), dict(self.door)
        new = FanciedState(self.layout, self.pos, self.heading, at, door, self.carrying, fancies=self.fancies)
        new.steps, new.success, new.failed, new.memory = self.steps, self.success, self.failed, self.memory.copy()
        return new

    def passable(self, cell: Cell) -> bool:
        """Things and walls give way, or closed doors do, to those who do not reckon with them."""
        item = self.at.get(cell)
        door = self.door.get(item)
        if door is not None:
            return super().passable(cell) or (door == CLOSED and "doors_give_way" in self.fancies)
        return super().passable(cell) or "walls_give_way" in self.fancies

    def _act(self, action: int) -> Effect:
        if action == PICKUP:
            if self.carrying is not None and "roomy_hands" in self.fancies and self._movable(self.front):
                self.carrying = None  # whatever was in hand finds room
            reach = self._at_arms_length() if "long_arms" in self.fancies and self.carrying is None else None
            if reach is not None:
                self.carrying = self.at.pop(reach)
                return Effect("pickup", reach, self.carrying)
        return super()._act(action)

    def _has_key(self, door: Item) -> bool:
        return "any_key" in self.fancies or super()._has_key(door)

    def _movable(self, cell: Cell) -> bool:
        return cell in self.at and self.layout.items[self.at[cell]].kind in MOVABLE

    def _at_arms_length(self) -> Cell | None:
        (x, y), (dx, dy) = self.pos, DIRECTIONS[self.heading]
        cells = [(x + n * dx, y + n * dy) for n in range(1, _ARM + 1)]
        return next((cell for cell in cells if self._movable(cell)), None)


def fancied(
    view: np.ndarray, mission: str, actions: Sequence[int], fancies: frozenset[str]
) -> tuple[Prediction, Foresight, np.ndarray]:
    """What somebody with naive beliefs predicts, what it rests on, and the percept as it is read.

    Args:
        view: uint8[7, 7, 3], the first percept.
        mission: the instruction, lower case.
        actions: the plan's actions; at least one.
        fancies: names of beliefs, of `FANCIES`; none: what is foreseen soundly.
    """
    if "mirrored" in fancies:
        view = view[::-1]
    if "any_colour" in fancies:
        mission = re.sub(rf"\b(?:{'|'.join(COLOUR_WORDS)}) ", "", mission)
    foresight = foresee(view, mission, actions, _pictured(view, mission, fancies))
    said = foresight.prediction
    for name, change in _AFTERWARDS.items():
        if name in fancies:
            said = change(said, foresight, actions)
    return said, foresight, view


def _pictured(view: np.ndarray, mission: str, fancies: frozenset[str]) -> Picture:
    world = picture(view, mission, partial(FanciedState, fancies=fancies))
    if not fancies & {"unseen_is_empty", "unseen_is_walled", "walls_give_way"}:
        return world
    states = []
    for state in (world.sure.copy(), world.sure.copy()):  # who fills in the unseen does not reckon with what may be there
        if "unseen_is_walled" in fancies:
            state.layout = state.layout._replace(walls=state.layout.walls | (_EVERYWHERE - world.known))
        states.append(state)
    return Picture(*states, _EVERYWHERE, world.readable, 10**9)


def _unsure(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Does not dare to say what follows from what is in view."""
    return said._replace(fulfilled=None, steps=None)


def _idle_counts(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Thinks that waiting, and toggling whatever is there, does something."""
    is_idle = lambda t: actions[t] == DONE or (actions[t] == TOGGLE and not _is_door(foresight, foresight.effects[t].item))
    failing = [t for t, effect in enumerate(foresight.effects) if effect.kind in ("blocked", "nothing") and not is_idle(t)]
    return said._replace(vain=failing[0] + 1 if failing else None if foresight.lost else 0)


def _is_door(foresight: Foresight, item: int | None) -> bool:
    return item is not None and foresight.start.layout.items[item].kind == DOOR


def _no_trace(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Thinks that all is as before afterwards."""
    return said if said.changes is None else said._replace(changes=())


def _free_turns(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Does not count turns."""
    if said.steps is None:
        return said
    return said._replace(steps=sum(action not in (LEFT, RIGHT) for action in actions[: said.steps]))


def _on_to_the_end(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Thinks that a plan is carried out to its end, whatever happens on the way."""
    return said if said.steps is None else said._replace(steps=len(actions))


def _near_enough(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Thinks that near by is there."""
    final = foresight.final
    wanted = {item for part in final.layout.mission.parts for item in part.things}
    near = [
        item for cell, item in final.at.items()
        if item in wanted and abs(cell[0] - final.pos[0]) + abs(cell[1] - final.pos[1]) <= NEAR
    ]  # fmt: skip
    return said._replace(fulfilled=True) if near and said.fulfilled is False else said


def _wishful(said: Prediction, foresight: Foresight, actions: Sequence[int]) -> Prediction:
    """Thinks that what is wished for comes true."""
    return said._replace(fulfilled=True)


_AFTERWARDS = {
    "unsure": _unsure, "idle_counts": _idle_counts, "no_trace": _no_trace, "free_turns": _free_turns,
    "on_to_the_end": _on_to_the_end, "near_enough": _near_enough, "wishful": _wishful,
}  # fmt: skip
