"""A stand-in for the exemplary actor: valid traces within microseconds, a function of what a trace depends on.

The environment variable FAKE_SECONDS makes each trace take so long (for tests that kill a build); FAKE_LOG names a file
that gets a line for each trace made.
"""

import hashlib
import os
import time

import numpy as np

from hjepa_gfn.data.workshop import Workshop
from hjepa_gfn.exemplary.backends.replay import Replay
from hjepa_gfn.exemplary.forecasts import Prediction, prediction_in_words
from hjepa_gfn.exemplary.phrases import Clause, legs_of, parse_plan, plan_in_words
from hjepa_gfn.exemplary.protocol import Answer, Situation, ToolCall
from hjepa_gfn.exemplary.supposing import supposing
from hjepa_gfn.exemplary.textbooks import Principle, Textbook
from hjepa_gfn.exemplary.traces import Entry, Trace, Trajectory

GOALS = ("go to the red ball", "pick up a key", "open the grey door", "put the box next to the ball")
MISTAKE = "turn left and turn right"


def draws(*names):
    """Random draws that depend on the names alone."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def solvable(level, seed):
    """Whether the fake actor solves an episode: four in five."""
    return draws("solve", level, seed).random() < 0.8


def book(discipline, edition=0):
    """A textbook of a discipline, in some edition."""
    text = f"# {discipline}, edition {edition}"
    principle = Principle(f"{discipline}-1", "Waste no step.", "")
    return Textbook(discipline, text, hashlib.sha256(text.encode()).hexdigest(), (principle,))


def textbooks(paths):
    """Two textbooks, a third for each path, whose name gives its edition: "safety-3"."""
    books = {name: book(name) for name in ("causality", "safety")}
    for path in paths:
        discipline, _, edition = os.path.basename(path).partition("-")
        books[discipline] = book(discipline, int(edition))
    return tuple(books.values())


def sha(*names):
    return hashlib.sha256(repr(names).encode()).hexdigest()


def tried(plan):
    """What the tool that a review used has said."""
    return (ToolCall("roll_forward", {}, f"it has {len(legs_of(plan))} legs."),)


class Backend:
    """Drafts a plan with a needless leg at each clause's start; reviews find one, or leave the text as it is."""

    name = "fake"

    def question_sha(self, kind, situation, textbook, text):
        return sha(kind, situation.id, textbook and textbook.sha, text)

    def draft(self, situation, books, toolbox):
        rng = draws("draft", situation.id)
        clauses = []
        for goal in rng.choice(GOALS, int(rng.integers(1, 4)), replace=False).tolist():
            legs = [rng.integers(0, 7, int(rng.integers(1, 4))).tolist() for _ in range(int(rng.integers(1, 3)))]
            clauses.append(Clause(goal, [[0, 1], *legs] if rng.random() < 0.7 else legs))
        question = self.question_sha("draft", situation, None, "")
        return Answer("propose", f"{plan_in_words(clauses)} because {situation.id}.", prompt_sha=question)

    def review(self, situation, textbook, text, toolbox):
        question = self.question_sha("review", situation, textbook, text)
        plan = parse_plan(text)
        at = next((i for i, clause in enumerate(plan) if clause.legs[0] == [0, 1] and len(clause.legs) > 1), None)
        if at is None or draws(question).random() < 0.3:
            return Answer("keep", "", "nothing to find", (), question, tried(plan))
        plan[at] = Clause(plan[at].goal, plan[at].legs[1:])
        better = f"{plan_in_words(plan)} because {situation.id}."
        return Answer("refine", better, "a needless leg", (textbook.principles[0].id,), question, tried(plan))

    def explain_otherwise(self, situation, text, toolbox):
        question = self.question_sha("explain", situation, None, text)
        return Answer("propose", text.partition(".")[0] + ". it is so.", prompt_sha=question)


class Actor:
    """Two sweeps through the textbooks; the final plan "executed" in a world of noise."""

    def __init__(self, level, seed, books, backend, robustness):
        self.level, self.seed, self.books, self.backend, self.robustness = level, seed, books, backend, robustness

    def trace(self, episode_seed, split, family=""):
        time.sleep(float(os.environ.get("FAKE_SECONDS", 0)))
        if log := os.environ.get("FAKE_LOG"):
            with open(log, "a") as file:
                file.write(f"{split} {episode_seed}\n")
        return self._trace(episode_seed, split, family) if solvable(self.level, episode_seed) else None

    def imagine(self, episode_seed, split, family=""):
        return self._trace(episode_seed, split, family).without_trajectory()

    def predict(self, episode_seed, split, family=""):
        trace = self._trace(episode_seed, split, family)
        rng = draws("predict", self.level, self.seed, episode_seed)
        texts = [f"{prediction_in_words(Prediction(n, '', None, bool(n), 3))} so." for n in (int(rng.integers(1, 4)), 0)]
        answers = [Answer(verdict, text) for verdict, text in zip(("propose", "refine"), texts)]
        entries = [entry(answer, i, i, "causality" if i else "", "", True) for i, answer in enumerate(answers)]
        situation = supposing(trace.situation, "turn left.")
        moves = trace.without_trajectory().trajectory
        return Trace(situation, split, family, entries, True, None, bool(rng.random() < 0.5), moves)

    def _trace(self, episode_seed, split, family):
        rng = draws(self.level, self.seed, episode_seed)
        view, direction = rng.integers(0, 9, (7, 7, 3)).astype(np.uint8), int(rng.integers(4))
        goal = rng.choice(GOALS)
        situation = Situation(self.level, episode_seed, goal, view, direction, f"mission: {goal}. you see nothing.")
        first = self.backend.draft(situation, self.books, None)
        entries, version = [entry(first, 0, 0, "", "", True)], 0
        for sweep in (1, 2):
            for review in self.books:
                answer = self.backend.review(situation, review, entries[-1].text or current(entries), None)
                accepted = answer.verdict == "refine"
                version += accepted
                entries.append(entry(answer, version, sweep, review.discipline, review.sha, accepted))
        robust = None
        if self.robustness:
            robust = bool(self.backend.explain_otherwise(situation, current(entries), None).text)
        plan = next(e for e in reversed(entries) if e.accepted).plan
        legs = legs_of(plan)
        action = [a for leg in legs for a in leg]
        segment = [i for i, leg in enumerate(legs) for _ in leg]
        clause = [i for i, part in enumerate(plan) for _ in part.legs]
        views = np.concatenate([view[None], rng.integers(0, 9, (len(action), 7, 7, 3)).astype(np.uint8)])
        directions = np.array([direction, *rng.integers(0, 4, len(action))], np.int32)
        moves = Trajectory(views, directions, action, segment, [f"leg {i}" for i in range(len(legs))], clause)
        return Trace(situation, split, family, entries, bool(rng.random() < 0.9), robust, True, moves)


def current(entries):
    return next(e.text for e in reversed(entries) if e.accepted)


def entry(answer, version, sweep, discipline, textbook_sha, accepted):
    return Entry(
        version, sweep, discipline, textbook_sha, answer.verdict, answer.critique, answer.principle_ids, answer.text,
        answer.prompt_sha, answer.tool_calls, answer.usage, answer.failure, accepted, "", "fake",
    )  # fmt: skip


def make_backend(spec, settings, seed):
    return Backend()


WORKSHOP = Workshop(Actor, make_backend, Replay, textbooks)
