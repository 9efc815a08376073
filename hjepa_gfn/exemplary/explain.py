"""Explanations: why this plan, on grounds of what is perceived (or, in a draft, of what is mistaken for it).

Drafts and final texts are worded by the same function from a belief, so that only the percept tells them apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hjepa_gfn.exemplary.claims import FIRST_STEPS
from hjepa_gfn.exemplary.geometry import destination
from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT
from hjepa_gfn.worlds.language import Description, Place, Thing, mission_targets, place_in_words, things_in_view


class Belief(NamedTuple):
    """What a plan rests on.

    Attributes:
        target: name of the mission's (first) target, e.g. "red ball".
        aim: name of what the plan goes to first, believed to be in view; None: nothing in view helps, look around.
        place: where `aim` (or, without an aim, the target) is believed to be, relative to the agent; None: not in view.
        obstacle: name of a thing that is in the way, or None.
        role: of `aim`: "target", "means" (serves to get at the target, e.g. a key), "door" (the way leads
            through it) or "blocker" (has to be moved away).
        any_will_do: whether the mission leaves open which of several objects to go to.
    """

    target: str
    aim: str | None = None
    place: Place | None = None
    obstacle: str | None = None
    role: str = "target"
    any_will_do: bool = False


def true_belief(view: np.ndarray, mission: str, actions: Sequence[int]) -> Belief:
    """The belief behind a sound plan: what the percept really shows of what the plan goes to."""
    targets = mission_targets(mission) or [Description("", "")]
    things = things_in_view(view)
    place = destination(actions)
    at_place = next((thing for thing in things if thing.place == place), None)
    if at_place is not None:
        target = next((target for target in targets if target.matches(at_place)), None)
        name = target.name if target else at_place.name
        role = "target" if target else "door" if at_place.kind == "door" else _role_of_other(actions)
        return Belief(targets[0].name, name, place, obstacle_before(things, place), role)
    seen = next((thing for thing in things if targets[0].matches(thing)), None)
    # The target may be in view while the plan begins with something unseen: a key to fetch, another such target.
    any_will_do = len(targets) == 1 and mission.startswith(("go to a ", "pick up a "))
    return Belief(targets[0].name, None, seen.place if seen else None, any_will_do=any_will_do)


def _role_of_other(actions: Sequence[int]) -> str:
    """Why a plan goes first to what is no target: things picked up only to be put down again are blockers."""
    handling = [action for action in actions if action not in (LEFT, RIGHT, FORWARD)]
    return "blocker" if handling[:2] == [PICKUP, DROP] else "means"


def obstacle_before(things: list[Thing], place: Place) -> str | None:
    """What lies straight between the agent and a place straight ahead of it."""
    ahead, right = place
    if right != 0:
        return None
    return next((thing.name for thing in things if thing.place[1] == 0 and 0 < thing.place[0] < ahead), None)


def explanation(belief: Belief, actions: Sequence[int], style: int, principle: str = "") -> str:
    """One sentence that says why, lower case, with a full stop.

    Args:
        belief: what the plan rests on.
        actions: the plan's actions; their first one is what the sentence gives as the first step.
        style: which of the equivalent wordings to use (any integer).
        principle: id of a principle to cite, or "".
    """
    wordings = _wordings(belief, FIRST_STEPS.get(actions[0]))
    sentence = wordings[style % len(wordings)]
    if principle:
        sentence = (f"mindful of {principle}: {sentence}", f"{sentence[:-1]}, as {principle} asks.")[style % 2]
    return sentence


def _wordings(belief: Belief, first: str | None) -> list[str]:
    if belief.aim is None:
        return _looking_around(belief)
    place = place_in_words(belief.place)
    where = f"the {belief.aim} is {place}"
    if belief.role == "means":
        return [
            f"i need the {belief.aim} first: it is {place}.",
            f"{where}, and i need it first.",
            f"{where}; only with it do i get further.",
        ]
    if belief.role == "door":
        return [
            f"the way leads through the {belief.aim}: it is {place}.",
            f"{where}, and the way leads through it.",
            f"{where}; i have to get through there first.",
        ]
    if belief.role == "blocker":
        return [
            f"{where} and blocks the way, so i move it first.",
            f"i move the {belief.aim} first: it is {place} and blocks the way.",
        ]
    if belief.obstacle:
        return [
            f"{where}, but the {belief.obstacle} is in the way.",
            f"{where} and the {belief.obstacle} is in the way, so i go around it.",
            f"the {belief.obstacle} is in the way; {where}.",
        ]
    plain = [
        f"because {where}.",
        f"i see that {where}.",
        f"i see the {belief.aim} {place}.",
        f"what i want, the {belief.aim}, is {place}.",
        f"{where}: that is where i have to go.",
    ]
    return plain + [f"{where}, so i {first} first.", f"since {where}, i {first} first."] * 2 if first else plain


def _looking_around(belief: Belief) -> list[str]:
    target = belief.target
    if belief.place is not None:
        where = f"the {target} is {place_in_words(belief.place)}"
        if belief.any_will_do:
            return [
                f"{where}, but there may be one nearer by, so i look around.",
                f"{where}; perhaps another one is nearer, so i look around first.",
            ]
        return [
            f"{where}, but i need something that i do not see yet.",
            f"{where}, yet what i need first is still out of sight.",
        ]
    return [
        f"because i do not see the {target} yet, i look around first.",
        f"i do not see the {target} yet, so i look around first.",
        f"the {target} is not in view, so i look around first.",
        f"no {target} is in view yet, so i search for it.",
        f"as i cannot see the {target} from here, i go and look.",
    ]
