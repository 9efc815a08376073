"""Predictions in words and back: in this situation, the agent does that; what happens?

The stated part of a text ends at its first full stop; phrases are joined by "; ", in any order, and say each of the five
`TOPICS` once. What cannot be known is said in one phrase, so `parse_prediction` gives back the prediction exactly:

    step 3 has no effect; nothing is held at the end; the red door ends up open; the mission is fulfilled; 5 steps are taken.
    every step has an effect; what is held and what is changed cannot be known from what is in view; the mission is ...
"""

import re
from typing import NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import MAX_ACTIONS
from hjepa_gfn.worlds.language import COLOUR_WORDS, OBJECT_WORDS

Change = tuple[str, str]  # the thing's name, and how it ends up: one of `ENDS`
ENDS = ("open", "closed", "moved", "broken")


class Prediction(NamedTuple):
    """What happens. None, for every part: that cannot be known from what is in view.

    Attributes:
        vain: number of the first step that has no effect (walks against something, handles nothing, waits), from 1; 0: none.
        held: name of what is in hand at the end; "": nothing.
        changes: what has become of doors and things (what is in hand left out), sorted.
        fulfilled: whether the mission is fulfilled.
        steps: how many steps are taken, until the episode or the plan ends.
    """

    vain: int | None
    held: str | None
    changes: tuple[Change, ...] | None
    fulfilled: bool | None
    steps: int | None


TOPICS = {
    "vain": "which step fails",
    "held": "what is held",
    "changes": "what is changed",
    "fulfilled": "whether the mission is fulfilled",
    "steps": "how many steps are taken",
}
UNKNOWABLE = ("cannot be known from what is in view", "cannot be told from here", "cannot be made out from here")
_NO_STEP_FAILS = ("every step has an effect", "no step fails", "no step is in vain")
_STEP_FAILS = ("step {} has no effect", "step {} is the first to fail", "the first step in vain is step {}")
_NOTHING_HELD = ("nothing is held at the end", "the hand is empty at the end", "the agent ends up with nothing in hand")
_HELD = ("the {} is held at the end", "the {} is in hand at the end", "the agent ends up with the {} in hand")
_UNCHANGED = ("nothing is changed", "all doors and things stay as they were", "no door and no thing is changed")
_FULFILLED = {
    True: ("the mission is fulfilled", "this fulfils the mission", "that does what was asked"),
    False: ("the mission is not fulfilled", "this does not fulfil the mission", "that does not do what was asked"),
}
_STEPS = ("{} taken", "it is over after {}", "the episode takes {}")

_NAME = rf"((?:{'|'.join(COLOUR_WORDS)}) (?:{'|'.join(OBJECT_WORDS.values())}))"
_CHANGE = re.compile(rf"the {_NAME} ends up ({'|'.join(ENDS)})")
_COUNT = r"(\d+) steps?"


def prediction_in_words(prediction: Prediction, style: int = 0) -> str:
    """States a prediction, with a closing full stop. `style`: which of the equivalent wordings (any integer)."""
    way = lambda wordings, base: wordings[style // base % len(wordings)]
    phrases: list[str] = []
    if prediction.vain is not None:
        phrases.append(way(_STEP_FAILS, 1).format(prediction.vain) if prediction.vain else way(_NO_STEP_FAILS, 1))
    if prediction.held is not None:
        phrases.append(way(_HELD, 3).format(prediction.held) if prediction.held else way(_NOTHING_HELD, 3))
    if prediction.changes is not None:
        changes = " and ".join(f"the {name} ends up {end}" for name, end in prediction.changes)
        phrases.append(changes or way(_UNCHANGED, 9))
    if prediction.fulfilled is not None:
        phrases.append(way(_FULFILLED[prediction.fulfilled], 27))
    if prediction.steps is not None:
        n = prediction.steps
        taken = f"{n} step{'s' if n != 1 else ''}"
        phrases.append(way(_STEPS, 81).format(f"{taken} {'are' if n != 1 else 'is'}" if style // 81 % 3 == 0 else taken))
    if unknown := [TOPICS[name] for name in Prediction._fields if getattr(prediction, name) is None]:
        phrases.append(f"{' and '.join(unknown)} {way(UNKNOWABLE, 243)}")
    start = style // 729 % 2 * 3 % len(phrases)  # the mission first, or the steps
    return "; ".join((*phrases[start:], *phrases[:start])) + "."


def parse_prediction(text: str) -> Prediction:
    """The prediction that a text states: the inverse of `prediction_in_words`; what follows the first full stop is ignored.

    Raises:
        UserError: a phrase that says nothing about what happens, a part that is said twice or not at all, or a number of
            steps beyond `MAX_ACTIONS`.
    """
    statement = text.partition(".")[0].strip()
    if not statement:
        raise UserError(f"text states no prediction: {text!r}")
    found: dict[str, object] = {}
    for phrase in statement.split(";"):
        for name, value in _parts_of(phrase.strip()):
            if name in found:
                raise UserError(f"a prediction says once {TOPICS[name]}, this one twice: {phrase.strip()!r}")
            found[name] = value
    for name, topic in TOPICS.items():
        if name not in found:
            raise UserError(f"the prediction does not say {topic}, nor that it {UNKNOWABLE[0]}")
    return Prediction(**found)


def _parts_of(phrase: str) -> list[tuple[str, object]]:
    for tail in UNKNOWABLE:
        if phrase.endswith(f" {tail}"):
            names = {topic: name for name, topic in TOPICS.items()}
            topics = phrase[: -len(tail) - 1].split(" and ")
            if all(topic in names for topic in topics):
                return [(names[topic], None) for topic in topics]
    if phrase in _NO_STEP_FAILS:
        return [("vain", 0)]
    if phrase in _NOTHING_HELD:
        return [("held", "")]
    if phrase in _UNCHANGED:
        return [("changes", ())]
    for value, wordings in _FULFILLED.items():
        if phrase in wordings:
            return [("fulfilled", value)]
    if match := _match(_STEP_FAILS, r"(\d+)", phrase):
        return [("vain", _number(match, 1))]
    if match := _match(_HELD, _NAME, phrase):
        return [("held", match)]
    if match := _match((_STEPS[0].format("{} (?:is|are)"), *_STEPS[1:]), _COUNT, phrase):
        return [("steps", _number(match, 0))]
    changes = [_CHANGE.fullmatch(part) for part in phrase.split(" and ")]
    if all(changes):
        return [("changes", tuple(sorted((change[1], change[2]) for change in changes)))]
    raise UserError(f"cannot read {phrase[:200]!r} as a part of a prediction")


def _match(wordings: tuple[str, ...], pattern: str, phrase: str) -> str | None:
    matches = (re.fullmatch(wording.format(pattern), phrase) for wording in wordings)
    return next((match[1] for match in matches if match), None)


def _number(digits: str, least: int) -> int:
    digits = digits.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(MAX_ACTIONS)) else MAX_ACTIONS + 1
    if not least <= number <= MAX_ACTIONS:
        raise UserError(f"a prediction speaks of {least} to {MAX_ACTIONS} steps, not of {digits[:20]}")
    return number
