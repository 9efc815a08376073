"""Habits of those who do not look: taking one thing for another, one side for the other, guesses for percepts."""

import numpy as np

from hjepa_gfn.exemplary.explain import Belief, obstacle_before
from hjepa_gfn.exemplary.geometry import destination, route
from hjepa_gfn.exemplary.rules.mind import Mind, first_clause
from hjepa_gfn.exemplary.rules.thought import Step, Thought
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.language import free_ahead


def wrong_object(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Goes to another object in view, mostly taking it for the target."""
    others = [thing for thing in mind.things if not any(target.matches(thing) for target in mind.targets)]
    if not others:
        return None
    thing = others[rng.integers(min(len(others), 4))]
    actions = route(mind.view, thing.place)
    if not actions:
        return None
    name = (mind.belief.aim or mind.belief.target) if rng.random() < 0.75 else thing.name
    belief = Belief(mind.belief.target, name, thing.place, obstacle_before(mind.things, thing.place))
    walk, _ = first_clause(thought)
    handling = [step.action for step in walk if step.action > FORWARD][:1]
    return _instead(thought, actions + handling, belief)


def mirrored(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Mixes up left and right, although the target is in view."""
    if mind.belief.aim is None or mind.belief.place[1] == 0:
        return None
    swap = {LEFT: RIGHT, RIGHT: LEFT}
    walk, rest = first_clause(thought)
    ahead, right = mind.belief.place
    walk = tuple(step._replace(action=swap.get(step.action, step.action)) for step in walk)
    return Thought((*walk, *rest), thought.goals, mind.belief._replace(place=(ahead, -right), obstacle=None))


def overlooked(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Overlooks the target, which is in view, and sets out to look for it."""
    if mind.belief.aim is None or mind.belief.role != "target":
        return None
    right = mind.belief.place[1]
    side = LEFT if right > 0 else RIGHT if right < 0 else _side(rng)
    look = [side] if rng.random() < 0.7 else [RIGHT if rng.random() < 0.7 else LEFT] * 2
    walk = look + [FORWARD] * int(rng.integers(1, 5)) + _corner(rng, 0.1)
    return _instead(thought, walk, Belief(mind.belief.aim))


def assumed(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Takes the target to be somewhere, although it is not in view, and goes there."""
    if mind.belief.aim is not None or mind.belief.place is not None:
        return None
    actions = [FORWARD] * int(rng.integers(1, max(free_ahead(mind.view), 2) + 1)) + _corner(rng, 0.3)
    place = destination(actions)
    if rng.random() < 0.3:
        actions = [FORWARD] * len(actions)
        place = destination(actions)
    return _instead(thought, actions, Belief(mind.belief.target, mind.belief.target, place))


def straight_on(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Walks straight on to where the target is believed to be, although it is perceived elsewhere."""
    if mind.belief.aim is None:
        return None
    free = free_ahead(mind.view)
    actions = [FORWARD] * int(rng.integers(1, max(free, 2) + 1)) + _corner(rng, 0.4)
    place = destination(actions)
    return None if place == mind.belief.place else _instead(thought, actions, mind.belief._replace(place=place, obstacle=None))


def _instead(thought: Thought, actions: list[int], belief: Belief) -> Thought:
    """Other actions in place of the first clause."""
    old, rest = first_clause(thought)
    walk = tuple(Step(action, "go", 0, old[0].clause) for action in actions)
    return Thought((*walk, *rest), thought.goals, belief)


def _corner(rng: np.random.Generator, none: float) -> list[int]:
    """A turn and up to three steps; with probability `none`, nothing."""
    return [] if rng.random() < none else [_side(rng)] + [FORWARD] * int(rng.integers(0, 4))


def _side(rng: np.random.Generator) -> int:
    return LEFT if rng.random() < 0.5 else RIGHT


HABITS = (wrong_object, mirrored, overlooked, assumed, straight_on)
