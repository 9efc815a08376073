"""Epistemology: believe what is perceived, look for what is not, and say on what ground."""

from collections.abc import Iterator

from hjepa_gfn.exemplary.checkers.case import Case, Finding, Violation
from hjepa_gfn.exemplary.claims import FIRST_STEPS, Claim
from hjepa_gfn.exemplary.geometry import destination
from hjepa_gfn.exemplary.phrases import legs_of
from hjepa_gfn.worlds.babyai import LEFT, RIGHT
from hjepa_gfn.worlds.language import place_in_words


def false_places(case: Case) -> Iterator[tuple[Claim, str]]:
    """Claims of a place that are not true, and what is the matter: "mirrored", "other", "empty" or "unseen"."""
    for claim in case.claims:
        if claim.kind != "at":
            continue
        there = case.thing_at(claim.place)
        if there is not None and claim.fits(there):
            continue
        ahead, right = claim.place
        mirror = case.thing_at((ahead, -right))
        if mirror is not None and claim.fits(mirror):
            yield claim, "mirrored"
        elif there is not None:
            yield claim, "other"
        else:
            yield claim, "empty" if any(claim.fits(thing) for thing in case.things) else "unseen"


def right_target(case: Case) -> Iterator[Finding]:
    """What the plan goes to is what the mission names."""
    for claim, matter in false_places(case):
        if matter == "other":
            there = case.thing_at(claim.place)
            yield Violation("right-target", None, f"what is {place_in_words(there.place)} is the {there.name}.")
            return
    rollout = case.rollout
    if rollout.success or rollout.effects and rollout.effects[-1].kind == "blocked":
        return
    cell = rollout.final.front
    item = rollout.final.at.get(cell)
    wanted = {i for part in case.layout.mission.parts for i in (*part.things, *part.beside)}
    if item is not None and item not in wanted and item not in rollout.final.door:
        yield Violation("right-target", None, f"the plan ends at the {case.name(item)}, which the mission does not name.")


def left_is_left(case: Case) -> Iterator[Finding]:
    """Sides are the sides that are perceived."""
    for claim, matter in false_places(case):
        if matter == "mirrored":
            ahead, right = claim.place
            yield Violation("left-is-left", None, f"the {claim.what} is {place_in_words((ahead, -right))}.")
            return
    if case.rollout.success:
        return
    ahead, right = destination(case.rollout.actions)
    mirror, there = case.thing_at((ahead, -right)), case.thing_at((ahead, right))
    if right and there is None and mirror and any(target.matches(mirror) for target in case.targets):
        yield Violation("left-is-left", None, f"the {mirror.name} is {place_in_words(mirror.place)}, on the other side.")


def use_your_eyes(case: Case) -> Iterator[Finding]:
    """What is in view is not said to be out of view."""
    for claim in case.claims:
        seen = next((thing for thing in case.things if claim.fits(thing)), None)
        if claim.kind == "unseen" and seen:
            yield Violation("use-your-eyes", None, f"the {claim.what} is {place_in_words(seen.place)}, in plain view.")


def explore_first(case: Case) -> Iterator[Finding]:
    """No leg relies on what was not in view when it set out; what is not perceived is looked for, not assumed."""
    for claim, matter in false_places(case):
        if matter == "unseen":
            yield Violation("explore-first", None, f"no {claim.what} is in view: the plan assumes where it is.")
            break
    if not case.plan:
        return
    rollout, t = case.rollout, 0
    if not any(target.matches(thing) for target in case.targets for thing in case.things):
        first = legs_of(case.plan)[0]
        end = min(len(first), rollout.steps)
        in_vain = all(effect.kind in ("blocked", "nothing") for effect in rollout.effects[:end])
        if in_vain and 0 < end < rollout.steps:
            yield Violation("explore-first", 0, "the plan does not begin with a look around.")
    for leg in legs_of(case.plan):
        turns = next((i for i, action in enumerate(leg) if action not in (LEFT, RIGHT)), len(leg))
        for s in range(len(leg)):
            if t + s >= rollout.steps:
                return
            effect = rollout.effects[t + s]
            if effect.kind in ("move", "pickup", "toggle") and rollout.seen[effect.cell] > t + turns:
                what = "a place that" if effect.kind == "move" else f"the {case.name(effect.item)}, which"
                yield Violation("explore-first", t + s, f"step {t + s + 1} relies on {what} had not been in view.")
                break
        t += len(leg)


def state_your_ground(case: Case) -> Iterator[Finding]:
    """The explanation says what the plan rests on, and the first percept bears it out."""
    if case.explanation is None:
        return
    if not any(claim.kind in ("at", "unseen") for claim in case.claims):
        yield Violation("state-your-ground", None, "the explanation names nothing that is or is not perceived.")
    for claim, matter in false_places(case):
        if matter == "empty":
            yield Violation("state-your-ground", None, f"nothing of the kind is {place_in_words(claim.place)}.")
    for claim in case.claims:
        if claim.kind == "way" and not any(claim.fits(thing) for thing in case.things):
            yield Violation("state-your-ground", None, f"no {claim.what} is in view, so none is seen in the way.")
        first = FIRST_STEPS.get(case.rollout.actions[0]) if case.rollout.actions else None
        if claim.kind == "first" and claim.what != first:
            yield Violation("state-your-ground", 0, f"the explanation says to {claim.what} first; the plan does not.")
