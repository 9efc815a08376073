"""The loop decides what is accepted, when to stop, and hides nothing."""

import pytest

from hjepa_gfn.exemplary.loop import exemplify
from hjepa_gfn.exemplary.phrases import parse_plan
from hjepa_gfn.exemplary.protocol import Answer
from hjepa_gfn.exemplary.textbooks import Textbook

BOOKS = tuple(Textbook(name, f"# {name}", f"sha-{name}", ()) for name in ("one", "two"))
A, B, C = ("turn left. i see it.", "turn right. i see it.", "go forward 1. i see it.")


class Scripted:
    """A back end that answers from a script: the draft, then reviews in order ("" keeps, "!" fails); keeps at its end."""

    name = "scripted"

    def __init__(self, *script, otherwise=A):
        self.script, self.otherwise, self.seen = list(script), otherwise, []

    def draft(self, situation, textbooks, toolbox):
        return Answer("propose", self.script.pop(0))

    def review(self, situation, textbook, text, toolbox):
        self.seen.append((textbook.discipline, text))
        text = self.script.pop(0) if self.script else ""
        if text == "!":
            return Answer("keep", failure="time-out")
        return Answer("refine", text, "critique", ("p",)) if text else Answer("keep", critique="fine")

    def explain_otherwise(self, situation, text, toolbox):
        return Answer("propose", self.otherwise)


def run(*script, otherwise=A, **options):
    backend = Scripted(*script, otherwise=otherwise)
    return exemplify(None, BOOKS, backend, None, **options), backend


def test_nothing_to_object_converges_after_one_sweep():
    result, backend = run(A)
    assert result.converged and result.text == A and result.robust is None
    told = [(entry.sweep, entry.discipline, entry.accepted) for entry in result.entries]
    assert told == [(0, "", True), (1, "one", False), (1, "two", False)]
    assert [e.textbook_sha for e in result.entries] == ["", "sha-one", "sha-two"]
    assert all(entry.backend == "scripted" for entry in result.entries)


def test_a_change_asks_for_another_whole_sweep():
    result, backend = run(A, B)
    assert result.converged and result.text == B
    assert [e.sweep for e in result.entries] == [0, 1, 1, 2, 2]
    assert [e.version for e in result.entries] == [0, 1, 1, 1, 1]
    assert backend.seen == [("one", A), ("two", B), ("one", B), ("two", B)]


def test_other_words_for_the_same_plan_are_taken_and_are_no_change():
    other = "turn left. there it is."
    result, _ = run(A, other)
    assert result.converged and result.text == other and result.entries[-1].sweep == 1


def test_the_limit_is_not_hidden():
    result, _ = run(A, B, "", C, "", max_sweeps=2)
    assert not result.converged and result.text == C and result.entries[-1].sweep == 2
    result, _ = run(A, B, "", C, "", max_sweeps=3)
    assert result.converged


def test_a_refinement_that_states_no_plan_is_turned_down_with_the_reason():
    result, backend = run(A, "fly away. i can.", "", "", "")
    assert result.text == A and result.converged
    turned_down = result.entries[1]
    assert not turned_down.accepted and "fly away" in turned_down.reason and turned_down.text.startswith("fly")
    assert result.entries[-1].sweep == 2  # a sweep with an answer that could not be used vouches for nothing
    assert backend.seen[1] == ("two", A)


def test_a_failure_is_recorded_and_the_loop_goes_on():
    result, backend = run(A, "!", B)
    assert result.entries[1].failure == "time-out" and not result.entries[1].accepted
    assert result.text == B and result.converged
    never, _ = run(A, *["!"] * 20)
    assert not never.converged and never.text == A


def test_a_plan_that_comes_back_ends_the_loop():
    result, backend = run(A, B, A, C)
    assert not result.converged and result.text == B
    assert result.entries[-1].reason == "cycle: the plan of version 0 again" and not result.entries[-1].accepted
    assert len(backend.seen) == 2


@pytest.mark.parametrize("first", ["no plan at all.", ""])
def test_a_draft_without_a_plan_is_asked_for_once_more(first):
    result, _ = run(first, B)
    assert [e.accepted for e in result.entries[:2]] == [False, True] and result.entries[0].reason
    assert result.text == B and result.entries[1].version == 0
    nothing, backend = run(first, "and again nothing.")
    assert nothing.text is None and not nothing.converged and len(nothing.entries) == 2 and backend.seen == []


def test_converse_check():
    stands, backend = run(A, robustness=True, otherwise="turn left. another reason.")
    assert stands.robust is True and backend.seen[-1] == ("two", "turn left. another reason.")
    assert [e.accepted for e in stands.entries[3:]] == [False] * 3 and stands.text == A
    falls, _ = run(A, "", "", "", B, robustness=True)
    assert falls.robust is False and falls.text == A and falls.converged
    words, _ = run(A, "", "", "turn left. yet other words.", robustness=True)
    assert words.robust is True
    another_plan, _ = run(A, robustness=True, otherwise=B)
    assert another_plan.robust is None and "another plan" in another_plan.entries[-1].reason
    assert parse_plan(another_plan.text) == parse_plan(A)
    unfinished, _ = run(A, B, robustness=True, max_sweeps=1)
    assert unfinished.robust is None
