"""What the rules know of a situation while they think: the percept, the sound plan and what it leads to."""

import functools
import hashlib

import numpy as np

from hjepa_gfn.exemplary.checkers.case import Case
from hjepa_gfn.exemplary.explain import Belief
from hjepa_gfn.exemplary.phrases import Plan, explanation_of
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.sound import Sound
from hjepa_gfn.exemplary.rules.thought import Step, Thought, plan_of_thought, text_of
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.worlds.language import Description, Thing, mission_targets, things_in_view


class Mind:
    """A situation with its sound plan. Everything in it depends on the seed and the situation only."""

    def __init__(self, seed: int, toolbox: Toolbox, sound: Sound):
        """`seed`: of naive habits and wording."""
        self.seed, self.toolbox, self.sound = seed, toolbox, sound
        self.situation = toolbox.situation
        self.seen_through: dict[tuple[str, ...], Thought] = {}
        self._plans: dict[tuple, Plan] = {}
        self.view = self.situation.view
        self.things: list[Thing] = things_in_view(self.view)
        self.targets: list[Description] = mission_targets(self.situation.mission) or [Description("", "")]

    def rng(self, *purpose: object) -> np.random.Generator:
        """A stream of its own for each purpose."""
        words = "\n".join(map(str, (self.seed, self.situation.id, *purpose)))
        return np.random.default_rng(np.frombuffer(hashlib.sha256(words.encode()).digest()[:16], np.uint32))

    def outcome(self, thought: Thought) -> Rollout:
        """What a thought's steps lead to."""
        return self.toolbox.rollout(thought.actions)

    @functools.cached_property
    def truth(self) -> Rollout:
        """What the sound plan leads to."""
        return self.outcome(self.sound.thought)

    @property
    def belief(self) -> Belief:
        """The sound plan's belief."""
        return self.sound.thought.belief

    def plan(self, thought: Thought) -> Plan:
        """A thought's plan."""
        if thought not in self._plans:
            self._plans[thought] = plan_of_thought(thought, self.toolbox.rollout)[0]
        return self._plans[thought]

    def write(self, thought: Thought) -> str:
        """A thought in words. The wording depends on the plan, not on how it was arrived at."""
        plan = self.plan(thought)
        return text_of(plan, thought.belief, self.rng("wording", plan))

    def case(self, thought: Thought) -> Case:
        """A thought for checkers."""
        text = self.write(thought)
        return Case(self.situation, self.plan(thought), explanation_of(text), self.outcome(thought))


def first_clause(thought: Thought) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """A thought's steps, cut where its first clause ends."""
    n = next((i for i, step in enumerate(thought.steps) if step.clause != thought.steps[0].clause), len(thought.steps))
    return thought.steps[:n], thought.steps[n:]


def insert(thought: Thought, t: int, actions: list[int], name: str) -> Thought:
    """The thought with more actions before step `t` (or at the end), as part of what is done there."""
    at = thought.steps[min(t, len(thought.steps) - 1)]
    new = tuple(Step(action, name, at.key, at.clause) for action in actions)
    return thought._replace(steps=(*thought.steps[:t], *new, *thought.steps[t:]))
