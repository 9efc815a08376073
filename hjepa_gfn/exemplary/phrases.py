"""Plans in words and back: a plan is a list of legs, a leg is a list of primitive action ids.

The plan part of a text ends at its first full stop. Every leg is stated, so `parse_plan` gives back the plan exactly:

    full    turn left and go forward 2, then turn right twice and walk forward 1.
    terse   left, forward 2; right twice, forward 1.          (for plans of many legs)
"""

import re
from itertools import groupby

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.babyai import DONE, DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE

Plan = list[list[int]]

FORWARD_VERBS = ("go forward", "walk forward", "move forward")
_FULL = {LEFT: "turn left", RIGHT: "turn right", PICKUP: "pick up", DROP: "drop", TOGGLE: "toggle", DONE: "wait"}
_TERSE = {**_FULL, LEFT: "left", RIGHT: "right"}
_WORD_TO_ACTION = {"left": LEFT, "right": RIGHT, "up": PICKUP, "drop": DROP, "toggle": TOGGLE, "wait": DONE}
_PHRASE = re.compile(r"(?:turn |pick )?(left|right|up|drop|toggle|wait)(?: (twice|\d+ times))?")
_FORWARD_PHRASE = re.compile(r"(?:(?:go|walk|move) )?forward (\d+)")
TERSE_FROM = 4  # plans with at least so many legs are stated tersely, to keep texts short


def plan_in_words(plan: Plan, style: int = 0) -> str:
    """States a plan, leg by leg, with a closing full stop.

    Args:
        plan: legs of action ids, none of them empty; at least one leg.
        style: which of the equivalent verbs to use (any integer).
    """
    verb = FORWARD_VERBS[style % len(FORWARD_VERBS)]
    terse = len(plan) >= TERSE_FROM
    legs = [_leg_in_words(leg, verb, terse) for leg in plan]
    return ("; ".join(legs) if terse else ", then ".join(legs)) + "."


def _leg_in_words(leg: list[int], verb: str, terse: bool) -> str:
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
        UserError: a phrase that is no step of a plan.
    """
    statement = text.partition(".")[0].strip()
    if not statement:
        raise UserError(f"text states no plan: {text!r}")
    if ", then " in statement:
        legs = [leg.split(" and ") for leg in statement.split(", then ")]
    elif ";" in statement:
        legs = [leg.split(",") for leg in statement.split(";")]
    else:
        legs = [re.split(r" and |,", statement)]
    return [[action for phrase in leg for action in _parse_phrase(phrase.strip(), text)] for leg in legs]


def _parse_phrase(phrase: str, text: str) -> list[int]:
    if match := _FORWARD_PHRASE.fullmatch(phrase):
        return [FORWARD] * int(match[1])
    if match := _PHRASE.fullmatch(phrase):
        times = match[2]
        n = 1 if times is None else 2 if times == "twice" else int(times.split()[0])
        return [_WORD_TO_ACTION[match[1]]] * n
    raise UserError(f"cannot read {phrase!r} as a step of a plan, in {text!r}")
