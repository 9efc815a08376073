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
FEWEST = 3  # disciplines that a first draft offends against, where there are so many ways to


class Habit(NamedTuple):
    """A habit that a draft has: the discipline that objects to it, its name, what it does."""

    discipline: str
    name: str
    function: Function


def draw_habits(mind: Mind) -> tuple[Habit, ...]:
    """The habits of a situation's first draft, in the order of the disciplines; each alone would be objected to."""
    rng = mind.rng("habits")
    found: dict[str, Habit] = {}
    keen = [discipline for discipline in HABITS if rng.random() < SHARE[discipline]]
    for discipline in (*keen, *(name for name in HABITS if name not in keen)):
        if discipline not in keen and len(found) >= FEWEST:
            break
        for i in rng.permutation(len(HABITS[discipline])):
            function = HABITS[discipline][i]
            habit = Habit(discipline, function.__name__, function)
            if _is_objected_to(mind, habit):
                found[discipline] = habit
                break
    return tuple(found[name] for name in HABITS if name in found)


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
        mind.seen_through[key] = habits[0].function(mind, thought, mind.rng("habit", key[0])) or thought
    return mind.seen_through[key]
