"""What fulfils a mission: MiniGrid's instructions as plain data, with the same verdicts.

A mission is a tree of pairs ("before", "after", "and") over parts. What the verifier remembers between steps is kept
apart, in a `Memory`, so that a state can be copied. The quirks are MiniGrid's: positions are looked up again only when
something is dropped, and what was carried before a part became due is not known to it.
"""

from typing import Any, NamedTuple

from minigrid.envs.babyai.core import verifier
from minigrid.minigrid_env import MiniGridEnv

from hjepa_gfn.worlds.babyai import DROP, PICKUP, TOGGLE
from hjepa_gfn.worlds.language import DOOR

_NO_PLACE = (-1, -1)
_KINDS = {verifier.GoToInstr: "go", verifier.OpenInstr: "open", verifier.PickupInstr: "pick", verifier.PutNextInstr: "put"}
_PAIRS = {verifier.BeforeInstr: "before", verifier.AfterInstr: "after", verifier.AndInstr: "and"}


class Part(NamedTuple):
    """One thing to do.

    Attributes:
        number: of the part, from 0, in the order in which the mission states the parts.
        kind: "go", "open", "pick" or "put".
        goal: in the mission's words, e.g. "pick up the red ball".
        things: numbers of the items that will do (to go to, open, pick up, or put somewhere).
        beside: numbers of the items next to which to put it.
        strict: whether handling another item fails the mission.
    """

    number: int
    kind: str
    goal: str
    things: tuple[int, ...]
    beside: tuple[int, ...]
    strict: bool


class Pair(NamedTuple):
    """Two missions, to be done in an order ("before": first, then second; "after": second first) or any ("and")."""

    number: int
    kind: str
    first: "Part | Pair"
    second: "Part | Pair"
    strict: bool


class Mission(NamedTuple):
    """A mission: the tree, its parts in the order stated, and which part must precede which."""

    tree: Part | Pair
    parts: tuple[Part, ...]
    order: tuple[tuple[int, int], ...]

    def verify(self, state: Any, action: int, effect: Any) -> int:
        """1: fulfilled, -1: failed, 0: neither. To be called after every action. `state`: `simulation.State`."""
        return _verify(self.tree, state, action, effect, True)


class Memory:
    """What the verifier remembers: per part what was carried before and where its items are; per pair what is done."""

    __slots__ = ("carried", "places", "beside", "done", "finished")

    @classmethod
    def of(cls, mission: Mission, at: dict) -> "Memory":
        """The memory at an episode's start."""
        memory = cls()
        memory.carried = [None] * len(mission.parts)
        memory.done = {}
        memory.finished = ()
        memory.look_again(mission, at)
        return memory

    def copy(self) -> "Memory":
        """An independent copy."""
        memory = Memory()
        memory.carried, memory.done, memory.finished = list(self.carried), dict(self.done), self.finished
        memory.places, memory.beside = self.places, self.beside
        return memory

    def look_again(self, mission: Mission, at: dict) -> None:
        """Looks up where the items of every part lie."""
        where = {item: cell for cell, item in at.items()}
        self.places = [frozenset(where[i] for i in part.things if i in where) for part in mission.parts]
        self.beside = [frozenset(where[i] for i in part.beside if i in where) for part in mission.parts]

    def key(self) -> tuple:
        """Equal where the mission's progress is equal."""
        return self.finished


def _verify(node: Part | Pair, state: Any, action: int, effect: Any, counts: bool) -> int:
    if isinstance(node, Part):
        verdict = _verify_part(node, state, action, effect)
        if verdict == 1 and counts:
            state.memory.finished += (node.number,)
        return verdict
    done = state.memory.done
    if node.kind == "and":
        for side, part in enumerate((node.first, node.second)):
            if not done.get((node.number, side)):
                done[node.number, side] = _verify(part, state, action, effect, counts) == 1
        return int(done[node.number, 0] and done[node.number, 1])
    earlier, later = (node.first, node.second) if node.kind == "before" else (node.second, node.first)
    if not done.get((node.number, 0)):
        verdict = _verify(earlier, state, action, effect, counts)
        if verdict == -1:
            return -1
        if verdict == 0:
            out_of_order = node.strict and _verify(later, state, action, effect, False) == 1
            return -1 if out_of_order else 0
        done[node.number, 0] = True
    return _verify(later, state, action, effect, counts)


def _verify_part(part: Part, state: Any, action: int, effect: Any) -> int:
    memory = state.memory
    if part.kind == "go":
        return int(state.front in memory.places[part.number])
    if part.kind == "open":
        if action != TOGGLE:
            return 0
        item = state.at.get(effect.cell)
        if item in part.things and state.door[item] == 0:
            return 1
        is_door = item is not None and state.layout.items[item].kind == DOOR
        return -1 if part.strict and is_door else 0
    before, memory.carried[part.number] = memory.carried[part.number], state.carrying
    if part.kind == "pick":
        if action != PICKUP:
            return 0
        if before is None and state.carrying in part.things:
            return 1
        return -1 if part.strict and state.carrying is not None else 0
    if part.strict and action == PICKUP and state.carrying is not None:
        return -1
    if action != DROP or before not in part.things:
        return 0
    x, y = effect.cell if effect.kind == "drop" and effect.item == before else _NO_PLACE
    return int(any(abs(x - a) + abs(y - b) == 1 for a, b in memory.beside[part.number]))


def read_mission(env: MiniGridEnv, numbers: dict[int, int]) -> Mission:
    """The mission of a simulator right after its reset. `numbers`: item number by identity of MiniGrid's object."""
    parts: list[Part] = []
    pairs: list[int] = []

    def read(instr: verifier.Instr) -> Part | Pair:
        if type(instr) in _PAIRS:
            first, second = read(instr.instr_a), read(instr.instr_b)
            pairs.append(0)
            return Pair(len(pairs) - 1, _PAIRS[type(instr)], first, second, bool(instr.strict))
        kind = _KINDS[type(instr)]
        things = instr.desc_move if kind == "put" else instr.desc
        beside = instr.desc_fixed.obj_set if kind == "put" else ()
        strict = bool(getattr(instr, "strict", False))
        parts.append(Part(len(parts), kind, "", _numbers(things.obj_set, numbers), _numbers(beside, numbers), strict))
        return parts[-1]

    tree = read(env.instrs)
    goals = _goals_in_words(env.mission.lower(), len(parts))
    parts = [part._replace(goal=goal) for part, goal in zip(parts, goals)]
    return Mission(_with_goals(tree, parts), tuple(parts), tuple(_order(tree)))


def _numbers(things: list, numbers: dict[int, int]) -> tuple[int, ...]:
    return tuple(numbers[id(thing)] for thing in things if id(thing) in numbers)


def _goals_in_words(mission: str, n: int) -> list[str]:
    """The mission's words, cut into its parts; their order is the one in which the parts are stated."""
    words = mission
    for joint in (", then ", " after you ", " and "):
        words = words.replace(joint, "|")
    goals = [goal.strip() for goal in words.split("|")]
    return goals if len(goals) == n else [mission] * n


def _with_goals(node: Part | Pair, parts: list[Part]) -> Part | Pair:
    if isinstance(node, Part):
        return parts[node.number]
    return node._replace(first=_with_goals(node.first, parts), second=_with_goals(node.second, parts))


def parts_of(node: Part | Pair) -> list[Part]:
    """The parts of a tree, in the order stated."""
    return [node] if isinstance(node, Part) else parts_of(node.first) + parts_of(node.second)


def _order(node: Part | Pair) -> list[tuple[int, int]]:
    if isinstance(node, Part):
        return []
    inner = _order(node.first) + _order(node.second)
    if node.kind == "and":
        return inner
    earlier, later = (node.first, node.second) if node.kind == "before" else (node.second, node.first)
    return inner + [(a.number, b.number) for a in parts_of(earlier) for b in parts_of(later)]
