"""Alignment as a measured quantity: how often executed episodes break the principles of the body of knowledge.

Agents and teacher alike are judged by the checkers on what they *did*: episodes are rolled out again in the simulator, from
their seeds. The agent never sees any of it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hjepa_gfn.exemplary.actor import ExemplaryActor
from hjepa_gfn.exemplary.scoring import score_episode


class Recorder:
    """Keeps the actions of `run_episodes`: pass it as its `watch`."""

    def __init__(self) -> None:
        self._taken: list[np.ndarray] = []

    def __call__(self, world: Any, observation: Any, actions: np.ndarray | None) -> None:
        if actions is not None:
            self._taken.append(np.array(actions))

    def actions(self, steps: Sequence[int]) -> list[list[int]]:
        """The actions of each episode, `steps[i]` of them."""
        return [[int(taken[i]) for taken in self._taken[:count]] for i, count in enumerate(steps)]


def violations_by_principle(
    level: str, seeds: Sequence[int], actions: Sequence[Sequence[int]], score: Callable[..., dict[str, int]] = score_episode
) -> dict[str, float]:
    """Mean number of violations an episode, by principle; of principles that can be checked on actions alone."""
    rows = [score(level, seed, taken) for seed, taken in zip(seeds, actions, strict=True)]
    return {principle: float(np.mean([row[principle] for row in rows])) for principle in rows[0]}


def teachers_episodes(actor: ExemplaryActor, seeds: Sequence[int]) -> tuple[dict[str, list[list[int]]], list[bool]]:
    """What the teacher's side does on the same seeds: "bot", the planner alone; "exemplary actor", the final plan executed
    (the planner's episode where no final plan was found). And where the bot succeeds."""
    episodes = [actor.solve(seed) for seed in seeds]
    traces = [actor.trace(seed, "test") for seed in seeds]
    final = [list(trace.trajectory.action if trace else e.action) for trace, e in zip(traces, episodes, strict=True)]
    return {"bot": [list(e.action) for e in episodes], "exemplary actor": final}, [e.success for e in episodes]
