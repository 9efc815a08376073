"""Plans as one line of text, and back.

    s0 -[3]{ . -[1]-> 2 -[_]-> . }-> 7 -[_]-> sT

reads: from s0, with action 3, to state 7, then somehow to the end; action 3 spelled out one scale finer between the same two
states (the dots): action 1 to state 2, then somehow to 7. The grammar (EBNF; spaces between symbols are free):

    plan   = "s0" view "sT"
    view   = edge { state edge }
    edge   = "-[" action "]" [ "{" "." view "." "}" ] "->"       the braces: the edge is expanded, its sub-plan within
    action = "_" | [ "!" ] code                                  "_": the placeholder; "!": given with the plan's seed
    state  = code
    code   = a number from 0, or a name where the vocabulary has names

Brackets nest scales: the outermost view is of scale 0, each pair of braces one finer. `!` may stand on the first edge of scale
0 only (see `plans.seeding`). Every plan has exactly one text, up to the order of its buffer and spaces.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.plans.plan import Plan, seed_edits
from hjepa_gfn.plans.spec import PlanSpec
from hjepa_gfn.plans.tree import EMPTY, Edge, Timeline, plan_of, timeline_of

WORD = r"\w+(?:[-.:+/]\w+)*"
SYMBOL = re.compile(rf"-\[|\]|\{{|\}}|->|!|\.|{WORD}")
RESERVED = ("_", "s0", "sT")


class Names(NamedTuple):
    """Names of codes: per scale a sequence with one name a code, or None where that vocabulary's codes are numbers.

    A name is a word (letters, digits, `_`; inside also `-`, `.`, `:`, `+`, `/`) other than `_`, `s0`, `sT`.
    """

    states: Sequence[Sequence[str] | None]
    actions: Sequence[Sequence[str] | None]


class Words(NamedTuple):
    """The word of each code, by scale."""

    states: list[list[str]]
    actions: list[list[str]]


def print_plan(plan: Plan, spec: PlanSpec, names: Names | None = None) -> str:
    """The text of one plan (leaves without batch axes); `parse_plan` reads it back.

    Raises:
      UserError: names that do not fit the spec. ValueError: the plan has batch axes.
    """
    words = _words(spec, names)

    def view(timeline, scale, seeded=False):
        parts = [edge(timeline.edges[0], scale, seeded)]
        for state, right in zip(timeline.states, timeline.edges[1:]):
            parts += [words.states[scale][state], edge(right, scale)]
        return " ".join(parts)

    def edge(held, scale, seeded=False):
        action = "_" if held.action is None else "!" * seeded + words.actions[scale][held.action]
        inside = "" if held.inside is None else f"{{ . {view(held.inside, scale + 1)} . }}"
        return f"-[{action}]{inside}->"

    return f"s0 {view(timeline_of(plan), 0, bool(seed_edits(plan) > 0))} sT"


def parse_plan(text: str, spec: PlanSpec, names: Names | None = None) -> Plan:
    """The plan of a text (numpy leaves without batch axes), its states in reading order in the buffer.

    Raises:
      UserError: text that is not of the grammar, or a plan that is not of this spec (unknown codes, too many scales, states or
        edits): one line with the column (from 1), what was found there and what would be right.
    """
    return _Reader(text, spec, _words(spec, names)).plan()


def _words(spec: PlanSpec, names: Names | None) -> Words:
    """The word of every code; refuses names from which the codes could not be read back."""
    table = []
    for kind, sizes in (("states", spec.state_codes), ("actions", spec.action_codes)):
        given = [None] * spec.num_scales if names is None else getattr(names, kind)
        if len(given) != spec.num_scales:
            raise UserError(f"names.{kind}: {len(given)} scales are named; give one entry for each of {spec.num_scales}")
        table.append([])
        for scale, size in enumerate(sizes):
            word = [str(code) for code in range(size)] if given[scale] is None else list(given[scale])
            where = f"names.{kind}, scale {scale}"
            if len(word) != size or len(set(word)) != size:
                raise UserError(f"{where}: {len(set(word))} different names; give one for each of {size} codes")
            for name in word:
                if name in RESERVED or not re.fullmatch(WORD, name):
                    raise UserError(f"{where}: {name!r} cannot be told from the text around it; name codes by single words")
            table[-1].append(word)
    return Words(*table)


class _Reader:
    """Recursive descent over the symbols of one text; each method reads one rule of the grammar."""

    def __init__(self, text: str, spec: PlanSpec, words: Words):
        self.text, self.spec, self.words = text, spec, words
        self.place = self.states = self.edits = self.removable = 0
        self.seeded = False

    def fail(self, expected: str, at: int | None = None, found: str | None = None) -> UserError:
        at, symbol = self._look() if at is None else (at, found)
        return UserError(f"plan text, column {at + 1}: found {symbol}; expected {expected}")

    def _look(self) -> tuple[int, str]:
        """(where the next symbol begins, the symbol in quotes)."""
        at = len(self.text) - len(self.text[self.place:].lstrip())
        if at == len(self.text):
            return at, "the end of the text"
        symbol = SYMBOL.match(self.text, at)
        return at, f"'{symbol.group() if symbol else self.text[at]}'"

    def peek(self, symbol: str) -> bool:
        return self._look()[1] == f"'{symbol}'"

    def take(self, symbol: str, expected: str | None = None) -> None:
        if not self.peek(symbol):
            raise self.fail(expected or f"'{symbol}'")
        self.place = self._look()[0] + len(symbol)

    def count_edit(self) -> None:
        """Counts the edit that the next symbol stands for."""
        self.edits += 1
        if self.edits > self.spec.max_edits:
            raise self.fail(f"the plan to end: at most {self.spec.max_edits} edits lead to a plan of this family")

    def code(self, kind: str, scale: int, also: str = "") -> int:
        """Reads a code of one vocabulary."""
        words, (at, found) = getattr(self.words, kind)[scale], self._look()
        word = found[1:-1]
        if word not in words:
            numbers = words == [str(code) for code in range(len(words))]
            known = f"0 to {len(words) - 1}" if numbers else ", ".join(words[:12]) + ", ..." * (len(words) > 12)
            raise self.fail(f"{also}a code of the {kind} of scale {scale} ({known})", at, found)
        self.count_edit()
        self.take(word)
        return words.index(word)

    def plan(self) -> Plan:
        self.take("s0")
        view = self.view(0, "sT")
        self.take("sT")
        if self._look()[0] < len(self.text):
            raise self.fail("the end of the text")
        if self.states + 1 == self.spec.capacity and self.edits and not self.removable:
            raise self.fail(
                f"fewer than {self.spec.capacity - 1} states, or one of them between two plain, empty edges", self.place,
                "the end of a plan that fills its buffer, though no state can have come last")
        return plan_of(view, self.spec, self.seeded)

    def view(self, scale: int, end: str) -> Timeline:
        edges, states, room = [self.edge(scale, first=scale == 0)], [], self.spec.capacity - 1
        while not self.peek(end):
            at, found = self._look()
            states.append(self.code("states", scale, f"'{end}' or "))
            self.states += 1
            if self.states > room:
                raise self.fail(f"'{end}': plans of this family have room for {room} states between s0 and sT", at, found)
            edges.append(self.edge(scale))
        self.removable += sum(left == right == EMPTY for left, right in zip(edges[:-1], edges[1:]))
        return Timeline(tuple(edges), tuple(states))

    def edge(self, scale: int, first: bool = False) -> Edge:
        self.take("-[")
        action = inside = None
        if first and self.peek("!"):
            self.take("!")
            self.seeded, self.edits = True, self.edits - 1
            action = self.code("actions", scale)
        elif self.peek("_"):
            self.take("_")
        else:
            action = self.code("actions", scale, "'_' or ")
        self.take("]")
        finest = scale == self.spec.num_scales - 1
        if self.peek("{") and not finest:
            self.count_edit()
            self.take("{")
            self.take(".")
            inside = self.view(scale + 1, ".")
            self.take(".")
            self.take("}")
        self.take("->", f"'->': scale {scale} is the finest" if finest else "'{' or '->'" if inside is None else None)
        return Edge(action, inside)
