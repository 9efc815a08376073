"""The sound plan: the planner's, tidied until no principle is broken, cut into a clause for each part of the mission."""

from collections.abc import Sequence
from typing import NamedTuple

from hjepa_gfn.exemplary.checkers.case import Case, Violation
from hjepa_gfn.exemplary.checkers.ethics import handling, put_aside, take_only_needed
from hjepa_gfn.exemplary.checkers.rationality import turns_on_the_spot, wasted_spans
from hjepa_gfn.exemplary.doors import left_open, shut_behind, turns
from hjepa_gfn.exemplary.explain import true_belief
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.thought import Step, Thought
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.worlds.babyai import RIGHT

_ROUNDS = 4
_SHUT_KEY = -10  # keys of steps that shut a door: _SHUT_KEY - number of the door


class Sound(NamedTuple):
    """The sound thought; and for each door that it shuts, by the steps' key: the steps that stood there before."""

    thought: Thought
    unshut: dict[int, tuple[Step, ...]]


def sound_plan(toolbox: Toolbox) -> Sound | None:
    """The sound plan of a situation, or None where the planner does not get there or nothing is to be done."""
    run = toolbox.bot()
    if not run.rollout.success or not run.rollout.actions:
        return None
    steps = [Step(*step, 0) for step in zip(run.rollout.actions, run.subgoal, run.key)]
    steps, unshut = _fewer_turns(_without_detours(steps, toolbox), toolbox), {}
    for _ in range(_ROUNDS):  # an excursion is seen to lead back only once the doors behind it are shut
        before = steps
        steps = _leaving_alone(_putting_aside(steps, toolbox), toolbox)
        steps, shut = _shutting_doors(steps, toolbox)
        unshut |= shut
        steps = _fewer_turns(_without_detours(steps, toolbox), toolbox)
        if steps == before:
            break
    done = toolbox.rollout(_actions(steps))
    if not done.success:
        return None
    steps = steps[: done.steps]
    clause_of, goals = clauses(done)
    steps = tuple(step._replace(clause=clause) for step, clause in zip(steps, clause_of))
    situation = toolbox.situation
    first = _actions([step for step in steps if step.clause == 0])
    return Sound(Thought(steps, goals, true_belief(situation.view, situation.mission, first)), unshut)


def _actions(steps: Sequence[Step]) -> tuple[int, ...]:
    return tuple(step.action for step in steps)


def _without_detours(steps: list[Step], toolbox: Toolbox) -> list[Step]:
    while spans := wasted_spans(toolbox.rollout(_actions(steps))):
        since, until = spans[0]
        steps = steps[:since] + steps[until:]
    return steps


def _fewer_turns(steps: list[Step], toolbox: Toolbox) -> list[Step]:
    """Three turns one way as one the other way, where they do not do a part of the mission on the way."""
    start = 0
    while long := [(t, n) for t, n in turns_on_the_spot(toolbox.rollout(_actions(steps))) if n >= 3 and t >= start]:
        t, n = long[0]
        by = n if steps[t].action == RIGHT else -n
        shorter = [*steps[:t], *(steps[t]._replace(action=action) for action in turns(by)), *steps[t + n :]]
        if toolbox.rollout(_actions(shorter)).success:
            steps, start = shorter, t
        else:
            start = t + 1
    return steps


def _putting_aside(steps: list[Step], toolbox: Toolbox) -> list[Step]:
    """Turns to another free cell where something would be put down in a doorway."""
    for _ in range(4):
        now = _in_doorways(steps, toolbox)
        if not now:
            break
        t = now[0].step
        candidates = []
        for by in (1, 2, 3):
            aside = [*turns(by), steps[t].action, *turns(-by)]
            candidates.append([*steps[:t], *(steps[t]._replace(action=a) for a in aside), *steps[t + 1 :]])
        better = [
            _fewer_turns(c, toolbox) for c in candidates
            if toolbox.rollout(_actions(c)).success and len(_in_doorways(c, toolbox)) < len(now)
        ]  # fmt: skip
        if not better:
            break
        steps = min(better, key=len)
    return steps


def _leaving_alone(steps: list[Step], toolbox: Toolbox) -> list[Step]:
    """Leaves out picking up, and putting down again, what turns out not to be needed."""
    for _ in range(4):
        done = toolbox.rollout(_actions(steps))
        case = Case(toolbox.situation, None, None, done)
        for finding in take_only_needed(case):
            if not isinstance(finding, Violation):
                continue
            without = [step for s, step in enumerate(steps) if s not in handling(done, finding.step)]
            if toolbox.rollout(_actions(without)).success:
                steps = _fewer_turns(_without_detours(without, toolbox), toolbox)
                break
        else:
            break
    return steps


def _in_doorways(steps: list[Step], toolbox: Toolbox) -> list[Violation]:
    case = Case(toolbox.situation, None, None, toolbox.rollout(_actions(steps)))
    return [finding for finding in put_aside(case) if isinstance(finding, Violation)]


def _shutting_doors(steps: list[Step], toolbox: Toolbox) -> tuple[list[Step], dict[int, tuple[Step, ...]]]:
    unshut: dict[int, tuple[Step, ...]] = {}
    done = toolbox.rollout(_actions(steps))
    for item in left_open(done):
        done = toolbox.rollout(_actions(steps))
        if (shutting := shut_behind(done, item)) is None:
            continue
        key, name = _SHUT_KEY - item, f"close {done.layout.items[item].name}"
        replaced = steps[shutting.start : shutting.start + len(shutting.dropped)]
        if any(step.key in unshut for step in replaced):
            unshut.pop(next(step.key for step in replaced if step.key in unshut))
        unshut[key] = tuple(replaced)
        new = [Step(action, name, key, 0) for action in shutting.new]
        steps = [*steps[: shutting.start], *new, *steps[shutting.start + len(replaced) :]]
    return steps, unshut


def clauses(done: Rollout) -> tuple[list[int], tuple[str, ...]]:
    """For each step the number of its clause, and each clause's goal in words, in the order in which parts are done."""
    goals: list[str] = []
    ends: list[int] = []
    parts = done.layout.mission.parts
    for number, end in done.done:
        if ends and ends[-1] == end:  # done by one and the same step
            goals[-1] += f" and {parts[number].goal}"
        else:
            goals.append(parts[number].goal)
            ends.append(end)
    clause_of = [next((i for i, end in enumerate(ends) if t < end), len(ends) - 1) for t in range(done.steps)]
    return clause_of, tuple(goals)

