"""Rationality: do the whole mission, its parts in order, without waste, and as far as it takes."""

from collections.abc import Iterator
from itertools import groupby

from hjepa_gfn.exemplary.checkers.case import Case, Finding, Violation
from hjepa_gfn.exemplary.geometry import destination
from hjepa_gfn.exemplary.phrases import Plan
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT

VAIN = ("blocked", "nothing")
MAX_DEAD_RECKONING = 40  # beyond so many steps a walk is not dead-reckoned from the first percept
MAX_OVERSHOOT = 3


def fulfil_the_mission(case: Case) -> Iterator[Finding]:
    """The plan fulfils the mission, and states what it does for every part."""
    done = {part for part, _ in case.rollout.done}
    if not case.rollout.success:
        left = [part.goal for part in case.layout.mission.parts if part.number not in done]
        what = f"it does not {left[0]}" if left else "a part comes at the wrong time"
        yield Violation("fulfil-the-mission", None, f"{what}, so the mission is not fulfilled.")
    if case.plan and any(clause.goal for clause in case.plan):
        for part in case.layout.mission.parts:
            if not _stated(case.plan, part.goal):
                yield Violation("fulfil-the-mission", None, f"no part of the plan is there to {part.goal}.")


def parts_in_order(case: Case) -> Iterator[Finding]:
    """The parts are planned in the order that the mission asks for; parts in the same words are not told apart."""
    parts = case.layout.mission.parts
    words = [part.goal for part in parts]
    for before, after in case.layout.mission.order if case.plan else ():
        if words.count(words[before]) > 1 or words.count(words[after]) > 1:
            continue
        first, second = _stated(case.plan, words[before]), _stated(case.plan, words[after])
        if first and second and min(first) > min(second):
            yield Violation("parts-in-order", None, f"to {words[after]} comes after to {words[before]}.")
            return


def _stated(plan: Plan, goal: str) -> list[int]:
    """The clauses of a plan that have a goal, alone or with another one."""
    return [i for i, clause in enumerate(plan) if goal == clause.goal or goal in clause.goal.split(" and ")]


def no_detours(case: Case) -> Iterator[Finding]:
    """Nothing is done only to be undone, unless something that is needed came into view on the way."""
    rollout = case.rollout
    for since, until in wasted_spans(rollout):
        yield Violation("no-detours", since, f"steps {since + 1} to {until} lead back to where they began.")
    for t, n in turns_on_the_spot(rollout):
        if n >= 3:
            yield Violation("no-detours", t, f"{n} turns one way, where {'none' if n == 4 else 'fewer'} would do.")
    if rollout.success and len(rollout.actions) > rollout.steps:
        yield Violation("no-detours", rollout.steps, f"the mission is fulfilled after {rollout.steps} steps; the rest is idle.")


def turns_on_the_spot(rollout: Rollout) -> Iterator[tuple[int, int]]:
    """Runs of equal turns: (first step, how many). A part of the mission that is done meanwhile ends a run."""
    ends, t = {end for _, end in rollout.done}, 0
    while t < rollout.steps:
        start = t
        t += 1
        while t < rollout.steps and rollout.actions[t] == rollout.actions[start] and t not in ends:
            t += 1
        if rollout.actions[start] in (LEFT, RIGHT):
            yield start, t - start


def wasted_spans(rollout: Rollout) -> list[tuple[int, int]]:
    """Spans of steps (since, until) that end in the state in which they began, with nothing found meanwhile.

    Steps without any effect alone are no such span: they are physics' and design's business.
    """
    spans, last = [], {}
    for t, key in enumerate(rollout.keys):
        since = last.get(key)
        if since is not None and any(e.kind not in VAIN for e in rollout.effects[since:t]):
            if not _found_something(rollout, since, t):
                spans.append((since, t))
                last = {}
        last[key] = t
    return spans


def _found_something(rollout: Rollout, since: int, until: int) -> bool:
    """Whether something that the plan turns to later was first seen between two times."""
    size = (rollout.layout.width, rollout.layout.height)
    aims = [cell for t, cell in rollout.aims if t >= until and 0 <= cell[0] < size[0] and 0 <= cell[1] < size[1]]
    return any(since < rollout.seen[cell] <= until for cell in aims)


def right_distance(case: Case) -> Iterator[Finding]:
    """What is in view is walked to as far as it is, no further and no less far."""
    first = _moves_before_handling(case.rollout.actions)
    places = {thing.place for thing in case.things if any(target.matches(thing) for target in case.targets)}
    if case.rollout.success or len(first) > MAX_DEAD_RECKONING or not places or destination(first) in places:
        return
    start = 0
    for action, run in groupby(first):
        n = len(list(run))
        if action == FORWARD:
            for change in (*range(-1, -min(n, MAX_OVERSHOOT) - 1, -1), *range(1, MAX_OVERSHOOT + 1)):
                other = first[:start] + [FORWARD] * (n + change) + first[start + n :]
                if destination(other) in places:
                    wrong = f"{-change} too far" if change < 0 else f"{change} too short"
                    yield Violation("right-distance", start, f"the walk of {n} is {wrong} for what is in view.")
                    return
        start += n


def _moves_before_handling(actions: tuple[int, ...]) -> list[int]:
    n = next((i for i, action in enumerate(actions) if action not in (LEFT, RIGHT, FORWARD)), len(actions))
    return list(actions[:n])
