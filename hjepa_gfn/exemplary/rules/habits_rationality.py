"""Habits of the irrational: detours, wrong distances, parts in the wrong order or left out."""

import numpy as np

from hjepa_gfn.exemplary.geometry import destination
from hjepa_gfn.exemplary.rules.mind import Mind, first_clause, insert
from hjepa_gfn.exemplary.rules.thought import Step, Thought
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.language import free_ahead, walkable


def detour(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Starts with moves that lead back to where they began."""
    side = int(rng.choice((LEFT, RIGHT)))
    prefixes = [[side] * 4, [side, LEFT + RIGHT - side]]
    if (free := min(free_ahead(mind.view), 3)) >= 2:
        prefixes.append([FORWARD] * free + [side] * 2 + [FORWARD] * free + [side] * 2)
    sign = 1 if side == RIGHT else -1
    if all(walkable(mind.view, (0, sign * n)) for n in (1, 2)):
        prefixes.append([side] + [FORWARD] * 2 + [side] * 2 + [FORWARD] * 2 + [side])
    return insert(thought, 0, prefixes[rng.integers(len(prefixes))], "wander")


def dither(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Turns one way and back again on the way."""
    side = int(rng.choice((LEFT, RIGHT)))
    turns = [side, LEFT + RIGHT - side]
    places = [t for t in range(1, len(thought.steps)) if thought.steps[t].action == FORWARD != thought.steps[t - 1].action]
    places = places or list(range(len(thought.steps)))
    return insert(thought, int(rng.choice(places)), turns, "dither")


def overshoot(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Walks too far before a turn, taking the target to be further off than it is."""
    if mind.belief.aim is None:
        return None
    walk, rest = first_clause(thought)
    n = next((i for i, step in enumerate(walk) if step.action > FORWARD), len(walk))
    corners = [t for t in range(1, n) if walk[t].action != FORWARD and walk[t - 1].action == FORWARD]
    if not corners:
        return None
    corner = int(rng.choice(corners))
    further = (walk[corner - 1],) * int(rng.integers(1, 4))
    walk = (*walk[:corner], *further, *walk[corner:])
    belief = mind.belief._replace(place=destination([step.action for step in walk]), obstacle=None)
    believes = rng.random() < 0.5  # or else it is the walk alone that is wrong
    return Thought((*walk, *rest), thought.goals, belief if believes else thought.belief)


def stop_short(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Stops before it is there: leaves out some of the last walk."""
    steps = thought.steps
    walked = [t for t, step in enumerate(steps) if step.action == FORWARD]
    if not walked or len(steps) < 2:
        return None
    end = walked[-1]
    start = end
    while start > 0 and steps[start - 1].action == FORWARD:
        start -= 1
    drop = int(rng.integers(1, min(end - start + 1, 3) + 1))
    kept = (*steps[: end + 1 - drop], *steps[end + 1 :])
    return thought._replace(steps=kept) if kept else None


def swap_parts(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Does the parts of the mission in the wrong order."""
    if len(thought.goals) < 2:
        return None
    i = int(rng.integers(len(thought.goals) - 1))
    order = list(range(len(thought.goals)))
    order[i], order[i + 1] = order[i + 1], order[i]
    return thought._replace(steps=_reordered(thought.steps, order))


def skip_part(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Forgets a part of the mission."""
    if len(thought.goals) < 2:
        return None
    left_out = int(rng.integers(1, len(thought.goals)))
    return thought._replace(steps=tuple(step for step in thought.steps if step.clause != left_out))


def _reordered(steps: tuple[Step, ...], order: list[int]) -> tuple[Step, ...]:
    return tuple(step for clause in order for step in steps if step.clause == clause)


HABITS = (detour, dither, overshoot, stop_short, swap_parts, skip_part)
