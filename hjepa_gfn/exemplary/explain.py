"""Explanations: why this plan, on grounds of what is perceived (or, in a draft, of what is mistaken for it).

Drafts and final texts are worded by the same function from a belief, so that only the percept tells them apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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
        role: of `aim`: "target", "means" (serves to get at the target, e.g. a key) or "blocker" (has to be moved away).
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
        role = "target" if target else _role_of_other(actions)
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


def explanation(belief: Belief, actions: Sequence[int], style: int) -> str:
    """One sentence that says why, lower case, with a full stop.

    Args:
        belief: what the plan rests on.
        actions: the plan's actions; their first one is what the sentence gives as the first step.
        style: which of the equivalent wordings to use (any integer).
    """
    if belief.aim is None:
        return _looking_around(belief, style)
    where = f"the {belief.aim} is {place_in_words(belief.place)}"
    if belief.role == "means":
        return f"i need the {belief.aim} first: it is {place_in_words(belief.place)}."
    if belief.role == "blocker":
        return f"{where} and blocks the way, so i move it first."
    if belief.obstacle:
        return (
            f"{where}, but the {belief.obstacle} is in the way.",
            f"{where} and the {belief.obstacle} is in the way, so i go around it.",
        )[style % 2]
    first = {LEFT: "turn left", RIGHT: "turn right", FORWARD: "go forward"}.get(actions[0], "act at once")
    return (
        f"because {where}.",
        f"{where}, so i {first} first.",
        f"i see that {where}.",
        f"since {where}, i {first} first.",
    )[style % 4]


def _looking_around(belief: Belief, style: int) -> str:
    if belief.place is not None:
        where = f"the {belief.target} is {place_in_words(belief.place)}"
        if belief.any_will_do:
            return f"{where}, but there may be one nearer by, so i look around."
        return f"{where}, but i need something that i do not see yet."
    return (
        f"because i do not see the {belief.target} yet, i look around first.",
        f"i do not see the {belief.target} yet, so i look around first.",
        f"the {belief.target} is not in view, so i look around first.",
        f"no {belief.target} is in view yet, so i search for it.",
    )[style % 4]
