"""A small, fast copy of the simulator: the same dynamics and the same verdicts as MiniGrid's, on plain data.

Trying plans is most of what the exemplary actor does, and MiniGrid's own step costs about fifty times as much. That both
agree, step by step, is tested on every level.
"""

from typing import NamedTuple

from minigrid.minigrid_env import MiniGridEnv

from hjepa_gfn.exemplary.missions import Memory, Mission, read_mission
from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.language import (
    BALL,
    BOX,
    CLOSED,
    COLOUR_WORDS,
    DOOR,
    DOOR_STATES,
    KEY,
    LOCKED,
    OBJECT_WORDS,
    OPEN,
    WALL,
)

Cell = tuple[int, int]
DIRECTIONS: tuple[Cell, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))
CODES = {word: code for code, word in OBJECT_WORDS.items()}


class Item(NamedTuple):
    """An object of an episode; doors too. `contains`: number of the item inside of a box, or None."""

    kind: int
    colour: int
    contains: int | None = None

    @property
    def name(self) -> str:
        """Colour and kind, as missions name objects."""
        return f"{COLOUR_WORDS[self.colour]} {OBJECT_WORDS[self.kind]}"


class Layout(NamedTuple):
    """What stays as it is during an episode: size, walls, the items by number, the mission, the limit on steps."""

    width: int
    height: int
    walls: frozenset[Cell]
    items: tuple[Item, ...]
    mission: Mission
    max_steps: int


class Effect(NamedTuple):
    """What an action did.

    Attributes:
        kind: "turn", "move", "blocked", "pickup", "drop", "toggle", or "nothing" (handling or waiting in vain).
        cell: the cell in front when the action was taken.
        item: number of the item that was there (for "drop": that was put there), or None.
        before, after: a door's state, with "toggle".
        wall: whether a wall was there.
    """

    kind: str
    cell: Cell
    item: int | None = None
    before: int | None = None
    after: int | None = None
    wall: bool = False


class State:
    """What changes during an episode. `at`: item number by cell; `door`: state by item number."""

    __slots__ = ("layout", "pos", "heading", "carrying", "at", "door", "steps", "memory", "success", "failed")

    def __init__(
        self, layout: Layout, pos: Cell, heading: int, at: dict[Cell, int], door: dict[int, int], carrying: int | None
    ):
        """The state of an episode that has just begun."""
        self.layout, self.pos, self.heading, self.at, self.door, self.carrying = layout, pos, heading, at, door, carrying
        self.steps, self.success, self.failed = 0, False, False
        self.memory = Memory.of(layout.mission, at)

    def copy(self) -> "State":
        """An independent copy."""
        new = State.__new__(State)
        for name in self.__slots__:
            setattr(new, name, getattr(self, name))
        new.at, new.door, new.memory = dict(self.at), dict(self.door), self.memory.copy()
        return new

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.success or self.failed or self.steps >= self.layout.max_steps

    @property
    def front(self) -> Cell:
        """The cell in front of the agent."""
        dx, dy = DIRECTIONS[self.heading]
        return self.pos[0] + dx, self.pos[1] + dy

    def passable(self, cell: Cell) -> bool:
        """Whether the agent could step on a cell."""
        item = self.at.get(cell)
        return cell not in self.layout.walls and (item is None or self.door.get(item) == OPEN)

    def world_key(self) -> tuple:
        """Equal where items, doors and what is carried are equal: what only handling things can change."""
        return self.carrying, frozenset(self.at.items()), tuple(self.door.values())

    def step(self, action: int) -> Effect:
        """Takes an action; says what it did."""
        self.steps += 1
        effect = self._act(action)
        if action == DROP:
            self.memory.look_again(self.layout.mission, self.at)
        verdict = self.layout.mission.verify(self, action, effect)
        self.success, self.failed = verdict == 1, verdict == -1
        return effect

    def _act(self, action: int) -> Effect:
        front = self.front
        item, wall = self.at.get(front), front in self.layout.walls
        thing = self.layout.items[item] if item is not None else None
        if action in (LEFT, RIGHT):
            self.heading = (self.heading + (1 if action == RIGHT else 3)) % 4
            return Effect("turn", front, item, wall=wall)
        if action == FORWARD:
            if not self.passable(front):
                return Effect("blocked", front, item, wall=wall)
            self.pos = front
            return Effect("move", front, item)
        if action == PICKUP and thing and thing.kind != DOOR and self.carrying is None:
            del self.at[front]
            self.carrying = item
            return Effect("pickup", front, item)
        if action == DROP and thing is None and not wall and self.carrying is not None:
            self.at[front], dropped, self.carrying = self.carrying, self.carrying, None
            return Effect("drop", front, dropped)
        if action == TOGGLE and thing and thing.kind == DOOR:
            before = self.door[item]
            if before != LOCKED or self._has_key(thing):
                self.door[item] = CLOSED if before == OPEN else OPEN
                return Effect("toggle", front, item, before, self.door[item])
        if action == TOGGLE and thing and thing.kind == BOX:
            del self.at[front]
            if thing.contains is not None:
                self.at[front] = thing.contains
            return Effect("toggle", front, item)
        return Effect("nothing", front, item, wall=wall)

    def _has_key(self, door: Item) -> bool:
        held = self.layout.items[self.carrying] if self.carrying is not None else None
        return held is not None and held.kind == KEY and held.colour == door.colour


def read_state(env: MiniGridEnv) -> State:
    """The state of a simulator right after its reset."""
    walls, items, at, door, numbers = set(), [], {}, {}, {}

    def number(thing: object) -> int:
        inside = getattr(thing, "contains", None)
        inside = number(inside) if inside is not None else None
        numbers[id(thing)] = len(items)
        items.append(Item(CODES[thing.type], COLOUR_WORDS.index(thing.color), inside))
        return len(items) - 1

    for index, thing in enumerate(env.grid.grid):
        cell = (index % env.grid.width, index // env.grid.width)
        if thing is None:
            continue
        if thing.type == "wall":
            walls.add(cell)
            continue
        at[cell] = number(thing)
        if thing.type == "door":
            door[at[cell]] = OPEN if thing.is_open else LOCKED if thing.is_locked else CLOSED
    carrying = number(env.carrying) if env.carrying is not None else None
    mission = read_mission(env, numbers)
    layout = Layout(env.grid.width, env.grid.height, frozenset(walls), tuple(items), mission, int(env.max_steps))
    return State(layout, (int(env.agent_pos[0]), int(env.agent_pos[1])), int(env.agent_dir), at, door, carrying)


def code_of(state: State, cell: Cell) -> tuple[int, int, int]:
    """A cell as MiniGrid encodes it: object, colour, state."""
    if cell in state.layout.walls:
        return WALL, COLOUR_WORDS.index("grey"), 0
    item = state.at.get(cell)
    if item is None:
        return 1, 0, 0
    thing = state.layout.items[item]
    return thing.kind, thing.colour, state.door.get(item, 0)


def door_word(state: int) -> str:
    """A door's state in words."""
    return DOOR_STATES[state]


MOVABLE = (KEY, BALL, BOX)
