"""Tools answer in words, never crash, and every call is on record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.calculator import calculate
from hjepa_gfn.exemplary.facts import FACTS, look_up
from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.spans import mark, spans_in, strip_spans
from hjepa_gfn.exemplary.toolbox import TOOLS, Toolbox
from hjepa_gfn.worlds.babyai import make_env

LEVEL = "BabyAI-GoToLocal-v0"


@pytest.fixture
def toolbox():
    return Toolbox(situation_of(LEVEL, 1)[0], make_env(LEVEL))  # a purple box 1 ahead and 1 to the left


def test_planner_and_trying_out(toolbox):
    words = toolbox.use("bot")
    assert words == "go forward 1, then turn left."
    assert toolbox.use("roll_forward", plan=words) == "fulfils the mission in 2 steps."
    rest = toolbox.use("bot", after="turn right.")
    assert toolbox.rollout([1, *actions_of(parse_plan(rest))]).success
    assert "nothing is left" in toolbox.use("bot", after=words)
    assert "does not fulfil the mission in 1 step; you end 1 ahead." in toolbox.use("roll_forward", plan="go forward 1.")
    assert "step 3 has no effect" in toolbox.use("roll_forward", plan="turn left and go forward 3.")


def test_route(toolbox):
    assert actions_of(parse_plan(toolbox.use("route", ahead=1, right=-1)))
    assert toolbox.use("route", ahead=1, right=0) == "you face it already."
    assert "no way" in toolbox.use("route", ahead=-3, right=0)


def test_every_call_is_recorded_once(toolbox):
    toolbox.use("calculate", expression="2 * (3 + 4)")
    toolbox.use("look_up", thing="the grey key")
    calls = toolbox.take_calls()
    assert [(call.name, call.result) for call in calls] == [("calculate", "14"), ("look_up", FACTS["key"])]
    assert calls[0].arguments == {"expression": "2 * (3 + 4)"}
    assert toolbox.take_calls() == ()


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("hammer", {}),
        ("route", {}),
        ("route", {"ahead": "x", "right": 0}),
        ("route", {"ahead": 1, "right": 0, "up": 1}),
        ("roll_forward", {"plan": "fly away."}),
        ("bot", {"after": 7}),
        ("calculate", {"expression": "__import__('os')"}),
        ("look_up", {"thing": "dragon"}),
    ],
)
def test_bad_arguments_are_answered_and_recorded(toolbox, name, arguments):
    assert toolbox.use(name, **arguments).startswith("error: ")
    assert len(toolbox.take_calls()) == 1


def test_tools_describe_themselves():
    for name, tool in TOOLS.items():
        assert tool.name == name and tool.description
        assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])
        assert all(field["type"] in ("string", "integer") for field in tool.parameters["properties"].values())


@pytest.mark.parametrize(
    "expression, value", [("1 + 2 * 3", 7), ("-(4 - 6) ** 3", 8), ("7 // 2 + 7 % 4", 6), ("1 / 4", 0.25), (" 2 ", 2)]
)
def test_calculator(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "1 +", "a", "1 / 0", "9 ** 99", "10 ** 16", "'a' * 3", "(1, 2)", "abs(1)", "1 if 1 else 2", "1" * 201, "(-8) ** 0.5"],
)
def test_calculator_refuses(expression):
    with pytest.raises(UserError, match="cannot calculate"):
        calculate(expression)


@given(st.text(max_size=30))
def test_the_calculator_never_crashes(expression):
    try:
        assert abs(calculate(expression)) <= 1e12
    except UserError:
        pass


def test_facts():
    assert look_up("a Locked Door") == FACTS["locked door"] and look_up("grey door") == FACTS["door"]
    with pytest.raises(UserError, match="dragon"):
        look_up("dragon")


def test_marked_results():
    text = f"because {mark('route', 'turn left.')} and {mark('calculate', '7')}, i go."
    assert [(span.name, span.result) for span in spans_in(text)] == [("route", "turn left."), ("calculate", "7")]
    assert text[spans_in(text)[1].start : spans_in(text)[1].stop] == mark("calculate", "7")
    assert strip_spans(text) == "because and, i go."
    assert strip_spans("a </tool> b <tool>half") == "a b half" and spans_in("<tool>route: half") == []
    for name, result in (("Route!", "x"), ("route", "</tool>")):
        with pytest.raises(UserError, match="cannot mark"):
            mark(name, result)
