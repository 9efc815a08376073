"""What a mission asks for, read from its words alone. BabyAI's grammar:

    mission  order | order ", then " order | order " after you " order | order " and " order
    order    "go to" D | "open" D | "pick up" D | "put" D "next to" D
    D        ("the" | "a") [colour] (kind | "object") ["in front of you" | "behind you" | "on your left" | "on your right"]
"""

import re
from typing import NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.missions import Mission, Pair, Part
from hjepa_gfn.worlds.language import COLOUR_WORDS, OBJECT_WORDS, Place

_SIDES = ("in front of you", "behind you", "on your left", "on your right")
_WHAT = rf"(the|an?) (?:({'|'.join(COLOUR_WORDS)}) )?({'|'.join(OBJECT_WORDS.values())}|object)(?: ({'|'.join(_SIDES)}))?"
_ORDERS = (
    ("go", re.compile(rf"go to {_WHAT}")),
    ("open", re.compile(rf"open {_WHAT}")),
    ("pick", re.compile(rf"pick up {_WHAT}")),
    ("put", re.compile(rf"put {_WHAT} next to {_WHAT}")),
)
_JOINTS = ((", then ", "before"), (" after you ", "after"), (" and ", "and"))


class Wanted(NamedTuple):
    """A thing as a mission names it: "the" says that there is only one; "" stands for any colour or kind, or no side."""

    article: str
    colour: str
    kind: str
    side: str

    def matches(self, name: str, place: Place) -> bool:
        """Whether a thing of this name ("red ball"), at this place as seen from the start, is of the kind that is wanted.

        A side counts in the room only where the mission was given: whether the thing lies there is another question.
        """
        colour, kind = name.split()
        ahead, right = place
        on_side = {"": True, _SIDES[0]: ahead > 0, _SIDES[1]: ahead < 0, _SIDES[2]: right < 0, _SIDES[3]: right > 0}
        return self.colour in ("", colour) and self.kind in ("", kind) and on_side[self.side]


class Orders(NamedTuple):
    """A mission as it is stated: its tree, whose parts know no things yet; for each part what is wanted, and beside what."""

    mission: Mission
    wanted: tuple[Wanted, ...]
    beside: tuple[Wanted | None, ...]


def read_orders(mission: str) -> Orders:
    """Reads a mission's words.

    Raises:
        UserError: words that are no mission of BabyAI's grammar.
    """
    parts: list[Part] = []
    wanted: list[Wanted] = []
    beside: list[Wanted | None] = []
    pairs = 0

    def read(words: str) -> Part | Pair:
        nonlocal pairs
        for joint, kind in _JOINTS:
            first, found, second = words.partition(joint)
            if found:
                pairs += 1
                return Pair(pairs - 1, kind, read(first), read(second), False)
        for kind, pattern in _ORDERS:
            if match := pattern.fullmatch(words):
                fields = [field or "" for field in match.groups()]
                things = [Wanted(f[0], f[1], "" if f[2] == "object" else f[2], f[3]) for f in (fields[:4], fields[4:]) if f]
                wanted.append(things[0])
                beside.append(things[1] if len(things) > 1 else None)
                parts.append(Part(len(parts), kind, words, (), (), False))
                return parts[-1]
        raise UserError(f"cannot read {words!r} as a part of a mission")

    tree = read(mission.strip())
    return Orders(Mission(tree, tuple(parts), ()), tuple(wanted), tuple(beside))
