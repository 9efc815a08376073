"""What an explanation claims about the first percept: read off its words, so that anybody's explanation can be checked."""

import re
from typing import NamedTuple

from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.language import COLOUR_WORDS, OBJECT_WORDS, Description, Place, Thing

_KINDS = "|".join((*OBJECT_WORDS.values(), "object"))
_NAME = rf"(?:(?:{'|'.join(COLOUR_WORDS)}) )?(?:{_KINDS})"
_PLACE = r"(\d+) (ahead|behind)(?: and (\d+) to the (left|right))?|(\d+) to the (left|right)"
_ANY_NAME = re.compile(rf"\b({_NAME})\b")
_UNSEEN = (
    re.compile(rf"\b(?:do not|don't|cannot|can't) see (?:the |a |an |any )?({_NAME})\b"),
    re.compile(rf"\b({_NAME}) is not in view\b"),
    re.compile(rf"\bno ({_NAME}) is in view\b"),
)
_IN_THE_WAY = re.compile(rf"\b({_NAME}) is in the way\b")
_FIRST = re.compile(r"\bi (turn left|turn right|go forward) first\b")
FIRST_STEPS = {LEFT: "turn left", RIGHT: "turn right", FORWARD: "go forward"}


class Claim(NamedTuple):
    """A claim.

    Attributes:
        kind: "at" (a thing is at a place), "unseen" (a thing is not in view), "way" (a thing is in the way), "first"
            (the plan's first step).
        what: the thing as it is named, or the first step in words.
        place: where, with "at".
    """

    kind: str
    what: str
    place: Place | None = None

    def fits(self, thing: Thing) -> bool:
        """Whether the claim's name is one of the thing's."""
        *colour, kind = self.what.split()
        return Description("" if kind == "object" else kind, colour[0] if colour else "").matches(thing)


def claims_of(explanation: str) -> list[Claim]:
    """All claims of an explanation, sentence by sentence; a place belongs to the thing that was named last before it."""
    claims = []
    for sentence in re.split(r"[.;!?]\s", explanation.lower() + " "):
        for match in re.finditer(_PLACE, sentence):
            named = [name for name in _ANY_NAME.finditer(sentence) if name.end() <= match.start()]
            if named:
                claims.append(Claim("at", named[-1][1], _place(match)))
        claims += [Claim("unseen", match[1]) for pattern in _UNSEEN for match in pattern.finditer(sentence)]
        claims += [Claim("way", match[1]) for match in _IN_THE_WAY.finditer(sentence)]
        claims += [Claim("first", match[1]) for match in _FIRST.finditer(sentence)]
    return claims


def _place(match: re.Match) -> Place:
    ahead_n, ahead_side, right_n, right_side, only_n, only_side = match.groups()
    ahead = int(ahead_n or 0) * (-1 if ahead_side == "behind" else 1)
    right = int(right_n or only_n or 0) * (-1 if "left" in (right_side, only_side) else 1)
    return ahead, right
