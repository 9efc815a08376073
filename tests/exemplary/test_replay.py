"""Recording answers, and replaying recordings and traces."""

import json

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.backends import make_backend
from hjepa_gfn.exemplary.backends.questions import hash_of
from hjepa_gfn.exemplary.backends.recorder import Recorder
from hjepa_gfn.exemplary.backends.recordings import read_recorded
from hjepa_gfn.exemplary.backends.replay import Replay
from hjepa_gfn.exemplary.protocol import Answer, ToolCall, Usage
from hjepa_gfn.exemplary.traces import Trace
from tests.exemplary.tiny_questions import BOOK, SITUATION, TEXT, trace_of


class Someone:
    """A back end that answers with how often it was asked, and fails when told to."""

    name = "someone"

    def __init__(self, seed=0):
        self.seed, self.asked, self.failing, self.stopped = seed, 0, False, ""

    def question_sha(self, kind, situation, textbook, text):
        return hash_of(self.name, self.seed, kind, situation.id, textbook.sha if textbook else "", text)

    def _answer(self, kind, verdict, *question):
        self.asked += 1
        sha = self.question_sha(kind, *question)
        if self.failing:
            return Answer("keep", prompt_sha=sha, failure="too tired")
        return Answer(
            verdict, f"wait. {self.asked} times asked.", "é critique", ("be-kind",), sha,
            (ToolCall("look", {"far": [1, None]}, "nothing"),), Usage(2, 3, 4, 0.5),
        )  # fmt: skip

    def draft(self, situation, textbooks, toolbox):
        return self._answer("draft", "propose", situation, None, "")

    def review(self, situation, textbook, text, toolbox):
        return self._answer("review", "refine", situation, textbook, text)

    def explain_otherwise(self, situation, text, toolbox):
        return self._answer("explain", "propose", situation, None, text)


def ask_all(backend):
    return [
        backend.draft(SITUATION, (BOOK,), None),
        backend.review(SITUATION, BOOK, TEXT, None),
        backend.explain_otherwise(SITUATION, TEXT, None),
    ]


def test_what_was_recorded_is_replayed(tmp_path):
    file = tmp_path / "answers.jsonl"
    recorder = Recorder(Someone(), file)
    said = ask_all(recorder)
    assert recorder.name == "someone"
    replay = Replay(file)
    assert ask_all(replay) == said and replay.name == "someone"
    assert replay.question_sha("review", SITUATION, BOOK, TEXT) == said[1].prompt_sha


def test_every_answer_is_on_disk_at_once(tmp_path):
    file = tmp_path / "answers.jsonl"
    recorder = Recorder(Someone(), file)
    recorder.draft(SITUATION, (), None)
    assert len(file.read_text().splitlines()) == 1 and file.read_text().endswith("\n")
    recorder.review(SITUATION, BOOK, TEXT, None)
    assert len(list(read_recorded(file))) == 2


@pytest.mark.parametrize(
    "change",
    [
        dict(text="wait. other text."),
        dict(textbook=BOOK._replace(sha="0" * 16)),
        dict(situation="other"),
    ],
)
def test_another_question_is_a_clear_failure(tmp_path, change):
    import dataclasses

    file = tmp_path / "answers.jsonl"
    ask_all(Recorder(Someone(), file))
    situation = dataclasses.replace(SITUATION, text="another") if "situation" in change else SITUATION
    answer = Replay(file).review(situation, change.get("textbook", BOOK), change.get("text", TEXT), None)
    assert answer.verdict == "keep" and answer.text == ""
    assert answer.failure.startswith("not recorded: ") and "answers.jsonl" in answer.failure
    assert "review by manners of BabyAI-GoToLocal-v0:3" in answer.failure


def test_an_unknown_draft_proposes_nothing(tmp_path):
    answer = Replay([]).draft(SITUATION, (), None)
    assert answer.verdict == "propose" and answer.text == "" and answer.failure.startswith("not recorded: the traces")


def test_the_fallback_is_asked_only_what_is_not_recorded(tmp_path):
    file = tmp_path / "answers.jsonl"
    first = Recorder(Someone(), file).draft(SITUATION, (), None)
    fallback = Someone()
    said = ask_all(Replay(file, fallback))
    assert said[0] == first and fallback.asked == 2


def test_with_a_fallback_its_hash_decides(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask_all(Recorder(Someone(), file))
    fallback = Someone(seed=1)
    ask_all(Replay(file, fallback))
    assert fallback.asked == 3


def test_a_fallback_that_hashes_no_questions(tmp_path):
    class Plain(Someone):
        question_sha = None

        def _answer(self, *question):
            self.asked += 1
            return Answer("keep")

    file = tmp_path / "answers.jsonl"
    said = Recorder(Someone(), file).draft(SITUATION, (), None)
    fallback = Plain()
    assert ask_all(Replay(file, fallback))[0] == said and fallback.asked == 2


def test_recorded_failures_are_asked_again_if_there_is_somebody(tmp_path):
    file = tmp_path / "answers.jsonl"
    tired, fallback = Someone(), Someone()
    tired.failing = True
    Recorder(tired, file).draft(SITUATION, (), None)
    assert Replay(file).draft(SITUATION, (), None).failure == "too tired"
    assert not Replay(file, fallback).draft(SITUATION, (), None).failure and fallback.asked == 1


def test_the_last_of_several_answers_counts(tmp_path):
    file = tmp_path / "answers.jsonl"
    recorder = Recorder(Someone(), file)
    recorder.draft(SITUATION, (), None)
    second = recorder.draft(SITUATION, (), None)
    assert Replay(file).draft(SITUATION, (), None) == second == Replay(file, Someone()).draft(SITUATION, (), None)


def test_a_torn_last_line_is_ignored_and_cut_off_before_recording_goes_on(tmp_path):
    file = tmp_path / "answers.jsonl"
    said = ask_all(Recorder(Someone(), file))
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.warns(UserWarning, match=r"answers\.jsonl: the last line is torn"):
        replay = Replay(file)
    assert replay.review(SITUATION, BOOK, TEXT, None) == said[1]
    assert replay.explain_otherwise(SITUATION, TEXT, None).failure
    with pytest.warns(UserWarning, match="torn"):
        again = Recorder(Someone(), file)
    last = again.explain_otherwise(SITUATION, TEXT, None)
    assert [r.answer for r in read_recorded(file)] == [*said[:2], last]


def test_a_spoilt_line_is_named(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask_all(Recorder(Someone(), file))
    for spoilt in ("{", "3", "{}", json.dumps({"question": {}, "answer": {}, "backend": ""})):
        lines = file.read_text().splitlines()
        lines[1] = spoilt
        file.write_text("\n".join(lines) + "\n")
        with pytest.raises(UserError, match=r"answers\.jsonl: line 2 is neither a recorded answer nor a trace"):
            Replay(file)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(UserError, match="cannot read the recorded answers"):
        Replay(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot record there"):
        Recorder(Someone(), tmp_path)


def test_traces_are_replayed(tmp_path):
    backend = Someone()
    draft, review, kept = backend.draft(SITUATION, (), None), *(backend.review(SITUATION, BOOK, TEXT, None) for _ in "ab")
    kept = kept._replace(verdict="keep", text="")
    otherwise = backend.explain_otherwise(SITUATION, TEXT, None)
    trace = trace_of([
        (draft, "", "", True), (review, "manners", BOOK.sha, True),
        (kept, "manners", BOOK.sha, False), (otherwise, "", "", False),
    ])  # fmt: skip
    file = tmp_path / "traces.jsonl"
    file.write_text(trace.to_json() + "\n")
    for replay in (Replay([trace]), Replay(file), Replay([Trace.from_json(trace.to_json())])):
        assert replay.draft(SITUATION, (BOOK,), None) == draft
        assert replay.review(SITUATION, BOOK, draft.text, None) == review
        assert replay.review(SITUATION, BOOK, review.text, None) == kept
        assert replay.explain_otherwise(SITUATION, review.text, None) == otherwise
        assert replay.name == "someone"


def test_that_nobody_will_answer_is_passed_on(tmp_path):
    backend = Someone()
    wrapped = Replay([], Recorder(backend, tmp_path / "answers.jsonl"))
    assert wrapped.stopped == "" and Replay([]).stopped == ""
    backend.stopped = "no money"
    assert wrapped.stopped == "no money"


def test_specs_of_back_ends(tmp_path):
    file = tmp_path / "answers.jsonl"
    said = ask_all(Recorder(Someone(), file))
    assert ask_all(make_backend(f"replay:{file}")) == said
    copy = tmp_path / "copy.jsonl"
    make_backend(f"replay:{file}", record=copy).draft(SITUATION, (), None)
    assert Replay(copy).draft(SITUATION, (), None) == said[0]
    for spec in ("rule", "", "openai", "replay:", "rules:x"):
        with pytest.raises(UserError, match=f"unknown back end '{spec}': choose from rules, openai:NAME"):
            make_backend(spec)
    with pytest.raises(UserError, match="'colour' is no setting of the back end 'rules'"):
        make_backend("rules", colour=1)
    with pytest.raises(UserError, match="'seed' is no setting of a replay without fallback"):
        make_backend(f"replay:{file}", seed=1)


def test_rules_are_a_back_end_by_name():
    assert make_backend("rules", seed=5).seed == 5


def test_a_replay_with_a_fallback_by_spec(tmp_path):
    pytest.importorskip("pydantic_ai")
    file = tmp_path / "answers.jsonl"
    ask_all(Recorder(Someone(), file))
    backend = make_backend(f"replay:{file}", fallback="openai:some", base_url="http://localhost", timeout=3)
    assert backend.name == "openai:some"
