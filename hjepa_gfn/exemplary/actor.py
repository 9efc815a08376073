"""The exemplary actor, rule-based: plans with a tool, drafts, criticises, refines, explains, executes."""

import numpy as np

from hjepa_gfn.exemplary.critic import approval, critique
from hjepa_gfn.exemplary.drafts import full_turn, kinds_in_order, make_case
from hjepa_gfn.exemplary.explain import Belief, explanation, true_belief
from hjepa_gfn.exemplary.legs import cut_legs, flatten, split_legs
from hjepa_gfn.exemplary.phrases import Plan, plan_in_words
from hjepa_gfn.exemplary.tools import Episode, Simulation, run_bot, run_bot_with_start
from hjepa_gfn.exemplary.traces import Trace, Trajectory, Version
from hjepa_gfn.worlds.babyai import make_env
from hjepa_gfn.worlds.language import describe_situation

MAX_DRAFTS = 3
_BRIEF_FROM = 5  # plans with so many legs get the shortest wording of the explanation


class ExemplaryActor:
    """Writes traces for the episodes of one level. A trace depends on (level, seed, episode seed) only."""

    def __init__(self, level: str, seed: int = 0):
        """`level`: gym id of a BabyAI level (unknown: UserError). `seed`: for wording and choice of drafts."""
        self.level, self.seed = level, seed
        self._env = make_env(level)

    def solve(self, episode_seed: int) -> Episode:
        """The planner's episode alone: the "bot" that agents are compared with."""
        return run_bot(self._env, episode_seed)

    def trace(self, episode_seed: int, split: str) -> Trace | None:
        """The trace of an episode, or None where the planner does not fulfil the mission (or has nothing to do)."""
        episode, start = run_bot_with_start(self._env, episode_seed)
        if not episode.success or not episode.action:
            return None
        segment = cut_legs(episode.action, episode.subgoal_key)
        plan = split_legs(episode.action, segment)
        subgoals = [episode.subgoal[segment.index(leg)] for leg in range(len(plan))]
        return Trace(
            level=self.level,
            seed=int(episode_seed),
            split=split,
            mission=episode.mission.lower(),
            situation=describe_situation(episode.view[0], int(episode.direction[0]), episode.mission),
            success=True,
            versions=self._versions(episode, plan, start),
            trajectory=Trajectory(episode.view, episode.direction, episode.action, segment, subgoals),
        )

    def _versions(self, episode: Episode, plan: Plan, start: Simulation) -> list[Version]:
        rng = np.random.default_rng([self.seed, episode.seed])
        belief = true_belief(episode.view[0], episode.mission, episode.action)
        steps = len(episode.action)
        case = make_case(episode.view[0], episode.mission, plan, belief)
        wanted = int(rng.integers(1, MAX_DRAFTS + 1))
        versions: list[Version] = []
        for kind in [*kinds_in_order(rng), full_turn]:
            if len(versions) == wanted or (kind is full_turn and versions):
                break
            draft = kind(case, rng)
            if draft is None or any(draft.plan == version.plan for version in versions):
                continue
            if (words := critique(draft, start, steps)) is None:
                continue
            text = write_text(draft.plan, draft.belief, rng)
            versions.append(Version("draft", text, draft.plan, words, draft.principle))
        return [*versions, Version("final", write_text(plan, belief, rng), plan, approval(steps))]


def write_text(plan: Plan, belief: Belief, rng: np.random.Generator) -> str:
    """Plan and explanation in words; drafts and final versions are worded alike."""
    verb, wording = rng.integers(12, size=2).tolist()
    if len(plan) >= _BRIEF_FROM:
        wording = 0
    return f"{plan_in_words(plan, verb)} {explanation(belief, flatten(plan), wording)}"
