"""The text of a plan must state the plan exactly: words and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import TERSE_FROM, parse_plan, plan_in_words

legs = st.lists(st.integers(0, 6), min_size=1, max_size=8)
plans = st.lists(legs, min_size=1, max_size=10)


@settings(max_examples=300, deadline=None)
@given(plans, st.integers(0, 20))
def test_words_and_back(plan, style):
    text = plan_in_words(plan, style)
    assert text == text.lower() and text.endswith(".")
    assert parse_plan(text) == plan
    assert parse_plan(text + " because the red ball is 3 ahead, then 2 to the left; and so on.") == plan


def test_wording():
    assert plan_in_words([[0, 2, 2], [1]]) == "turn left and go forward 2, then turn right."
    assert plan_in_words([[1, 1, 1], [3]], 1) == "turn right 3 times, then pick up."
    assert plan_in_words([[1, 1], [2], [0, 2], [5]]) == "right twice; forward 1; left, forward 1; toggle."


def test_style_changes_words_only():
    plan = [[2, 2], [0, 2]]
    assert len({plan_in_words(plan, style) for style in range(6)}) == 3
    assert ";" in plan_in_words([[2]] * TERSE_FROM) and ";" not in plan_in_words([[2]] * (TERSE_FROM - 1))


@pytest.mark.parametrize(
    "text", ["", "   .", "turn around.", "go forward.", "forward x; left.", "turn left; , forward 1."]
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(UserError):
        parse_plan(text)
