"""The text of a plan must state the plan exactly: words and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import (
    TERSE_FROM,
    Clause,
    actions_of,
    explanation_of,
    legs_of,
    parse_plan,
    plan_in_words,
)

legs = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8), min_size=1, max_size=10)
goals = st.sampled_from(
    ["go to the red ball", "open a door", "put the key next to the grey box and go to a ball", "then go", "pick up"]
)
lone = st.builds(lambda legs: [Clause("", legs)], legs)
several = st.lists(st.builds(Clause, goals, legs), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(lone | several, st.integers(0, 20))
def test_words_and_back(plan, style):
    text = plan_in_words(plan, style)
    assert text == text.lower() and text.endswith(".")
    assert parse_plan(text) == plan
    why = "because the red ball is 3 ahead, then 2 to the left; and so on: to be there."
    assert parse_plan(f"{text} {why}") == plan
    assert explanation_of(f"{text} {why}") == why


def test_wording():
    assert plan_in_words([Clause("", [[0, 2, 2], [1]])]) == "turn left and go forward 2, then turn right."
    assert plan_in_words([Clause("", [[1, 1, 1], [3]])], 1) == "turn right 3 times, then pick up."
    assert plan_in_words([Clause("", [[1, 1], [2], [0, 2], [5]])]) == "right twice; forward 1; left, forward 1; toggle."
    two = [Clause("open the red door", [[0], [5]]), Clause("go to a ball", [[2]])]
    assert plan_in_words(two) == "to open the red door: turn left, then toggle; then, to go to a ball: go forward 1."


def test_style_changes_words_only():
    plan = [Clause("go", [[2, 2], [0, 2]]), Clause("stay", [[6]])]
    assert len({plan_in_words(plan, style) for style in range(9)}) == 9
    assert ";" in plan_in_words([Clause("", [[2]] * TERSE_FROM)])
    assert ";" not in plan_in_words([Clause("", [[2]] * (TERSE_FROM - 1))])


def test_legs_and_actions():
    plan = [Clause("a", [[0, 2], [1]]), Clause("b", [[3]])]
    assert legs_of(plan) == [[0, 2], [1], [3]]
    assert actions_of(plan) == [0, 2, 1, 3]


@pytest.mark.parametrize(
    "text", ["", "   .", "turn around.", "go forward.", "forward x; left.", "turn left; , forward 1.", "to go: turn; left."]
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(UserError):
        parse_plan(text)


@pytest.mark.parametrize(
    "text",
    [
        "go forward 99999999999.", "go forward 1001.", "turn left 1001 times.", f"go forward {'9' * 9000}.",
        "go forward 600, then go forward 401.", "to go: forward 600; then, to stay: forward 401.",
        " and ".join(["toggle"] * 1001) + ".",
    ],
)  # fmt: skip
def test_plans_that_are_too_long_are_refused_before_they_are_written_out(text):
    with pytest.raises(UserError, match="at most 1000 actions") as caught:
        parse_plan(text)
    assert len(str(caught.value)) < 100


def test_long_plans_are_read():
    assert actions_of(parse_plan("to go: forward 600; then, to stay: forward 0400.")) == [2] * 1000


@pytest.mark.parametrize("goals", [("", "go"), ("go: now", "stay"), ("go; then", "stay"), ("go. now", "stay")])
def test_goals_that_would_not_read_back_are_refused(goals):
    with pytest.raises(UserError, match="goal"):
        plan_in_words([Clause(goal, [[0]]) for goal in goals])
