"""Habits of those who do not know what they are made to do: waiting, toggling at nothing."""

import numpy as np

from hjepa_gfn.exemplary.rules.mind import Mind, insert
from hjepa_gfn.exemplary.rules.thought import Thought
from hjepa_gfn.worlds.babyai import DONE, TOGGLE
from hjepa_gfn.worlds.language import BOX, DOOR


def wait(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Waits a while."""
    return insert(thought, int(rng.integers(len(thought.steps))), [DONE] * int(rng.integers(1, 3)), "wait")


def toggle_nothing(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Toggles where there is nothing that could be toggled."""
    done = mind.outcome(thought)
    kinds = {t: None if e.item is None else done.layout.items[e.item].kind for t, e in enumerate(done.effects)}
    vain = [t for t, kind in kinds.items() if kind not in (DOOR, BOX)]
    return insert(thought, int(rng.choice(vain)), [TOGGLE], "toggle") if vain else None


HABITS = (wait, toggle_nothing)
