"""The world as the first percept shows it, as a state of the simulator's own dynamics, and where it is unknown.

Cells count from the agent at the start, which stands at `HOME` and faces north: (x + right, y - ahead). What was not in view
is in no list: `Picture.known` says which cells are. Nothing here looks at the simulator's world.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.foresight.orders import Orders, Wanted, read_orders
from hjepa_gfn.exemplary.missions import Memory, Mission, Pair, Part
from hjepa_gfn.exemplary.simulation import CODES, DIRECTIONS, Cell, Item, Layout, State
from hjepa_gfn.worlds.language import AGENT_CELL, COLOUR_WORDS, DOOR, DOOR_STATES, UNSEEN, WALL, Place, carried, things_in_view

NORTH = 3
HOME: Cell = (20, 20)  # no cell near it is (-1, -1), which the verifier takes for "nowhere"
_NOTHING = Part(0, "go", "", (), (), False)  # in the place of a mission that cannot be read
_FAR = 12  # unknown cells so far around the agent are told apart; while the agent knows where it is, it stands in the view
_NO_LIMIT = 10**9  # of steps, for the simulator's dynamics; see `Picture.least_limit`


class Picture(NamedTuple):
    """What the percept shows.

    Attributes:
        sure: the state at the start; the mission's things are those in view that are wanted for sure.
        hopeful: the same; the mission's things are all that may be wanted, and unknown cells may hold them.
        known: the cells that are in view.
        readable: whether the mission could be read; if not, nothing is known of its being fulfilled.
        least_limit: the limit on steps is no lower: it is at least the number of cells of the agent's room (see the design
            specification), and that room is as long and as wide as the longer side that is seen.
    """

    sure: State
    hopeful: State
    known: frozenset[Cell]
    readable: bool
    least_limit: int


class Hopeful(Memory):
    """A verifier's memory that reckons with things in unknown cells."""

    __slots__ = ("unknown", "anywhere", "anywhere_beside")

    def copy(self) -> "Hopeful":
        """An independent copy."""
        memory = Hopeful()
        for name in (*Memory.__slots__, *Hopeful.__slots__):
            setattr(memory, name, getattr(self, name))
        memory.carried, memory.done = list(self.carried), dict(self.done)
        return memory

    def look_again(self, mission: Mission, at: dict) -> None:
        """As `Memory.look_again`; parts whose thing may be elsewhere have all unknown cells too."""
        super().look_again(mission, at)
        more = lambda cells, far: cells | self.unknown if far else cells
        self.places = [more(cells, far) for cells, far in zip(self.places, self.anywhere)]
        self.beside = [more(cells, far) for cells, far in zip(self.beside, self.anywhere_beside)]


def cell_of(place: Place) -> Cell:
    """(ahead, right) as a cell of the picture."""
    return HOME[0] + place[1], HOME[1] - place[0]


def place_of(cell: Cell) -> Place:
    """The inverse of `cell_of`."""
    return HOME[1] - cell[1], cell[0] - HOME[0]


def picture(view: np.ndarray, mission: str, state: Callable[..., State] = State) -> Picture:
    """Pictures a percept.

    Args:
        view: uint8[7, 7, 3].
        mission: the instruction, lower case.
        state: makes states, as `State` does: one with other dynamics gives what somebody with a naive physics pictures.
    """
    walls = frozenset(cell_of((AGENT_CELL[1] - j, i - AGENT_CELL[0])) for i, j in np.argwhere(view[..., 0] == WALL).tolist())
    seen = frozenset(cell_of((AGENT_CELL[1] - j, i - AGENT_CELL[0])) for i, j in np.argwhere(view[..., 0] != UNSEEN).tolist())
    items, at, door = [], {}, {}
    for thing in things_in_view(view):
        cell = cell_of(thing.place)
        at[cell] = len(items)
        if thing.kind == "door":
            door[len(items)] = DOOR_STATES.index(thing.state)
        items.append(Item(CODES[thing.kind], COLOUR_WORDS.index(thing.colour)))
    held = carried(view)
    if held:
        items.append(Item(CODES[held.kind], COLOUR_WORDS.index(held.colour)))
    try:
        orders = read_orders(mission)
    except UserError:
        orders = None
    known = seen | {HOME}
    room = _room(walls, at, items, known)

    def start(sure: bool) -> State:
        asked = _with_things(orders, items, at, room, sure) if orders else Mission(_NOTHING, (_NOTHING,), ())
        layout = Layout(0, 0, walls, tuple(items), asked, _NO_LIMIT)
        return state(layout, HOME, NORTH, dict(at), dict(door), len(items) - 1 if held else None)

    sure, hopeful = start(True), start(False)
    if orders:
        hopeful.memory = _hope(orders, hopeful, known, room)
    side = max(max(cell[axis] for cell in room) - min(cell[axis] for cell in room) + 1 for axis in (0, 1))
    return Picture(sure, hopeful, known, orders is not None, side * side)


def _room(walls: frozenset, at: dict, items: list[Item], known: frozenset) -> frozenset[Cell]:
    """Cells that lie in the agent's own room for sure: reached from it over seen cells, without passing a door or a wall."""
    inside, todo = {HOME}, [HOME]
    while todo:
        x, y = todo.pop()
        for dx, dy in DIRECTIONS:
            cell = (x + dx, y + dy)
            if cell in inside or cell not in known:
                continue
            inside.add(cell)
            if cell not in walls and (cell not in at or items[at[cell]].kind != DOOR):
                todo.append(cell)
    return frozenset(inside)


def _things(wanted: Wanted, items: list[Item], at: dict, room: frozenset, sure: bool) -> tuple[int, ...]:
    """Numbers of the things in view that are wanted: for sure, or as far as one can tell."""
    found = [(item, cell) for cell, item in at.items() if wanted.matches(items[item].name, place_of(cell))]
    return tuple(item for item, cell in found if not (sure and wanted.side) or cell in room)


def _with_things(orders: Orders, items: list[Item], at: dict, room: frozenset, sure: bool) -> Mission:
    parts = []
    for part, wanted, beside in zip(orders.mission.parts, orders.wanted, orders.beside):
        next_to = _things(beside, items, at, room, sure) if beside else ()
        parts.append(part._replace(things=_things(wanted, items, at, room, sure), beside=next_to))

    def rebuilt(node: Part | Pair) -> Part | Pair:
        if isinstance(node, Part):
            return parts[node.number]
        return node._replace(first=rebuilt(node.first), second=rebuilt(node.second))

    return Mission(rebuilt(orders.mission.tree), tuple(parts), ())


def _hope(orders: Orders, state: State, known: frozenset, room: frozenset) -> Hopeful:
    memory = Hopeful()
    memory.carried, memory.done, memory.finished = [None] * len(orders.wanted), {}, ()
    far = range(-_FAR, _FAR + 1)
    around = {(HOME[0] + x, HOME[1] + y) for x in far for y in far}
    memory.unknown = frozenset(around - known)
    items, at = list(state.layout.items), state.at

    def anywhere(wanted: Wanted | None) -> bool:
        # "the" says that there is one, so where it is in view, no unknown cell holds another.
        return wanted is not None and not (wanted.article == "the" and _things(wanted, items, at, room, True))

    memory.anywhere = [anywhere(wanted) for wanted in orders.wanted]
    memory.anywhere_beside = [anywhere(wanted) for wanted in orders.beside]
    memory.look_again(state.layout.mission, at)
    return memory
