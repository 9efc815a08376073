"""Plans in words and back. A plan is a list of clauses, a clause a list of legs, a leg a list of primitive action ids.

The plan part of a text ends at its first full stop. Every leg is stated, so `parse_plan` gives back the plan exactly:

    plan    clause, or for a mission of several parts: "to GOAL: legs" clauses, joined by "; then, " or the like
    full    turn left and go forward 2, then turn right twice and walk forward 1.
    terse   left, forward 2; right twice, forward 1.          (for clauses of many legs)

    to open the red door: left, forward 2; toggle; after that, to go to a ball: forward 3.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.babyai import DONE, DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE

Leg = list[int]


class Clause(NamedTuple):
    """A part of a plan: what it is for, in words (no colon, full stop or semicolon; "" if not said), and its legs."""

    goal: str
    legs: list[Leg]


Plan = list[Clause]

FORWARD_VERBS = ("go forward", "walk forward", "move forward")
CONNECTIVES = ("then", "after that", "next")
MAX_ACTIONS = 1000  # of a plan that is read: no level needs as many, and "go forward 99999999999" must not be written out
TERSE_FROM = 4  # clauses with at least so many legs are stated tersely, to keep texts short
_FULL = {LEFT: "turn left", RIGHT: "turn right", PICKUP: "pick up", DROP: "drop", TOGGLE: "toggle", DONE: "wait"}
_TERSE = {**_FULL, LEFT: "left", RIGHT: "right"}
_WORD_TO_ACTION = {"left": LEFT, "right": RIGHT, "up": PICKUP, "drop": DROP, "toggle": TOGGLE, "wait": DONE}
_PHRASE = re.compile(r"(?:turn |pick )?(left|right|up|drop|toggle|wait)(?: (twice|\d+ times))?")
_FORWARD_PHRASE = re.compile(r"(?:(?:go|walk|move) )?forward (\d+)")
_GOAL = r"to ([^:;.]+): "
_NEXT_CLAUSE = re.compile(rf"; (?:{'|'.join(CONNECTIVES)}), (?={_GOAL})")


def legs_of(plan: Plan) -> list[Leg]:
    """All legs of a plan, in order."""
    return [leg for clause in plan for leg in clause.legs]


def actions_of(plan: Plan) -> list[int]:
    """All actions of a plan, in order."""
    return [action for leg in legs_of(plan) for action in leg]


def plan_in_words(plan: Plan, style: int = 0) -> str:
    """States a plan, leg by leg, with a closing full stop.

    Args:
        plan: at least one clause, each of at least one leg of at least one action. A lone clause needs no goal.
        style: which of the equivalent verbs and connectives to use (any integer).

    Raises:
        UserError: a clause without a goal among several, or a goal that would not read back.
    """
    words = []
    for clause in plan:
        if (clause.goal or len(plan) > 1) and not re.fullmatch(_GOAL, f"to {clause.goal}: "):
            raise UserError(f"{clause.goal!r} cannot be a clause's goal: a few words without colon, semicolon and full stop")
        goal = f"to {clause.goal}: " if clause.goal else ""
        words.append(goal + _legs_in_words(clause.legs, FORWARD_VERBS[style % len(FORWARD_VERBS)]))
    connective = CONNECTIVES[style // len(FORWARD_VERBS) % len(CONNECTIVES)]
    return f"; {connective}, ".join(words) + "."


def _legs_in_words(legs: list[Leg], verb: str) -> str:
    terse = len(legs) >= TERSE_FROM
    return ("; " if terse else ", then ").join(_leg_in_words(leg, verb, terse) for leg in legs)


def _leg_in_words(leg: Leg, verb: str, terse: bool) -> str:
    phrases = []
    for action, run in groupby(leg):
        n = len(list(run))
        if action == FORWARD:
            phrases.append(f"{'forward' if terse else verb} {n}")
        else:
            times = "" if n == 1 else " twice" if n == 2 else f" {n} times"
            phrases.append((_TERSE if terse else _FULL)[action] + times)
    return (", " if terse else " and ").join(phrases)


def parse_plan(text: str) -> Plan:
    """The plan that a text states: the inverse of `plan_in_words`; what follows the first full stop is ignored.

    Raises:
        UserError: a phrase that is no step of a plan, or more than `MAX_ACTIONS` actions.
    """
    statement = text.partition(".")[0].strip()
    if not statement:
        raise UserError(f"text states no plan: {text!r}")
    if not (first := re.match(_GOAL, statement)):
        return [Clause("", _parse_legs(statement, text))]
    parts = _NEXT_CLAUSE.split(statement[first.end() :])  # legs, then goal and legs of each further clause
    goals = [first[1], *parts[1::2]]
    legs = [parts[0], *(re.sub(f"^{_GOAL}", "", part) for part in parts[2::2])]
    plan = [Clause(goal, _parse_legs(words, text)) for goal, words in zip(goals, legs, strict=True)]
    _check_length(len(leg) for leg in legs_of(plan))
    return plan


def explanation_of(text: str) -> str:
    """What follows the plan's full stop."""
    return text.partition(".")[2].strip()

def _parse_legs(statement: str, text: str) -> list[Leg]:
    if ", then " in statement:
        legs = [leg.split(" and ") for leg in statement.split(", then ")]
    elif ";" in statement:
        legs = [leg.split(",") for leg in statement.split(";")]
    else:
        legs = [re.split(r" and |,", statement)]
    runs = [[_parse_phrase(phrase.strip(), text) for phrase in leg] for leg in legs]
    _check_length(n for leg in runs for _, n in leg)
    return [[action for action, n in leg for _ in range(n)] for leg in runs]


def _check_length(lengths: Iterable[int]) -> None:
    if sum(lengths) > MAX_ACTIONS:
        raise UserError(f"a plan takes at most {MAX_ACTIONS} actions, this one has more")


def _parse_phrase(phrase: str, text: str) -> tuple[int, int]:
    """An action and how often it is taken; a number too long to be read counts as too many."""
    if match := _FORWARD_PHRASE.fullmatch(phrase):
        return FORWARD, _number(match[1])
    if match := _PHRASE.fullmatch(phrase):
        times = match[2]
        return _WORD_TO_ACTION[match[1]], 1 if times is None else 2 if times == "twice" else _number(times.split()[0])
    raise UserError(f"cannot read {phrase!r} as a step of a plan, in {text!r}")


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= len(str(MAX_ACTIONS)) else MAX_ACTIONS + 1
