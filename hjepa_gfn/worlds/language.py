"""From a symbolic egocentric view to words. Nothing here looks at the simulator: a percept and a mission go in.

The view is MiniGrid's: `view[i, j] = (object, colour, state)`, the agent at (3, 6) looking towards smaller j. Places
are given relative to the agent as (ahead, right), in cells; left is a negative `right`.
"""

import re
from typing import NamedTuple

import numpy as np

VIEW_SIZE = 7
AGENT_CELL = (VIEW_SIZE // 2, VIEW_SIZE - 1)
UNSEEN, EMPTY, WALL, FLOOR, DOOR, KEY, BALL, BOX, GOAL, LAVA = range(10)
OBJECT_WORDS = {DOOR: "door", KEY: "key", BALL: "ball", BOX: "box", GOAL: "goal", LAVA: "lava"}
COLOUR_WORDS = ("red", "green", "blue", "purple", "yellow", "grey")
DOOR_STATES = ("open", "closed", "locked")
OPEN, CLOSED, LOCKED = range(3)
DIRECTION_WORDS = ("east", "south", "west", "north")

Place = tuple[int, int]  # (ahead, right) of the agent, in cells


class Thing(NamedTuple):
    """An object in view: its kind and colour in words, its place, and a door's state ("" for other objects)."""

    kind: str
    colour: str
    place: Place
    state: str = ""

    @property
    def name(self) -> str:
        """Colour and kind, as missions name objects."""
        return f"{self.colour} {self.kind}"


class Description(NamedTuple):
    """An object as a mission describes it; an empty string stands for "any"."""

    kind: str
    colour: str

    def matches(self, thing: Thing) -> bool:
        """Whether a thing in view fits the description (its place is not compared)."""
        return self.kind in ("", thing.kind) and self.colour in ("", thing.colour)

    @property
    def name(self) -> str:
        """The description in words, without an article."""
        return f"{self.colour} {self.kind or 'object'}".strip()


def cell_of(place: Place) -> tuple[int, int]:
    """View indices (i, j) of a place; they may lie outside of the view."""
    ahead, right = place
    return AGENT_CELL[0] + right, AGENT_CELL[1] - ahead


def code_at(view: np.ndarray, place: Place) -> int:
    """Object code at a place, UNSEEN outside of the view. The agent's own cell counts as EMPTY."""
    i, j = cell_of(place)
    if not (0 <= i < VIEW_SIZE and 0 <= j < VIEW_SIZE):
        return UNSEEN
    return EMPTY if (i, j) == AGENT_CELL else int(view[i, j, 0])


def walkable(view: np.ndarray, place: Place) -> bool:
    """Whether the agent sees that it could stand there: empty floor, a goal or an open door."""
    code = code_at(view, place)
    if code == DOOR:
        return int(view[(*cell_of(place), 2)]) == 0
    return code in (EMPTY, FLOOR, GOAL)


def things_in_view(view: np.ndarray) -> list[Thing]:
    """All objects in view (walls and what is carried left out), nearest first; ties from left to right."""
    found = []
    for i, j in np.argwhere(view[:, :, 0] >= DOOR).tolist():
        if (i, j) == AGENT_CELL:
            continue
        code, colour, state = view[i, j].tolist()
        place = (AGENT_CELL[1] - j, i - AGENT_CELL[0])
        found.append(Thing(OBJECT_WORDS[code], COLOUR_WORDS[colour], place, DOOR_STATES[state] if code == DOOR else ""))
    return sorted(found, key=lambda thing: (thing.place[0] + abs(thing.place[1]), thing.place[1]))


def carried(view: np.ndarray) -> Thing | None:
    """What the agent carries: MiniGrid shows it in the agent's own cell."""
    code, colour, _ = view[AGENT_CELL].tolist()
    return Thing(OBJECT_WORDS[code], COLOUR_WORDS[colour], (0, 0)) if code in OBJECT_WORDS else None


def free_ahead(view: np.ndarray) -> int:
    """How many cells straight ahead the agent sees to be walkable, without a gap."""
    n = 0
    while walkable(view, (n + 1, 0)):
        n += 1
    return n


def place_in_words(place: Place) -> str:
    """E.g. (3, -2) -> "3 ahead and 2 to the left"."""
    ahead, right = place
    words = []
    if ahead:
        words.append(f"{ahead} ahead" if ahead > 0 else f"{-ahead} behind")
    if right:
        words.append(f"{abs(right)} to the {'right' if right > 0 else 'left'}")
    return " and ".join(words) or "here"


def with_article(words: str) -> str:
    """With "a" or "an" before it."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


_MENTION = re.compile(
    rf"\b(?:the|a|an) (?:({'|'.join(COLOUR_WORDS)}) )?({'|'.join(OBJECT_WORDS.values())}|object)\b"
)


def mission_targets(mission: str) -> list[Description]:
    """The objects that a mission speaks of, in the order in which the mission wants them dealt with."""
    first, after, then_first = mission.partition(" after you ")
    ordered = f"{then_first} {first}" if after else first
    return [Description("" if kind == "object" else kind, colour) for colour, kind in _MENTION.findall(ordered)]


def describe_situation(view: np.ndarray, direction: int, mission: str) -> str:
    """The situation in words: mission, heading, what is carried, free way ahead and every object in view.

    Args:
        view: uint8[7, 7, 3], the egocentric symbolic view.
        direction: compass direction 0..3 (east, south, west, north).
        mission: the instruction.
    """
    burden = carried(view)
    free = free_ahead(view)
    things = [
        f"{with_article(f'{thing.state} {thing.name}'.strip())} {place_in_words(thing.place)}"
        for thing in things_in_view(view)
    ]
    return (
        f"mission: {mission}. you face {DIRECTION_WORDS[int(direction)]} and carry "
        f"{with_article(burden.name) if burden else 'nothing'}. "
        f"the way ahead is {f'free for {free}' if free else 'blocked'}. "
        f"you see {', '.join(things) if things else 'no objects'}."
    ).lower()
