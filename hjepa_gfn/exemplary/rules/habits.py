"""Naive habits, by discipline. A naive plan is the sound plan as seen through some of them; a review lets go of one.

Every habit is a function `(mind, thought, rng) -> thought | None`; None means that it makes no sense here. Habits of later
disciplines act first, so that what an early review repairs uncovers what is left for the later ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hjepa_gfn.exemplary.checkers import DISCIPLINES, violations
from hjepa_gfn.exemplary.rules import habits_design, habits_epistemology, habits_ethics, habits_physics, habits_rationality
from hjepa_gfn.exemplary.rules.mind import Mind
from hjepa_gfn.exemplary.rules.thought import Thought

Function = Callable[[Mind, Thought, np.random.Generator], Thought | None]
HABITS: dict[str, tuple[Function, ...]] = {
    "rationality": habits_rationality.HABITS,
    "epistemology": habits_epistemology.HABITS,
    "physics": habits_physics.HABITS,
    "ethics": habits_ethics.HABITS,
    "design": habits_design.HABITS,
}
SHARE = {"rationality": 0.95, "epistemology": 0.95, "physics": 0.95, "ethics": 0.6, "design": 0.15}
SECOND = {"rationality": 0.25, "epistemology": 0.35, "physics": 0.35}  # so often are there two of a discipline
FEWEST = 3  # habits that a first draft has, where there are so many ways to go wrong
# Mistakes that show in the words of a plan, without a look at the percept: they are mostly left for last, so that whoever
# learns from drafts has to look.
TELLING = frozenset({"detour", "dither", "grab_air", "take_along", "fetch", "wait", "toggle_nothing"})
TELLING_SHARE = 0.3


class Habit(NamedTuple):
    """A habit that a draft has: the discipline that objects to it, its name, what it does."""

    discipline: str
    name: str
    function: Function


def draw_habits(mind: Mind) -> tuple[Habit, ...]:
    """The habits of a situation's first draft, in the order of the disciplines; each alone would be objected to."""
    rng = mind.rng("habits")
    wanted = {name: int(rng.random() < SHARE[name]) + int(rng.random() < SECOND.get(name, 0)) for name in HABITS}
    found: list[Habit] = []
    left_for_last: list[Habit] = []
    for discipline, functions in HABITS.items():
        for i in rng.permutation(len(functions)):
            habit = Habit(discipline, functions[i].__name__, functions[i])
            if habit.name in TELLING and rng.random() > TELLING_SHARE:
                left_for_last.append(habit)
            elif wanted[discipline] and _is_objected_to(mind, habit):
                found.append(habit)
                wanted[discipline] -= 1
    for i in rng.permutation(len(left_for_last)):
        if len(found) < FEWEST and _is_objected_to(mind, left_for_last[i]):
            found.append(left_for_last[i])
    return tuple(sorted(found, key=lambda habit: list(HABITS).index(habit.discipline)))


def _is_objected_to(mind: Mind, habit: Habit) -> bool:
    thought = see_through(mind, (habit,))
    if thought is mind.sound.thought or thought.actions == mind.sound.thought.actions:
        return False
    return bool(violations(mind.case(thought), DISCIPLINES[habit.discipline]))


def see_through(mind: Mind, habits: tuple[Habit, ...]) -> Thought:
    """The sound thought as seen through habits; what each subset of them leads to is worked out once."""
    if not habits:
        return mind.sound.thought
    key = tuple(habit.name for habit in habits)
    if key not in mind.seen_through:
        thought = see_through(mind, habits[1:])
        seen = habits[0].function(mind, thought, mind.rng("habit", key[0]))
        mind.seen_through[key] = seen if seen and seen.steps else thought  # a plan has one step at least
    return mind.seen_through[key]
