"""Predictions as a product: they begin naive and end true, by rules and by a language model; traces say what they are."""

import json

import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary import ExemplaryActor
from hjepa_gfn.exemplary.backends.recorder import Recorder
from hjepa_gfn.exemplary.backends.replay import Replay
from hjepa_gfn.exemplary.forecasts import Prediction, parse_prediction, prediction_in_words
from hjepa_gfn.exemplary.foresight.foresee import foresee
from hjepa_gfn.exemplary.foresight.truth import false_parts, is_true
from hjepa_gfn.exemplary.knowledge import load_textbooks
from hjepa_gfn.exemplary.loop import exemplify
from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
from hjepa_gfn.exemplary.prediction_quality import prediction_quality, print_prediction_quality
from hjepa_gfn.exemplary.products import PLAN, PREDICTION, product_named
from hjepa_gfn.exemplary.protocol import Answer
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.rules.backend import RuleBackend
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.supposing import supposing
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.exemplary.traces import Trace
from hjepa_gfn.worlds.babyai import make_env
from tests.exemplary.books import BOOKS

LEVEL = "BabyAI-GoToLocal-v0"


@pytest.fixture(scope="module")
def predictions():
    found = []
    for name, n in (("GoToLocal", 16), ("PutNextLocal", 6), ("UnlockPickup", 4)):
        actor = ExemplaryActor(f"BabyAI-{name}-v0", textbooks=BOOKS)
        found += [actor.predict(seed, "train", "a family") for seed in range(n)]
    return found


def rolled(trace):
    _, state = situation_of(trace.level, trace.seed)
    return roll(state, tuple(actions_of(parse_plan(trace.situation.supposed))))


def test_naive_at_first_true_at_the_end(predictions):
    first = [trace.versions[0] for trace in predictions]
    for trace, draft in zip(predictions, first):
        assert trace.converged and trace.robust and trace.success and trace.product == "prediction"
        rollout = rolled(trace)
        best = foresee(trace.situation.view, trace.mission, rollout.actions).prediction
        assert trace.final.value == best and is_true(trace.final.value, rollout)  # all that can be known, and it is so
        assert draft.value != best and trace.final.plan is None
        assert [entry.discipline for entry in trace.entries[1:6]] == [book.discipline for book in BOOKS]
        assert all(entry.tool_calls[0].name == "roll_forward" for entry in trace.entries[1:6])
        for draft in trace.drafts:
            assert draft.principle and draft.value != trace.final.value
    assert np.mean([is_true(d.value, rolled(t)) for t, d in zip(predictions, first)]) < 0.5
    assert len({trace.versions[0].principle for trace in predictions}) > 3
    known = np.mean([[part is not None for part in trace.final.value] for trace in predictions])
    assert 0.3 < known < 0.95  # some things can be known, and not all


def test_plans_that_fail_are_predicted_too(predictions):
    succeeds = [rolled(trace).success for trace in predictions]
    assert 0.15 < np.mean(succeeds) < 0.85
    actor = ExemplaryActor(LEVEL, textbooks=BOOKS)
    for trace in predictions[:8]:
        plans = actor.trace(trace.seed, "train")
        assert trace.situation.supposed in {version.text.partition(".")[0] + "." for version in plans.versions}
        assert trace.situation.text.startswith(plans.situation.text) and trace.situation.id == plans.situation.id


def test_traces_of_predictions_and_of_plans(predictions):
    for trace in predictions[:5]:
        line = trace.to_json()
        again = Trace.from_json(line)
        assert again.to_json() == line and again.versions == trace.versions and again.situation.supposed
        record = json.loads(line)
        assert record["product"] == "prediction" and record["versions"][0]["prediction"].endswith(".")
        assert record["trajectory"]["action"] == [] and len(trace.trajectory.view) == 1
    plan = ExemplaryActor(LEVEL, textbooks=BOOKS).trace(0, "train").to_json()
    assert "product" not in json.loads(plan) and "supposed" not in json.loads(plan)
    with pytest.raises(UserError, match="unknown product"):
        product_named("poem")


def test_a_prediction_depends_on_seeds_only_and_leaves_plans_as_they_are():
    actor, other = ExemplaryActor(LEVEL, textbooks=BOOKS), ExemplaryActor(LEVEL, textbooks=BOOKS)
    plain = actor.trace(3, "train").to_json()
    first = other.predict(3, "train").to_json()
    assert first == actor.predict(3, "train").to_json() == other.predict(3, "train").to_json()
    other.predict(4, "train")
    assert other.trace(3, "train").to_json() == plain and other.predict(3, "train").to_json() == first
    assert other.imagine(3, "validation").split == "validation"
    assert ExemplaryActor(LEVEL, seed=1, textbooks=BOOKS).predict(3, "train").to_json() != first


def question(seed=0, plan="turn left and go forward 2 and pick up.", level=LEVEL):
    situation, _ = situation_of(level, seed)
    situation = supposing(situation, plan)
    return situation, Toolbox(situation, make_env(level))


def test_the_product_is_part_of_the_question():
    situation, _ = question()
    plain, _ = situation_of(LEVEL, 0)
    backend = RuleBackend()
    shas = {backend.question_sha("draft", s) for s in (plain, situation, supposing(plain, "turn left."))}
    assert len(shas) == 3


@pytest.mark.parametrize("seed", range(4))
def test_somebody_elses_prediction_is_put_right(seed):
    """Whatever is claimed or left open: reviews by rules end with all that can be known, without going in circles."""
    situation, toolbox = question(seed)
    rng = np.random.default_rng(seed)
    claims = Prediction(int(rng.integers(0, 5)), "red key", (("red door", "open"),), bool(seed % 2), [None, 2][seed // 2])

    class Stranger(RuleBackend):
        def draft(self, situation, textbooks, toolbox):
            return Answer("propose", f"{prediction_in_words(claims)} i feel it.")

    result = exemplify(situation, BOOKS, Stranger(), toolbox, product=PREDICTION, robustness=True)
    assert result.converged and result.robust
    rollout = toolbox.rollout(actions_of(parse_plan(situation.supposed)))
    final = parse_prediction(result.text)
    assert final == foresee(situation.view, situation.mission, rollout.actions).prediction != claims
    assert false_parts(final, rollout) == [] and false_parts(claims, rollout)


def test_a_false_ground_is_put_right_though_the_prediction_is_right():
    situation, toolbox = question(2)
    best = foresee(situation.view, situation.mission, actions_of(parse_plan(situation.supposed))).prediction
    text = f"{prediction_in_words(best)} because the purple ball is 9 ahead."
    books = {book.discipline: book for book in load_textbooks()}
    answer = RuleBackend().review(situation, books["design"], text, toolbox)
    assert answer.verdict == "refine" and answer.principle_ids == ("within-sight",)
    assert parse_prediction(answer.text) == best and "9 ahead" not in answer.text


def test_what_states_no_prediction_is_a_failure():
    situation, toolbox = question()
    answer = RuleBackend().review(situation, BOOKS[0], "go forward 1. i see it.", toolbox)
    assert answer.verdict == "keep" and "cannot read" in answer.failure


def test_the_loop_tells_products_apart():
    class Stubborn:
        name = "stubborn"

        def draft(self, situation, textbooks, toolbox):
            return Answer("propose", "turn left. i see it.")

    assert exemplify(None, (), Stubborn(), None).text
    result = exemplify(None, (), Stubborn(), None, product=PREDICTION)
    assert result.text is None and "cannot read 'turn left'" in result.entries[0].reason
    assert PLAN.read("turn left. i see it.") == [("", [[0]])]


def test_recorded_predictions_are_replayed(tmp_path):
    file = tmp_path / "answers.jsonl"
    actor = ExemplaryActor(LEVEL, textbooks=BOOKS, backend=Recorder(RuleBackend(), file))
    first = [actor.predict(seed, "train") for seed in (1, 2)]
    replayed = ExemplaryActor(LEVEL, textbooks=BOOKS, backend=Replay(file))
    assert [replayed.predict(seed, "train").to_json() for seed in (1, 2)] == [trace.to_json() for trace in first]
    plans = actor.trace(1, "train")
    both = Replay([plans, first[0]], fallback=RuleBackend())  # plans and predictions of a situation side by side
    both._fallback.draft = both._fallback.review = None  # nobody else is asked
    again = ExemplaryActor(LEVEL, textbooks=BOOKS, backend=both, robustness=False)
    assert again.trace(1, "train").final.text == plans.final.text
    assert again.predict(1, "train").final.text == first[0].final.text


def test_quality(predictions, capsys):
    report = prediction_quality(predictions)
    assert report["traces"] == 26 and report["converged"] == 1 and report["robust"] == 1
    assert report["true"]["final"] == report["sound"]["final"] == 1 and report["sound"]["draft"] == 0
    assert report["true"]["draft"] < 0.5 and report["known"]["final"]["held"] > report["known"]["final"]["steps"]
    assert sum(means["final"] for means in report["faults"].values()) == 0
    assert sum(means["draft"] for means in report["faults"].values()) >= 1
    assert report["plans_succeed"] == pytest.approx(np.mean([rolled(trace).success for trace in predictions]), abs=1e-3)
    print_prediction_quality(report)
    assert "all that is claimed did happen" in capsys.readouterr().out
    with pytest.raises(UserError, match="no predictions"):
        prediction_quality([])


class TestLanguageModel:
    """A function plays the model."""

    BEST = prediction_in_words(Prediction(0, "", (), True, 1))

    @pytest.fixture
    def played(self):
        pytest.importorskip("pydantic_ai")
        from hjepa_gfn.exemplary.backends.language_model import LanguageModel
        from tests.exemplary.test_language_model import FunctionModel, Scripted, final

        def make(*responses):
            script = Scripted(*(response if callable(response) else final(**response) for response in responses))
            return script, LanguageModel("openai:some", model=FunctionModel(script), backoff=0.0)

        return make

    def test_a_draft_and_a_review(self, played):
        situation, toolbox = question(plan="turn left.")
        script, model = played(dict(prediction=self.BEST.upper(), explanation="I see\n the way."))
        answer = model.draft(situation, BOOKS, toolbox)
        assert answer.text == f"{self.BEST} i see the way." and not answer.failure
        (asked,) = [part for part in script.heard[0].parts if part.part_kind == "user-prompt"]
        assert situation.text in asked.content and "suppose you do this: turn left." in asked.content
        assert {tool.name for tool in script.info.function_tools} >= {"roll_forward", "route"}  # the real toolbox
        assert "You predict" in str(script.info.instructions)
        said = dict(verdict="refine", critique="no.", principle_ids=["walls-stand"], prediction=self.BEST, explanation="so.")
        script, model = played(said)
        book = next(book for book in load_textbooks() if book.discipline == "physics")
        review = model.review(situation, book, answer.text, toolbox)
        assert review[:4] == ("refine", f"{self.BEST} so.", "no.", ("walls-stand",))
        other = played(dict(explanation="it is so."))[1].explain_otherwise(situation, answer.text, toolbox)
        assert other.text == f"{self.BEST} it is so."

    def test_what_cannot_be_read_is_pointed_out_once(self, played):
        situation, toolbox = question(plan="turn left.")
        good = dict(prediction=self.BEST, explanation="so.")
        script, model = played(dict(prediction="the ball explodes.", explanation="so."), good)
        assert model.draft(situation, (), toolbox).text == f"{self.BEST} so."
        assert "the prediction cannot be read: cannot read 'the ball explodes'" in script.told[0]
        script, model = played(dict(prediction=" . ", explanation="so."))
        assert model.draft(situation, (), toolbox).failure == "nonsense: there is no prediction"

    def test_tools_of_the_real_toolbox(self, played):
        from pydantic_ai.messages import ToolCallPart

        situation, toolbox = question(plan="turn left.")
        use = lambda info: ToolCallPart("roll_forward", {"plan": "turn left.", "self": 1})
        script, model = played(use, dict(prediction=self.BEST, explanation="so."))
        answer = model.draft(situation, (), toolbox)
        assert answer.tool_calls[0].result == "error: roll_forward takes plan (string)" and toolbox.take_calls() == ()

    def test_the_hash_tells_products_apart(self, played):
        situation, _ = question(plan="turn left.")
        plain, _ = situation_of(LEVEL, 0)
        model = played(dict(explanation="so."))[1]
        assert model.question_sha("draft", situation, None, "") != model.question_sha("draft", plain, None, "")
