"""The exemplary actor of a level: situations in, traces out."""

from hjepa_gfn.exemplary import bot
from hjepa_gfn.exemplary.legs import flatten
from hjepa_gfn.exemplary.loop import MAX_SWEEPS, exemplify
from hjepa_gfn.exemplary.phrases import Plan, actions_of, legs_of, parse_plan
from hjepa_gfn.exemplary.protocol import Backend, Situation
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.backend import RuleBackend
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

    def solve(self, episode_seed: int) -> bot.Episode:
        """The planner's episode alone: the "bot" that agents are compared with."""
        return bot.run_bot(self._env, episode_seed)

    def trace(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of an episode, its final plan executed; None where the final plan does not fulfil the mission."""
        trace, rollout = self._think(episode_seed, split, family)
        if trace is None or not rollout.success:
            return None
        return trace

    def imagine(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of a situation that nobody acts in: texts, and the first percept alone."""
        trace, _ = self._think(episode_seed, split, family)
        return trace and trace.without_trajectory()

    def _think(self, episode_seed: int, split: str, family: str) -> tuple[Trace | None, Rollout | None]:
        try:
            run = bot.run(self._env, int(episode_seed))
        except NoSuchEpisode:
            return None, None
        start = run.rollout
        view, direction, mission = start.views[0], start.poses[0][2], self._env.mission
        text = describe_situation(view, direction, mission)
        situation = Situation(self.level, int(episode_seed), mission.lower(), view, direction, text)
        toolbox = Toolbox(situation, self._env, run)
        result = exemplify(
            situation, self.textbooks, self.backend, toolbox, max_sweeps=self._max_sweeps, robustness=self._robustness
        )
        if result.text is None:
            return None, None
        plan = parse_plan(result.text)
        rollout = toolbox.rollout(actions_of(plan))
        moves = trajectory_of(plan, rollout)
        trace = Trace(situation, split, family, result.entries, result.converged, result.robust, rollout.success, moves)
        return trace, rollout


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

