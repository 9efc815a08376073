"""Cutting a sequence of actions into legs: the subgoal segments that the upper level learns from."""

from collections.abc import Hashable, Sequence

from hjepa_gfn.worlds.babyai import FORWARD

MAX_LEG = 8


def cut_legs(actions: Sequence[int], subgoals: Sequence[Hashable] | None = None, max_leg: int = MAX_LEG) -> list[int]:
    """The leg index of every action.

    A new leg begins where an action other than forward follows a forward one, where the subgoal changes, or after
    `max_leg` actions.

    Args:
        actions: action ids, length T.
        subgoals: what each action was for, length T; None: no subgoals are known.

    Returns:
        T leg indices, 0 for the first leg, rising by one at each new leg.
    """
    segment: list[int] = []
    length = 0
    for t, action in enumerate(actions):
        turn = t > 0 and action != FORWARD and actions[t - 1] == FORWARD
        other_subgoal = t > 0 and subgoals is not None and subgoals[t] != subgoals[t - 1]
        new = t > 0 and (turn or other_subgoal or length == max_leg)
        length = 1 if new or t == 0 else length + 1
        segment.append((segment[-1] + int(new)) if segment else 0)
    return segment


def split_legs(actions: Sequence[int], segment: Sequence[int]) -> list[list[int]]:
    """Legs as lists of actions, from the leg index of every action (as `cut_legs` gives it)."""
    legs: list[list[int]] = []
    for action, index in zip(actions, segment, strict=True):
        if index == len(legs):
            legs.append([])
        legs[index].append(int(action))
    return legs


def plan_of(actions: Sequence[int]) -> list[list[int]]:
    """A plan from actions alone (no subgoals known)."""
    return split_legs(actions, cut_legs(actions))


def flatten(plan: list[list[int]]) -> list[int]:
    """All actions of a plan, in order."""
    return [action for leg in plan for action in leg]
