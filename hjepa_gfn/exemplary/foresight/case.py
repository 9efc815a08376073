"""What checks of a prediction look at, and what they find."""

import dataclasses
import functools
from typing import NamedTuple

from hjepa_gfn.exemplary.checkers.case import Case
from hjepa_gfn.exemplary.forecasts import Prediction
from hjepa_gfn.exemplary.foresight.foresee import Foresight, foresee
from hjepa_gfn.exemplary.foresight.truth import what_happened
from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.rollout import Rollout


class Fault(NamedTuple):
    """A principle is broken: which parts of the prediction are concerned (none: the explanation), and what is wrong."""

    principle: str
    parts: tuple[str, ...]
    complaint: str


@dataclasses.dataclass(frozen=True)
class Question:
    """A situation and a plan that is carried out in it; what can be known of the outcome is worked out once."""

    situation: Situation

    @functools.cached_property
    def actions(self) -> tuple[int, ...]:
        """The actions of the plan that is carried out."""
        return tuple(actions_of(parse_plan(self.situation.supposed)))

    @functools.cached_property
    def foresight(self) -> Foresight:
        """What can be known from the first percept."""
        return foresee(self.situation.view, self.situation.mission, self.actions)

    @functools.cached_property
    def mirrored(self) -> Prediction:
        """What one would foresee who took left for right."""
        return foresee(self.situation.view[::-1], self.situation.mission, self.actions).prediction


@dataclasses.dataclass(frozen=True)
class PredictionCase:
    """A prediction under review, and what the simulator says of the plan (the roll-forward tool).

    The measure of a prediction is the first percept, not the simulator: by the textbook of epistemology a planner may hold to
    be true "what it perceives now, what follows from that, and what it was told by the mission", and "a ground that the
    percept does not show is an invention, even if it happens to be true". So what a tool tells of things out of view adds no
    claim (whoever learns from predictions sees the percept alone). It may take claims away: what it refutes is withdrawn.
    """

    question: Question
    prediction: Prediction
    explanation: str
    rollout: Rollout

    @property
    def actions(self) -> tuple[int, ...]:
        """The actions of the plan that is carried out."""
        return self.question.actions

    @property
    def foresight(self) -> Foresight:
        """What can be known from the first percept."""
        return self.question.foresight

    @property
    def mirrored(self) -> Prediction:
        """What one would foresee who took left for right."""
        return self.question.mirrored

    @functools.cached_property
    def sound(self) -> Prediction:
        """What should be said: what can be known from the first percept, and is not refuted by the tool."""
        return sound_prediction(self.foresight, self.rollout)

    @functools.cached_property
    def words(self) -> Case:
        """The explanation, for what checks the words of plans."""
        return Case(self.question.situation, None, self.explanation, self.rollout)

    def wrong(self) -> list[str]:
        """Parts that are known, and said to be otherwise."""
        return [name for name, said, sound in self._parts() if None not in (said, sound) and said != sound]

    def unsupported(self) -> list[str]:
        """Parts that are claimed, and cannot be known."""
        return [name for name, said, sound in self._parts() if said is not None and sound is None]

    def shy(self) -> list[str]:
        """Parts that are said to be unknowable, and are known."""
        return [name for name, said, sound in self._parts() if said is None and sound is not None]

    def _parts(self) -> list[tuple]:
        return list(zip(Prediction._fields, self.prediction, self.sound))


def sound_prediction(foresight: Foresight, rollout: Rollout) -> Prediction:
    """What is foreseen, without what the simulator refutes."""
    truth = what_happened(rollout)
    return Prediction(*(said if said == was else None for said, was in zip(foresight.prediction, truth)))
