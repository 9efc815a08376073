"""First drafts: the plans of naive planners, each with the mistaken belief or the naive reasoning behind it.

Every kind is a function `(case, rng) -> Draft | None` that looks at the percept and the sound plan only; None means
that the mistake makes no sense here. Whether a draft is really worse is for the critic to find out, by trying it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hjepa_gfn.exemplary.explain import Belief, obstacle_before
from hjepa_gfn.exemplary.geometry import destination, route
from hjepa_gfn.exemplary.legs import MAX_LEG, flatten, plan_of
from hjepa_gfn.exemplary.phrases import Plan
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.language import (
    Description,
    Thing,
    free_ahead,
    mission_targets,
    place_in_words,
    things_in_view,
    walkable,
)

_MOVES = (LEFT, RIGHT, FORWARD)


class Case(NamedTuple):
    """An episode as the exemplary actor sees it: the first percept, what it shows, the sound plan and its belief."""

    view: np.ndarray
    targets: list[Description]
    things: list[Thing]
    plan: Plan
    belief: Belief

    @property
    def target_seen(self) -> bool:
        """Whether the plan goes to something that is in view."""
        return self.belief.aim is not None


class Draft(NamedTuple):
    """A naive plan, the belief that its explanation states, the principle it breaks, and what is wrong with it."""

    plan: Plan
    belief: Belief
    principle: str
    complaint: str


def make_case(view: np.ndarray, mission: str, plan: Plan, belief: Belief) -> Case:
    """Gathers what drafts are made from. `view`: uint8[7, 7, 3], the first percept."""
    return Case(view, mission_targets(mission) or [Description("", "")], things_in_view(view), plan, belief)


def wrong_object(case: Case, rng: np.random.Generator) -> Draft | None:
    """Goes to another object in view, mostly taking it for the target."""
    others = [thing for thing in case.things if not any(target.matches(thing) for target in case.targets)]
    if not others:
        return None
    thing = others[rng.integers(min(len(others), 4))]
    actions = route(case.view, thing.place)
    if not actions:
        return None
    name = _target_name(case) if rng.random() < 0.75 else thing.name
    belief = Belief(case.belief.target, name, thing.place, obstacle_before(case.things, thing.place))
    where = place_in_words(thing.place)
    complaint = f"what is {where} is the {thing.name}; the mission speaks of the {case.belief.target}."
    return Draft(plan_of(actions + _first_handling(case.plan)), belief, "right-target", complaint)


def mirrored(case: Case, rng: np.random.Generator) -> Draft | None:
    """Mixes up left and right, although the target is in view."""
    if not case.target_seen or case.belief.place[1] == 0:
        return None
    swap = {LEFT: RIGHT, RIGHT: LEFT}
    plan = [[swap.get(action, action) for action in leg] for leg in case.plan]
    ahead, right = case.belief.place
    return Draft(plan, case.belief._replace(place=(ahead, -right)), "left-is-left", f"{_truth(case)}")


def straight_on(case: Case, rng: np.random.Generator) -> Draft | None:
    """Walks straight on, even against a wall, and perhaps a bit to one side from there."""
    free = free_ahead(case.view)
    blocked = free < 2
    steps = rng.integers(free + 2, free + 5) if blocked else rng.integers(2, min(free, 5) + 1)
    actions = [FORWARD] * int(steps) + _corner(rng, 0.4)
    belief = case.belief
    if case.target_seen or rng.random() < 0.5:
        belief = Belief(case.belief.target, _target_name(case), destination(actions))
    if blocked:
        complaint = f"the way ahead is {f'blocked after {free}' if free else 'blocked'}."
    else:
        complaint = "the plan does not lead there." if case.target_seen else "the way ahead is in view already."
    return Draft(plan_of(actions), belief, "look-before-you-walk", f"{_truth(case)} {complaint}")


def overlooked(case: Case, rng: np.random.Generator) -> Draft | None:
    """Overlooks the target, which is in view, and sets out to look for it."""
    if not case.target_seen or case.belief.role != "target":
        return None
    right = case.belief.place[1]
    side = LEFT if right > 0 else RIGHT if right < 0 else _side(rng)
    # The shapes of real searches: a look to one side or behind, a walk, a turn or two.
    look = [side] if rng.random() < 0.7 else [RIGHT if rng.random() < 0.7 else LEFT] * 2
    walk = [[FORWARD] * int(rng.integers(1, 5)), _corner(rng, 0.1)]
    if len(walk[-1]) > 1:
        walk.append(_corner(rng, 0.5))
    return Draft([look, *(leg for leg in walk if leg)], Belief(case.belief.target), "use-your-eyes", _truth(case))


def overshoot(case: Case, rng: np.random.Generator) -> Draft | None:
    """Walks two or three cells too far before a turn, taking the target to be further off than it is."""
    if not case.target_seen:
        return None
    first_handling = next((i for i, leg in enumerate(case.plan) if any(a not in _MOVES for a in leg)), len(case.plan))
    corners = [
        i for i in range(min(first_handling, len(case.plan) - 1))
        if case.plan[i][-1] == FORWARD and case.plan[i + 1][0] in (LEFT, RIGHT)
    ]  # fmt: skip
    if not corners:
        return None
    corner = corners[rng.integers(len(corners))]
    longer = case.plan[corner] + [FORWARD] * int(rng.integers(2, 4))
    parts = [longer[i : i + MAX_LEG] for i in range(0, len(longer), MAX_LEG)]
    plan = case.plan[:corner] + parts + case.plan[corner + 1 :]
    belief = case.belief._replace(place=destination(flatten(plan)), obstacle=None)
    return Draft(plan, belief, "right-distance", f"{_truth(case)} the plan walks past it.")


def detour(case: Case, rng: np.random.Generator) -> Draft | None:
    """Starts with moves that lead back to where they began, then does the right thing."""
    side = _side(rng)
    prefixes = [[side] * 4]
    if (free := min(free_ahead(case.view), 3)) >= 2:
        prefixes.append([FORWARD] * free + [side] * 2 + [FORWARD] * free + [side] * 2)
    sign = 1 if side == RIGHT else -1
    if all(walkable(case.view, (0, sign * n)) for n in (1, 2)):
        prefixes.append([side] + [FORWARD] * 2 + [side] * 2 + [FORWARD] * 2 + [side])
    return _with_prefix(case, prefixes[rng.integers(len(prefixes))])


def full_turn(case: Case, rng: np.random.Generator) -> Draft:
    """Turns on the spot first: the one mistake that can be made anywhere."""
    return _with_prefix(case, [_side(rng)] * 4)


Kind = Callable[[Case, np.random.Generator], Draft | None]
PERCEPTUAL_KINDS: tuple[Kind, ...] = (wrong_object, mirrored, straight_on, overlooked, overshoot)
DETOUR_FIRST = 0.3


def kinds_in_order(rng: np.random.Generator) -> list[Kind]:
    """The kinds of mistakes in the order in which to try them, drawn anew for each episode.

    The detour is mostly left for last: it is possible nearly everywhere, and shows without a look at the percept.
    """
    drawn = [PERCEPTUAL_KINDS[i] for i in rng.permutation(len(PERCEPTUAL_KINDS))]
    return [detour, *drawn] if rng.random() < DETOUR_FIRST else [*drawn, detour]


def _with_prefix(case: Case, prefix: list[int]) -> Draft:
    plan = plan_of(prefix + case.plan[0]) + case.plan[1:]
    return Draft(plan, case.belief, "no-detours", f"the first {len(prefix)} moves lead back to the start.")


def _truth(case: Case) -> str:
    if case.target_seen:
        return f"the {case.belief.aim} is {place_in_words(case.belief.place)}."
    return f"the {case.belief.target} is not in view."


def _target_name(case: Case) -> str:
    return case.belief.aim or case.belief.target


def _corner(rng: np.random.Generator, none: float) -> list[int]:
    """A turn and up to three steps; with probability `none`, nothing."""
    return [] if rng.random() < none else [_side(rng)] + [FORWARD] * int(rng.integers(0, 4))


def _side(rng: np.random.Generator) -> int:
    return LEFT if rng.random() < 0.5 else RIGHT


def _first_handling(plan: Plan) -> list[int]:
    return [action for action in flatten(plan) if action not in _MOVES][:1]
