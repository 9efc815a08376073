"""The exemplary actor of a level: situations in, traces out."""

import dataclasses
from typing import NamedTuple

from hjepa_gfn.exemplary import bot
from hjepa_gfn.exemplary.foresight.truth import is_true
from hjepa_gfn.exemplary.legs import flatten
from hjepa_gfn.exemplary.loop import MAX_SWEEPS, Result, exemplify
from hjepa_gfn.exemplary.phrases import Plan, actions_of, legs_of, parse_plan
from hjepa_gfn.exemplary.products import PLAN, PREDICTION, Product
from hjepa_gfn.exemplary.protocol import Backend, Situation
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.backend import RuleBackend
from hjepa_gfn.exemplary.supposing import drawn_plan, supposing
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.exemplary.traces import Trace, Trajectory
from hjepa_gfn.worlds.babyai import NoSuchEpisode, make_env
from hjepa_gfn.worlds.language import describe_situation


class ExemplaryActor:
    """Writes traces for the episodes of one level. With rules, a trace depends on (level, seed, episode seed) only."""

    def __init__(
        self, level: str, seed: int = 0, textbooks: tuple[Textbook, ...] | None = None, backend: Backend | None = None,
        *, max_sweeps: int = MAX_SWEEPS, robustness: bool = True,
    ):  # fmt: skip
        """An actor of a level.

        Args:
            level: gym id of a BabyAI level (unknown: UserError).
            seed: for naive habits and wording; passed to the rule-based back end.
            textbooks: in the order in which they review; None: those that come with the package.
            backend: who thinks; None: rules.
            max_sweeps: limit on sweeps through the textbooks.
            robustness: whether final plans are tried with another explanation.
        """
        if textbooks is None:
            from hjepa_gfn.exemplary.knowledge import load_textbooks

            textbooks = load_textbooks()
        self.level, self.seed, self.textbooks = level, seed, tuple(textbooks)
        self.backend = backend or RuleBackend(seed)
        self._max_sweeps, self._robustness = max_sweeps, robustness
        self._env = make_env(level)
        self._last: tuple[int, _Thought | None] = (-1, None)  # an episode's seed, and what was thought of it

    def solve(self, episode_seed: int) -> bot.Episode:
        """The planner's episode alone: the "bot" that agents are compared with."""
        return bot.run_bot(self._env, episode_seed)

    def trace(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of an episode, its final plan executed; None where the final plan does not fulfil the mission."""
        thought = self._think(episode_seed, split, family)
        return thought.trace if thought and thought.trace.success else None

    def imagine(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of a situation that nobody acts in: texts, and the first percept alone."""
        thought = self._think(episode_seed, split, family)
        return thought and thought.trace.without_trajectory()

    def predict(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of a prediction: what happens if one of the plans of this episode's own trace is carried out.

        Which plan is drawn by the seeds: the final one, or a draft (`DRAFTS_SHARE`, where there are any). The trace's `success`
        is whether all that the final prediction claims did happen; its trajectory is the first percept. None where there is no
        trace, or no prediction came about.
        """
        plans = self._think(episode_seed, split, family)
        if plans is None:
            return None
        situation = supposing(plans.trace.situation, drawn_plan(plans.trace, self.seed))
        toolbox = Toolbox(situation, self._env, plans.toolbox.bot())
        result = self._exemplify(situation, toolbox, PREDICTION)
        if result.text is None:
            return None
        rollout = toolbox.rollout(actions_of(parse_plan(situation.supposed)))
        true = is_true(PREDICTION.read(result.text), rollout)
        seen = plans.trace.without_trajectory().trajectory
        return Trace(situation, split, family, result.entries, result.converged, result.robust, true, seen)

    def _think(self, episode_seed: int, split: str, family: str) -> "_Thought | None":
        """The trace of an episode's plans; that of the last episode is at hand, so that predictions do not think it anew."""
        if self._last[0] != int(episode_seed):
            self._last = int(episode_seed), self._think_anew(int(episode_seed))
        thought = self._last[1]
        return thought and thought._replace(trace=dataclasses.replace(thought.trace, split=split, family=family))

    def _think_anew(self, episode_seed: int) -> "_Thought | None":
        try:
            run = bot.run_empty_handed(self._env, episode_seed)
        except NoSuchEpisode:
            return None
        start = run.rollout
        view, direction, mission = start.views[0], start.poses[0][2], self._env.mission
        text = describe_situation(view, direction, mission)
        situation = Situation(self.level, episode_seed, mission.lower(), view, direction, text)
        toolbox = Toolbox(situation, self._env, run)
        result = self._exemplify(situation, toolbox, PLAN)
        if result.text is None:
            return None
        plan = parse_plan(result.text)
        rollout = toolbox.rollout(actions_of(plan))
        moves = trajectory_of(plan, rollout)
        trace = Trace(situation, "", "", result.entries, result.converged, result.robust, rollout.success, moves)
        return _Thought(trace, toolbox)

    def _exemplify(self, situation: Situation, toolbox: Toolbox, product: Product) -> Result:
        limits = dict(max_sweeps=self._max_sweeps, robustness=self._robustness)
        return exemplify(situation, self.textbooks, self.backend, toolbox, product=product, **limits)


class _Thought(NamedTuple):
    """What was thought of an episode: the trace of its plans, and the tools of its situation."""

    trace: Trace
    toolbox: Toolbox


def trajectory_of(plan: Plan, rollout: Rollout) -> Trajectory:
    """What executing a plan gave, cut as the plan is cut (what comes after the episode's end is left out)."""
    legs = legs_of(plan)
    segment = [i for i, leg in enumerate(legs) for _ in leg][: rollout.steps]
    used = segment[-1] + 1 if segment else 0
    clause = [i for i, part in enumerate(plan) for _ in part.legs][:used]
    actions = flatten(legs)[: rollout.steps]
    names = leg_names(plan, rollout)[:used]
    return Trajectory(rollout.views, rollout.directions, actions, segment, names, clause)


def leg_names(plan: Plan, rollout: Rollout) -> list[str]:
    """A name for each leg: what it handles, or where it leads."""
    names, t = [], 0
    items = rollout.layout.items
    for leg in legs_of(plan):
        effects = rollout.effects[t : t + len(leg)]
        handled = [e for e in effects if e.kind in ("pickup", "drop", "toggle")]
        t += len(leg)
        if handled:
            verbs = {"pickup": "pick up", "drop": "drop", "toggle": "toggle"}
            word = verbs[handled[-1].kind]
            if handled[-1].after is not None:
                word = "open" if handled[-1].after == 0 else "close"
            names.append(f"{word} {items[handled[-1].item].name}")
            continue
        ahead = next((e for e in rollout.effects[t:] if e.kind in ("pickup", "drop", "toggle")), None)
        names.append(f"go to {items[ahead.item].name}" if ahead else "go")
    return names

