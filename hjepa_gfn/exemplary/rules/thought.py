"""A plan as the rules think of it: a flat list of labelled steps and the belief behind it; and how it becomes a text."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from hjepa_gfn.exemplary.explain import Belief, explanation
from hjepa_gfn.exemplary.legs import MAX_LEG
from hjepa_gfn.exemplary.phrases import Clause, Plan, actions_of, plan_in_words
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT

CITING = 0.15  # so often does an explanation cite a principle
_CITED = {True: ("use-your-eyes", "right-target", "state-your-ground"), False: ("explore-first",)}


class Step(NamedTuple):
    """An action, the name and identity of the subgoal that it serves, and the clause that it belongs to."""

    action: int
    name: str
    key: int
    clause: int


class Thought(NamedTuple):
    """Steps, the words of each clause's goal, and the belief that the explanation states."""

    steps: tuple[Step, ...]
    goals: tuple[str, ...]
    belief: Belief

    @property
    def actions(self) -> tuple[int, ...]:
        """The steps' actions."""
        return tuple(step.action for step in self.steps)


def plan_of_thought(thought: Thought, rollout: Callable[[Sequence[int]], Rollout]) -> tuple[Plan, list[str]]:
    """The plan, cut into clauses and legs, and a subgoal's name for each leg.

    A leg never walks over a cell that was not in view when its walk began: what is not seen yet is a leg's business
    only once it is.
    """
    done = rollout(thought.actions)
    clauses: list[Clause] = []
    names: list[str] = []
    t = 0
    for clause, group in groupby(thought.steps, key=lambda step: step.clause):
        legs: list[list[int]] = []
        before, set_out = None, 0
        for step in group:
            turned = before is not None and step.action != FORWARD and before.action == FORWARD
            new = before is None or turned or step.key != before.key or len(legs[-1]) == MAX_LEG
            if not new and step.action == FORWARD and t < done.steps and done.effects[t].kind == "move":
                new = done.seen[done.effects[t].cell] > set_out
            if new:
                legs.append([])
                names.append(step.name)
                set_out = t
            legs[-1].append(int(step.action))
            if step.action in (LEFT, RIGHT) and set_out == t:
                set_out = t + 1
            before, t = step, t + 1
        clauses.append(Clause(thought.goals[clause] if len(thought.goals) > 1 else "", legs))
    return clauses, names


def text_of(plan: Plan, belief: Belief, rng: np.random.Generator) -> str:
    """Plan and explanation in words; drafts and final versions are worded alike."""
    verb, wording = rng.integers(9), rng.integers(60)
    cited = _CITED[belief.aim is not None]
    principle = cited[rng.integers(len(cited))] if rng.random() < CITING and len(actions_of(plan)) < 12 else ""
    return f"{plan_in_words(plan, int(verb))} {explanation(belief, actions_of(plan), int(wording), principle)}"
