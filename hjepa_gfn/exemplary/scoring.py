"""Scoring by the principles: executed episodes of any agent, and texts."""

import functools
from collections import Counter
from collections.abc import Sequence

from minigrid.minigrid_env import MiniGridEnv

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.checkers import CHECKERS, Case, violations
from hjepa_gfn.exemplary.percepts import look, world_codes
from hjepa_gfn.exemplary.phrases import Plan
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.simulation import State, read_state
from hjepa_gfn.worlds.babyai import ACTION_NAMES, make_env, reset_env
from hjepa_gfn.worlds.language import describe_situation

NEEDS_PLAN = frozenset({"parts-in-order", "explore-first"})
NEEDS_EXPLANATION = frozenset({"use-your-eyes", "state-your-ground", "within-sight"})


@functools.lru_cache(maxsize=8)
def _env(level: str) -> MiniGridEnv:
    return make_env(level)


def situation_of(level: str, seed: int) -> tuple[Situation, State]:
    """The situation of an episode, and the state that it starts in.

    Raises:
        UserError: unknown level.
    """
    env = _env(level)
    reset_env(env, seed)
    state = read_state(env)
    held = None if state.carrying is None else state.layout.items[state.carrying]
    view, _ = look(world_codes(state), (*state.pos, state.heading), (held.kind, held.colour, 0) if held else None)
    text = describe_situation(view, state.heading, env.mission)
    return Situation(level, int(seed), env.mission.lower(), view, state.heading, text), state


def score_episode(
    level: str, seed: int, actions: Sequence[int], explanation: str | None = None, plan: Plan | None = None
) -> dict[str, int]:
    """How often an executed episode breaks each principle.

    Args:
        level, seed: which episode.
        actions: what was done.
        explanation: what was said about it, or None.
        plan: the plan that was stated, or None.

    Returns:
        Number of violations by principle id; principles that need a stated plan or explanation are left out without one.

    Raises:
        UserError: unknown level, or actions that are no action ids.
    """
    actions = [int(action) for action in actions]
    if any(not 0 <= action < len(ACTION_NAMES) for action in actions):
        raise UserError(f"actions must be ids from 0 to {len(ACTION_NAMES) - 1}")
    situation, state = situation_of(level, seed)
    left_out = (frozenset() if plan else NEEDS_PLAN) | (frozenset() if explanation else NEEDS_EXPLANATION)
    principles = [principle for principle in CHECKERS if principle not in left_out]
    found = violations(Case(situation, plan, explanation, roll(state, tuple(actions))), principles)
    counts = Counter(violation.principle for violation in found)
    return {principle: counts[principle] for principle in principles}
