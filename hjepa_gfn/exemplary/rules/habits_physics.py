"""Habits of those who do not reckon with matter: against walls, through shut doors, without the key, beyond reach."""

import numpy as np

from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.mind import Mind, insert
from hjepa_gfn.exemplary.rules.thought import Thought
from hjepa_gfn.exemplary.simulation import CLOSED, LOCKED
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, PICKUP, RIGHT
from hjepa_gfn.worlds.language import KEY


def push_on(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Walks on against what stands in the way, where the sound plan turns or stops."""
    done = mind.outcome(thought)
    places = [t for t in range(done.steps) if done.actions[t] in (LEFT, RIGHT) and _blocked(done, t)]
    if not places:
        return None
    walking = [t for t in places if t and done.actions[t - 1] == FORWARD] or places
    return insert(thought, int(rng.choice(walking)), [FORWARD] * int(rng.integers(1, 4)), "push on")


def straight_line(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Leaves out the turns of a way around: walks the first straight as if nothing stood in the way."""
    done = mind.outcome(thought)
    turns = [t for t in range(1, done.steps - 1) if done.actions[t] in (LEFT, RIGHT) and done.actions[t - 1] == FORWARD]
    around = [t for t in turns if _blocked(done, t) and thought.steps[t + 1].action == FORWARD]
    if not around:
        return None
    t = int(rng.choice(around))
    return thought._replace(steps=(*thought.steps[:t], *thought.steps[t + 1 :]))


def shut_doors(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Walks through doors without opening them."""
    done = mind.outcome(thought)
    opening = {t for t, e in enumerate(done.effects) if e.before == CLOSED and _passes(done, t)}
    if not opening:
        return None
    chosen = {int(rng.choice(sorted(opening)))} if rng.random() < 0.5 else opening
    return thought._replace(steps=tuple(step for t, step in enumerate(thought.steps) if t not in chosen))


def no_key(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Goes for a locked door with empty hands."""
    done = mind.outcome(thought)
    items = done.layout.items
    used = {(KEY, items[effect.item].colour) for effect in done.effects if effect.before == LOCKED}
    keys = {t for t, e in enumerate(done.effects) if e.kind == "pickup" and items[e.item][:2] in used}
    kept = tuple(step for t, step in enumerate(thought.steps) if t not in keys)
    return thought._replace(steps=kept) if keys and kept else None


def grab_air(mind: Mind, thought: Thought, rng: np.random.Generator) -> Thought | None:
    """Reaches for what is not there yet: picks up a step too early."""
    done = mind.outcome(thought)
    empty = [t for t in range(done.steps) if done.carried[t] is None and _nothing_in_front(done, t)]
    early = [t for t in empty if any(e.kind == "pickup" for e in done.effects[t + 1 : t + 4])]
    if not early:
        return None
    return insert(thought, int(rng.choice(early)), [PICKUP], "grab")



def _nothing_in_front(done: Rollout, t: int) -> bool:
    effect = done.effects[t]
    return effect.item is None and not effect.wall


def _blocked(done: Rollout, t: int) -> bool:
    """Whether a turn is made in front of a wall or a thing (a door aside)."""
    effect = done.effects[t]
    return effect.wall or (effect.item is not None and effect.item not in done.start.door)


def _passes(done: Rollout, t: int) -> bool:
    cell = done.effects[t].cell
    return any(pose[:2] == cell for pose in done.poses[t:])


HABITS = (push_on, straight_line, shut_doors, no_key, grab_air)
