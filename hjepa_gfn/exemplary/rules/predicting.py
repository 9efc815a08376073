"""Predictions by rules: naive ones, and reviews in which each discipline gives up its own mistakes.

As with plans, nothing but the text under review is known of how it came about: which naive beliefs a prediction owes to is
found out by trying which ones lead to it.
"""

import hashlib
from itertools import combinations
from typing import NamedTuple

import numpy as np

from hjepa_gfn.exemplary.checkers import DISCIPLINES
from hjepa_gfn.exemplary.forecasts import Prediction, parse_prediction, prediction_in_words
from hjepa_gfn.exemplary.foresight.case import Fault, PredictionCase, Question, sound_prediction
from hjepa_gfn.exemplary.foresight.checks import PREDICTION_CHECKS, faults
from hjepa_gfn.exemplary.foresight.grounds import grounds
from hjepa_gfn.exemplary.phrases import explanation_of
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.rules.fancies import FANCIES, fancied
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.exemplary.words import critique

SHARE = {"rationality": 0.7, "epistemology": 0.7, "physics": 0.9, "ethics": 0.7, "design": 0.4}  # naive beliefs in a draft
RARE_FIRST = 0.5  # so often are beliefs tried in the order of their list, those that seldom make a difference first
_STYLES = 3**5 * 3 * 2
_NONE: frozenset[str] = frozenset()
_CHECKED = {name: tuple(p for p in ids if p in PREDICTION_CHECKS) for name, ids in DISCIPLINES.items()}


class Review(NamedTuple):
    """What a textbook says of a prediction: the better text or None, what is wrong or why it may stand, principles cited."""

    better: str | None
    words: str
    principles: tuple[str, ...]


class Foreteller:
    """A question's thinking: a situation and the plan that is carried out in it. Depends on the seed and the question only."""

    def __init__(self, seed: int, toolbox: Toolbox):
        """`seed`: of naive beliefs and wording."""
        self.seed, self.toolbox, self.situation = seed, toolbox, toolbox.situation
        self.question = Question(self.situation)
        self.actions = self.question.actions
        self._said: dict[frozenset[str], tuple[Prediction, str]] = {}
        self.fancies = self._draw()

    @property
    def rollout(self) -> Rollout:
        """What the simulator says of the plan."""
        return self.toolbox.rollout(self.actions)

    def draft(self) -> str:
        """A prediction as somebody with naive beliefs makes it, with its explanation."""
        return self._write(frozenset(self.fancies))

    def review(self, textbook: Textbook, text: str) -> Review:
        """What the checks of a textbook's principles find; the better text mends what this discipline objects to."""
        case = self._case(text)
        principles = tuple(principle.id for principle in textbook.principles)
        found = faults(case, principles)
        style = int(self._rng("words", text).integers(60))
        if not found:
            return Review(None, _approval(textbook.discipline, case, style), ())
        better = self._mended(case, principles, found, textbook.discipline)
        if better:  # what is mended now is cited first
            left = {fault.principle for fault in faults(self._case(better), principles)}
            found = sorted(found, key=lambda fault: fault.principle in left)
        return Review(better, critique(found, better is None, style), tuple(dict.fromkeys(f.principle for f in found)))

    def explain_otherwise(self, text: str) -> str:
        """The same prediction, explained anew from what can be known."""
        said, explanation = parse_prediction(text), explanation_of(text)
        others = [self._grounds(_NONE, said, style) for style in range(6)]
        other = next((o for o in others if o != explanation), others[0])
        return f"{text.partition('.')[0]}. {other}"

    def _draw(self) -> tuple[str, ...]:
        """The naive beliefs behind the draft, at most one a discipline; each alone would be objected to by its discipline."""
        rng = self._rng("fancies")
        found: list[str] = []
        spare: list[str] = []
        for discipline, names in FANCIES.items():
            wanted = rng.random() < SHARE[discipline]
            rare_first, order = rng.random() < RARE_FIRST, rng.permutation(len(names))
            for i in range(len(names)) if rare_first else order:
                if self._is_objected_to(names[i], discipline):
                    (found if wanted else spare).append(names[i])
                    break
        if not found and spare:
            found.append(spare[rng.integers(len(spare))])
        return tuple(found)

    def _is_objected_to(self, name: str, discipline: str) -> bool:
        case = self._case(self._write(frozenset({name})))
        return case.prediction != case.sound and bool(faults(case, _CHECKED[discipline]))

    def _mended(self, case: PredictionCase, principles: tuple[str, ...], found: list[Fault], discipline: str) -> str | None:
        """A text with what this discipline objects to put right; None: what is wrong is for other disciplines to mend."""
        fancies = self._recognise(case)
        if fancies:
            own = fancies & set(FANCIES.get(discipline, ()))
            if own:
                better = self._write(fancies - own)
                left = self._recognise(self._case(better)) or ()
                if parse_prediction(better) != case.prediction and len(left) < len(fancies):  # so reviews never go in circles
                    return better
            elif any(faults(case, _CHECKED[other]) for other in FANCIES if fancies & set(FANCIES[other])):
                return None
        parts = {name: getattr(case.sound, name) for fault in found for name in fault.parts}
        return self._text(case.prediction._replace(**parts), _NONE)

    def _recognise(self, case: PredictionCase) -> frozenset[str] | None:
        """The naive beliefs that lead to a prediction, as many as can be behind it; None where it is somebody else's."""
        for n in range(len(self.fancies), -1, -1):
            for names in combinations(self.fancies, n):
                if self._says(frozenset(names))[0] == case.prediction:
                    return frozenset(names)
        return None

    def _says(self, fancies: frozenset[str]) -> tuple[Prediction, str]:
        """What is said under naive beliefs, and on what ground."""
        if fancies not in self._said:
            said, foresight, view = fancied(self.situation.view, self.situation.mission, self.actions, fancies)
            if not fancies:
                said = sound_prediction(foresight, self.rollout)
            style = int(self._rng("ground", said).integers(60))
            self._said[fancies] = said, grounds(foresight, said.fulfilled, view, self.situation.mission, style)
        return self._said[fancies]

    def _grounds(self, fancies: frozenset[str], said: Prediction, style: int) -> str:
        _, foresight, view = fancied(self.situation.view, self.situation.mission, self.actions, fancies)
        return grounds(foresight, said.fulfilled, view, self.situation.mission, style)

    def _write(self, fancies: frozenset[str]) -> str:
        return self._text(self._says(fancies)[0], fancies)

    def _text(self, said: Prediction, fancies: frozenset[str]) -> str:
        """The wording depends on what is said, not on how it was arrived at."""
        style = int(self._rng("wording", said).integers(_STYLES))
        return f"{prediction_in_words(said, style)} {self._says(fancies)[1]}"

    def _case(self, text: str) -> PredictionCase:
        return PredictionCase(self.question, parse_prediction(text), explanation_of(text), self.rollout)

    def _rng(self, *purpose: object) -> np.random.Generator:
        """A stream of its own for each purpose."""
        words = "\n".join(map(str, ("prediction", self.seed, self.situation.id, self.situation.text, *purpose)))
        return np.random.default_rng(np.frombuffer(hashlib.sha256(words.encode()).digest()[:16], np.uint32))


def _approval(discipline: str, case: PredictionCase, style: int) -> str:
    known = sum(part is not None for part in case.prediction)
    borne_out = f"what it claims ({known} of {len(Prediction._fields)}) is borne out"
    return (
        f"no principle of {discipline} is broken: {borne_out}.",
        f"{discipline} has nothing to object: {borne_out}.",
        f"as far as {discipline} goes, the prediction may stand: {borne_out}.",
    )[style % 3]
