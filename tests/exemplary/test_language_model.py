"""The language-model back end, without any network: a function plays the model."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("pydantic_ai")
from pydantic_ai.messages import ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.backends.language_model import LanguageModel
from hjepa_gfn.exemplary.protocol import ToolCall
from tests.exemplary.tiny_questions import BOOK, GOOD_PLAN, SITUATION, TEXT, Toolbox


class Scripted:
    """Plays a model: gives one prepared response after another, the last one for ever; remembers what it was told."""

    def __init__(self, *responses):
        self.responses, self.heard, self.info = list(responses), [], None

    def __call__(self, messages, info):
        self.heard.append(messages[-1])
        self.info = info
        said = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        parts = [said(info)] if callable(said) else [TextPart(said)]
        return ModelResponse(parts, usage=RequestUsage(input_tokens=100, output_tokens=10))

    @property
    def told(self):
        """All that came back to the model after its responses, in words."""
        parts = [part for message in self.heard[1:] for part in message.parts]
        return [part.model_response() if isinstance(part, RetryPromptPart) else str(part.content) for part in parts]


def final(**fields):
    return lambda info: ToolCallPart(info.output_tools[0].name, fields)


def use(**arguments):
    return lambda info: ToolCallPart("count_steps", arguments)


def backend(script, **settings):
    return LanguageModel("openai:some", model=FunctionModel(script), **{"backoff": 0.0, **settings})


def test_a_draft():
    script = Scripted(final(plan=" Go forward 3, then\nturn left and go forward 1", explanation="I see\n the red ball."))
    answer = backend(script, input_price=2.0, output_price=5.0).draft(SITUATION, (BOOK,), None)
    assert answer.verdict == "propose" and not answer.failure
    assert answer.text == f"{GOOD_PLAN} i see the red ball."
    assert answer.usage == (1, 100, 10, pytest.approx(100 * 2e-6 + 10 * 5e-6))
    (part,) = [part for part in script.heard[0].parts if part.part_kind == "user-prompt"]
    assert SITUATION.text in part.content
    assert not script.info.function_tools


def test_a_review_that_keeps():
    script = Scripted(final(verdict="keep", critique="Nothing is\nbroken.", plan="nonsense", explanation=""))
    answer = backend(script).review(SITUATION, BOOK, TEXT, None)
    assert (answer.verdict, answer.text, answer.critique, answer.principle_ids) == ("keep", "", "Nothing is broken.", ())
    (part,) = [part for part in script.heard[0].parts if part.part_kind == "user-prompt"]
    assert TEXT in part.content and BOOK.text.strip() in part.content and "be-kind, be-brief" in part.content


def test_a_review_that_refines():
    said = dict(verdict="refine", critique="one turn short.", plan=GOOD_PLAN, explanation="so i face it.")
    answer = backend(Scripted(final(**said, principle_ids=["be-brief"]))).review(SITUATION, BOOK, TEXT, None)
    assert answer[:4] == ("refine", f"{GOOD_PLAN} so i face it.", "one turn short.", ("be-brief",))


def test_another_explanation_keeps_the_plan():
    answer = backend(Scripted(final(explanation="It is to the left."))).explain_otherwise(SITUATION, TEXT, None)
    assert (answer.verdict, answer.text) == ("propose", "go forward 3, then turn left. it is to the left.")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("walk to the ball.", "cannot read 'walk to the ball'"),
        (" . ", "there is no plan"),
        ("go forward 3. turn left.", "its only full stop is at its end"),
        ("go forward 99999999999.", "no action is repeated more than 999 times"),
    ],
)
def test_an_unreadable_plan_can_be_mended_once(wrong, message):
    bad, good = final(plan=wrong, explanation="so."), final(plan=GOOD_PLAN, explanation="so.")
    script = Scripted(bad, good)
    answer = backend(script).draft(SITUATION, (), None)
    assert answer.text == f"{GOOD_PLAN} so." and answer.usage.requests == 2
    assert message in script.told[0]


def test_a_plan_that_stays_unreadable_is_for_the_loop_to_judge():
    script = Scripted(final(plan="walk to the ball", explanation="so."))
    answer = backend(script).draft(SITUATION, (), None)
    assert answer.text == "walk to the ball. so." and not answer.failure
    assert len(script.heard) == 2


def test_a_plan_too_long_to_be_read_never_gets_out():
    answer = backend(Scripted(final(plan="go forward 1000.", explanation="so."))).draft(SITUATION, (), None)
    assert answer.text == "" and answer.failure.startswith("nonsense: no action is repeated")


def test_a_refinement_without_a_plan_is_none():
    said = final(verdict="refine", critique="no.", principle_ids=["be-kind"], plan=" . ", explanation="so.")
    answer = backend(Scripted(said)).review(SITUATION, BOOK, TEXT, None)
    assert answer[:2] == ("keep", "") and answer.failure == "nonsense: there is no plan"


def test_what_is_pointed_out_is_short():
    script = Scripted(final(plan="hop " * 300, explanation="so."))
    backend(script).draft(SITUATION, (), None)
    assert "cannot read" in script.told[0] and len(script.told[0]) < 500


def test_principles_that_the_textbook_does_not_hold():
    said = dict(verdict="refine", critique="no.", plan=GOOD_PLAN, explanation="so.")
    script = Scripted(final(**said, principle_ids=["be-brave", "be-kind", "be-kind"]))
    answer = backend(script).review(SITUATION, BOOK, TEXT, None)
    assert answer.principle_ids == ("be-kind",) and "no principle 'be-brave'" in script.told[0]
    script = Scripted(final(**said), final(**said, principle_ids=["be-kind"]))
    assert backend(script).review(SITUATION, BOOK, TEXT, None).principle_ids == ("be-kind",)
    assert "cites the principles" in script.told[0]


@pytest.mark.parametrize("kind", ["draft", "review"])
def test_nonsense_becomes_a_failure(kind):
    script = Scripted("i am a little teapot")
    model = backend(script, corrections=1)
    answer = model.draft(SITUATION, (), None) if kind == "draft" else model.review(SITUATION, BOOK, TEXT, None)
    assert answer.verdict == ("propose" if kind == "draft" else "keep") and answer.text == ""
    assert answer.failure.startswith("nonsense") and answer.prompt_sha
    assert answer.usage.requests == len(script.heard) == 3  # the two retries that it was told of, and the first try


def test_wrong_fields_are_pointed_out():
    script = Scripted(final(plan=GOOD_PLAN), final(verdict="maybe"), final(plan=GOOD_PLAN, explanation="so."))
    assert backend(script).draft(SITUATION, (), None).text == f"{GOOD_PLAN} so."
    assert "explanation" in script.told[0]


def test_tool_calls_are_offered_recorded_and_bounded():
    toolbox = Toolbox()
    script = Scripted(use(plan="abc"), use(), use(plan="x"), final(plan=GOOD_PLAN, explanation="so."))
    answer = backend(script, max_tool_calls=2).draft(SITUATION, (), toolbox)
    assert [tool.name for tool in script.info.function_tools] == ["count_steps"]
    assert script.info.function_tools[0].parameters_json_schema == toolbox.tools[0].parameters
    assert answer.tool_calls == (
        ToolCall("count_steps", {"plan": "abc"}, "3 steps"),
        ToolCall("count_steps", {}, "error: count_steps: argument 'plan' is missing"),
    )
    assert answer.text and script.told[2].startswith("no more tool calls")
    returned = [part for message in script.heard for part in message.parts if isinstance(part, ToolReturnPart)]
    assert len(returned) == 3
    assert toolbox.taken == []  # the next question must not find our calls


def test_a_model_that_only_calls_tools_is_stopped():
    answer = backend(Scripted(use(plan="abc")), max_tool_calls=2, corrections=0).draft(SITUATION, (), Toolbox())
    assert answer.failure == "no answer after 5 responses" and len(answer.tool_calls) == 2


def test_no_tools_are_offered_if_none_may_be_called():
    script = Scripted(final(plan=GOOD_PLAN, explanation="so."))
    backend(script, max_tool_calls=0).draft(SITUATION, (), Toolbox())
    assert not script.info.function_tools


def test_defects_of_the_tools_are_not_hidden():
    toolbox = Toolbox()
    toolbox.call = lambda name, arguments: 1 // 0
    with pytest.raises(ZeroDivisionError):
        backend(Scripted(use(plan="abc"))).draft(SITUATION, (), toolbox)


def test_the_spending_limit_stops_further_requests():
    script = Scripted(final(plan=GOOD_PLAN, explanation="so."))
    model = backend(script, output_price=1e6, max_cost=15.0)
    assert model.stopped == ""
    assert [model.draft(SITUATION, (), None).failure for _ in range(2)] == ["", ""]
    assert model.spent == 20.0 and model.stopped.startswith("spending limit reached: 20.0000 of max_cost=15")
    answer = model.draft(SITUATION, (), None)
    assert answer.failure == model.stopped and answer.usage.requests == 0 and len(script.heard) == 2


def test_structure_in_plain_text():
    script = Scripted(json.dumps({"plan": GOOD_PLAN, "explanation": "so."}))
    assert backend(script, output="prompted").draft(SITUATION, (), None).text == f"{GOOD_PLAN} so."


def test_the_hash_names_the_question():
    script = Scripted(final(plan=GOOD_PLAN, explanation="so."))
    sha = backend(script).question_sha("review", SITUATION, BOOK, TEXT)
    assert len(sha) == 16 and int(sha, 16) >= 0
    assert backend(script, timeout=9, retries=1, base_url="http://x").question_sha("review", SITUATION, BOOK, TEXT) == sha
    model = backend(script)
    others = [
        backend(script, temperature=0.5).question_sha("review", SITUATION, BOOK, TEXT),
        LanguageModel("openai:other", model=FunctionModel(script)).question_sha("review", SITUATION, BOOK, TEXT),
        model.question_sha("explain", SITUATION, None, TEXT),
        model.question_sha("review", SITUATION, BOOK._replace(text="x"), TEXT),
        model.question_sha("review", SITUATION, BOOK, TEXT + " so."),
    ]
    assert len({sha, *others}) == 6
    assert model.draft(SITUATION, (BOOK,), None).prompt_sha == model.question_sha("draft", SITUATION, None, "")


def test_the_hash_is_the_same_in_every_process():
    code = (
        "from hjepa_gfn.exemplary.backends.language_model import LanguageModel as L;"
        "from tests.exemplary.tiny_questions import *;"
        "print(L('openai:some', model=0).question_sha('review', SITUATION, BOOK, TEXT))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == backend(Scripted("")).question_sha("review", SITUATION, BOOK, TEXT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(temprature=1), "'temprature' is no setting of a language model: choose from base_url"),
        (dict(retries=-1), "retries=-1: it should be a whole number, at least 0"),
        (dict(max_tokens=2.5), "max_tokens=2.5: it should be a whole number"),
        (dict(timeout=0), "timeout=0: it should be a number, at least 0.001"),
        (dict(timeout=float("nan")), "timeout=nan"),
        (dict(output="xml"), "output='xml': choose from tool, native, prompted"),
        (dict(base_url="localhost:80"), "base_url='localhost:80': it should begin with http"),
        (dict(max_cost=1.0), "max_cost is set without prices"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(UserError, match=message):
        LanguageModel("openai:some", model=0, **settings)


@pytest.mark.parametrize("spec", ["openai", "openai:", "mystery:x", ""])
def test_specs_are_checked(spec):
    with pytest.raises(UserError, match="names no language model: write openai:NAME or anthropic:NAME"):
        LanguageModel(spec)


def test_api_keys_come_from_the_environment(monkeypatch):
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MY_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match="variable OPENAI_API_KEY is not set.*base_url"):
        LanguageModel("openai:some")
    with pytest.raises(UserError, match="variable ANTHROPIC_API_KEY is not set"):
        LanguageModel("anthropic:some")
    with pytest.raises(UserError, match="variable MY_KEY is not set"):
        LanguageModel("openai:some", base_url="http://localhost", api_key_env="MY_KEY")
    LanguageModel("openai:some", base_url="http://localhost")  # a server of one's own needs none
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    assert LanguageModel("anthropic:some").name == "anthropic:some"


def test_without_pydantic_ai_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(UserError, match=r"pip install 'hjepa_gfn\[llm\]'"):
        LanguageModel("openai:some", base_url="http://localhost")


def test_nothing_else_imports_pydantic_ai():
    code = (
        "import sys, hjepa_gfn.exemplary.backends, hjepa_gfn.exemplary.backends.replay,"
        "hjepa_gfn.exemplary.backends.language_model; assert 'pydantic_ai' not in sys.modules and 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_works_where_an_event_loop_runs_already():
    import asyncio

    async def in_a_notebook():
        return backend(Scripted(final(plan=GOOD_PLAN, explanation="so."))).draft(SITUATION, (), None)

    assert asyncio.run(in_a_notebook()).text
