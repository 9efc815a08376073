"""The rule-based back end: a planner with naive habits, reviewed by checkers.

It never sees more than the text under review: which habits a plan owes to is found out by trying which ones lead to it.
"""

import hashlib
from itertools import combinations

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.checkers import DISCIPLINES, Case, Violation, violations
from hjepa_gfn.exemplary.forecasts import parse_prediction
from hjepa_gfn.exemplary.phrases import actions_of, explanation_of, parse_plan, plan_in_words
from hjepa_gfn.exemplary.products import PLAN, PREDICTION
from hjepa_gfn.exemplary.protocol import Answer, Situation
from hjepa_gfn.exemplary.rules.habits import Habit, draw_habits, see_through
from hjepa_gfn.exemplary.rules.mind import Mind
from hjepa_gfn.exemplary.rules.predicting import Foreteller
from hjepa_gfn.exemplary.rules.sound import sound_plan
from hjepa_gfn.exemplary.rules.thought import Thought, text_of
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.exemplary.words import approval, critique

VERSION = "1"


class RuleBackend:
    """Answers by rules; implements `protocol.Backend`. An answer depends on the seed and the question only."""

    def __init__(self, seed: int = 0):
        """`seed`: of naive habits and wording."""
        self.name, self.seed = f"rules-{VERSION}", int(seed)
        self._mind: Mind | None = None  # of the situation asked about last
        self._habits: tuple[Habit, ...] = ()
        self._foreteller: Foreteller | None = None  # of the prediction asked for last

    def draft(self, situation: Situation, textbooks: tuple[Textbook, ...], toolbox: Toolbox) -> Answer:
        """A naive plan: the planner's, seen through habits of several disciplines."""
        del textbooks  # habits are older than reading: a changed textbook leaves the first draft as it was
        sha = self.question_sha("draft", situation)
        if situation.product == PREDICTION.name:
            return Answer("propose", self._foretell(toolbox).draft(), prompt_sha=sha, tool_calls=toolbox.take_calls())
        toolbox.use("bot")
        if (mind := self._think(toolbox)) is None:
            return Answer("keep", prompt_sha=sha, tool_calls=toolbox.take_calls(), failure="the planner finds no way")
        text = mind.write(see_through(mind, self._habits))
        return Answer("propose", text, prompt_sha=sha, tool_calls=toolbox.take_calls())

    def review(self, situation: Situation, textbook: Textbook, text: str, toolbox: Toolbox) -> Answer:
        """Runs the checkers of a textbook's principles; where one objects, mends what this discipline objects to."""
        sha = self.question_sha("review", situation, textbook, text)
        if situation.product == PREDICTION.name:
            return self._review_prediction(sha, textbook, text, toolbox)
        try:
            plan = parse_plan(text)
        except UserError as error:
            return Answer("keep", prompt_sha=sha, tool_calls=toolbox.take_calls(), failure=str(error))
        toolbox.use("roll_forward", plan=plan_in_words(plan))
        principles = tuple(principle.id for principle in textbook.principles)
        case = self._case(situation, text, toolbox)
        found = violations(case, principles)
        better = self._mended(case, principles, found, textbook.discipline, toolbox) if found else None
        if better:  # what is mended now is cited first
            left = {violation.principle for violation in violations(self._case(situation, better, toolbox), principles)}
            found = sorted(found, key=lambda violation: violation.principle in left)
        ids = tuple(dict.fromkeys(violation.principle for violation in found))
        words = critique(found, better is None, self._pick(situation, text)) if found else approval(
            case, textbook.discipline, self._pick(situation, text)
        )
        verdict = "keep" if better is None else "refine"
        return Answer(verdict, better or "", words, ids, sha, toolbox.take_calls())

    def explain_otherwise(self, situation: Situation, text: str, toolbox: Toolbox) -> Answer:
        """The same plan, explained anew from what its actions rest on."""
        sha = self.question_sha("explain", situation, None, text)
        if situation.product == PREDICTION.name:
            other = self._foretell(toolbox).explain_otherwise(text)
            return Answer("propose", other, prompt_sha=sha, tool_calls=toolbox.take_calls())
        mind = self._think(toolbox)
        if mind is None:
            return Answer("keep", prompt_sha=sha, tool_calls=toolbox.take_calls(), failure="the planner finds no way")
        plan = parse_plan(text)
        others = [text_of(plan, mind.belief, mind.rng("otherwise", i, plan)) for i in range(4)]
        statement = plan_in_words(plan)
        other = next((o for o in others if explanation_of(o) != explanation_of(text)), others[0])
        return Answer("propose", f"{statement} {explanation_of(other)}", prompt_sha=sha, tool_calls=toolbox.take_calls())

    def question_sha(self, kind: str, situation: Situation, textbook: Textbook | None = None, text: str = "") -> str:
        """See `protocol.Backend`."""
        return self._sha(kind, textbook.sha if textbook else "", situation, text)

    def _review_prediction(self, sha: str, textbook: Textbook, text: str, toolbox: Toolbox) -> Answer:
        try:
            parse_prediction(text)
        except UserError as error:
            return Answer("keep", prompt_sha=sha, tool_calls=toolbox.take_calls(), failure=str(error))
        toolbox.use("roll_forward", plan=toolbox.situation.supposed)
        review = self._foretell(toolbox).review(textbook, text)
        verdict = "refine" if review.better else "keep"
        return Answer(verdict, review.better or "", review.words, review.principles, sha, toolbox.take_calls())

    def _foretell(self, toolbox: Toolbox) -> Foreteller:
        if self._foreteller is None or self._foreteller.toolbox is not toolbox:
            self._foreteller = Foreteller(self.seed, toolbox)
        return self._foreteller

    def _think(self, toolbox: Toolbox) -> Mind | None:
        if self._mind is None or self._mind.toolbox is not toolbox:
            sound = sound_plan(toolbox)
            self._mind = Mind(self.seed, toolbox, sound) if sound else None
            self._habits = draw_habits(self._mind) if sound else ()
        return self._mind

    def _mended(
        self, case: Case, principles: tuple[str, ...], found: list[Violation], discipline: str, toolbox: Toolbox
    ) -> str | None:
        """A text with fewer violations of these principles; None: the rest is for other disciplines to mend."""
        mind = self._think(toolbox)
        if mind is None:
            return None
        habits = self._recognise(mind, case)
        if habits is None:  # somebody else's plan: there is nothing to let go of, so think anew
            return mind.write(mind.sound.thought)
        own = [habit for habit in habits if habit.discipline == discipline]
        for habit in own:  # one at a time, as long as that helps
            thought = self._without(mind, habits, [habit])
            if self._is_step_on(mind, habits, thought) and self._breaks(mind, thought, principles) < len(found):
                return mind.write(thought)
        thought = self._without(mind, habits, own)
        if mind.plan(thought) != case.plan:
            return mind.write(thought if self._is_step_on(mind, habits, thought) else mind.sound.thought)
        for other in {habit.discipline: None for habit in habits if habit.discipline != discipline}:
            theirs = [habit for habit in habits if habit.discipline == other]
            if violations(case, DISCIPLINES[other]) and mind.plan(self._without(mind, habits, theirs)) != case.plan:
                return None
        thoughts = [self._without(mind, habits, [habit]) for habit in habits]
        best = min(thoughts, key=lambda thought: self._breaks(mind, thought, principles), default=mind.sound.thought)
        return mind.write(best if self._breaks(mind, best, principles) < len(found) else mind.sound.thought)

    def _is_step_on(self, mind: Mind, habits: tuple[Habit, ...], thought: Thought) -> bool:
        """Whether fewer habits can be behind a thought than now: reviews that take such steps only never go in circles."""
        return len(self._recognise(mind, mind.case(thought))) < len(habits)

    def _without(self, mind: Mind, habits: tuple[Habit, ...], given_up: list[Habit]) -> Thought:
        return see_through(mind, tuple(habit for habit in habits if habit not in given_up))

    def _breaks(self, mind: Mind, thought: Thought, principles: tuple[str, ...]) -> int:
        return len(violations(mind.case(thought), principles))

    def _recognise(self, mind: Mind, case: Case) -> tuple[Habit, ...] | None:
        """The habits that lead to a plan, as many as can be behind it: what one hides is there still when it is gone."""
        claims, alike = set(case.claims), []
        for n in range(len(self._habits) + 1):
            for habits in combinations(self._habits, n):
                thought = see_through(mind, habits)
                if thought.actions == case.rollout.actions and mind.plan(thought) == case.plan:
                    if not habits:
                        return ()
                    alike.append((bool(claims & set(mind.case(thought).claims)), habits))
        return max(alike, key=lambda found: (found[0], len(found[1])))[1] if alike else None

    def _case(self, situation: Situation, text: str, toolbox: Toolbox) -> Case:
        plan = parse_plan(text)
        return Case(situation, plan, explanation_of(text), toolbox.rollout(actions_of(plan)))

    def _sha(self, kind: str, textbook_sha: str, situation: Situation, text: str) -> str:
        words = (self.name, kind, textbook_sha, situation.id, situation.text, str(self.seed), text)
        if situation.product != PLAN.name:
            words = (*words, situation.product)
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]

    def _pick(self, situation: Situation, text: str) -> int:
        return int(self._sha("words", "", situation, text)[:8], 16)

