"""Habits of the careless: doors left open, things taken along."""

import numpy as np

from hjepa_gfn.exemplary.geometry import route
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.mind import Mind, insert
from hjepa_gfn.exemplary.rules.thought import Step, Thought
from hjepa_gfn.exemplary.rules.walking import walk
from hjepa_gfn.worlds.babyai import FORWARD, PICKUP

MAX_EXCURSION = 4


def leave_open(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Leaves the doors open behind."""
    steps = thought.steps
    changed = False
    for key, before in mind.sound.unshut.items():
        where = [t for t, step in enumerate(steps) if step.key == key]
        if where and where[-1] - where[0] + 1 == len(where):
            clause = steps[where[0]].clause
            before = tuple(step._replace(clause=clause) for step in before)
            steps, changed = (*steps[: where[0]], *before, *steps[where[-1] + 1 :]), True
    return thought._replace(steps=steps) if changed and steps else None


def take_along(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Picks up something that it passes."""
    done = mind.outcome(thought)
    unwanted = _unwanted(done)
    facing = [t for t in range(done.steps) if done.carried[t] is None and done.effects[t].item in unwanted]
    facing = [t for t in facing if done.effects[t].kind in ("turn", "nothing")]
    return insert(thought, int(rng.choice(facing)), [PICKUP], "take along") if facing else None


def fetch(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Fetches something in view that nobody asked for, and goes on from there."""
    done = mind.outcome(thought)
    places = {done.relative(cell): item for cell, item in done.start.at.items() if item in _unwanted(done)}
    near = [thing.place for thing in mind.things if thing.place in places]
    if done.carried[0] is not None or not near:
        return None
    place = near[rng.integers(min(len(near), 3))]
    way = route(mind.view, place)
    if way is None or len(way) > MAX_EXCURSION:
        return None
    state = done.start.copy()
    for action in (*way, PICKUP):
        state.step(action)
    handled = next((t for t, step in enumerate(thought.steps) if step.action > FORWARD), len(thought.steps))
    onward = walk(state, done.poses[min(handled, done.steps)])
    if onward is None:
        return None
    first = thought.steps[0]
    new = [Step(a, "fetch", -5, first.clause) for a in (*way, PICKUP)] + [Step(a, "go on", -6, first.clause) for a in onward]
    return thought._replace(steps=(*new, *thought.steps[handled:]))


def _unwanted(done: Rollout) -> set[int]:
    parts = done.layout.mission.parts
    wanted = {item for part in parts for item in (*part.things, *part.beside)}
    handled = {effect.item for effect in done.effects if effect.kind in ("pickup", "drop")}
    return {item for item in done.start.at.values() if item not in done.start.door} - wanted - handled


HABITS = (leave_open, take_along, fetch)
