"""Cutting episodes into legs."""

from hypothesis import given
from hypothesis import strategies as st

from hjepa_gfn.exemplary.legs import MAX_LEG, cut_legs, flatten, plan_of, split_legs

L, R, F, P = 0, 1, 2, 3


def test_a_turn_after_walking_begins_a_leg():
    assert cut_legs([L, F, F, R, R, F, L]) == [0, 0, 0, 1, 1, 1, 2]
    assert plan_of([F, F, P]) == [[F, F], [P]]


def test_a_new_subgoal_begins_a_leg():
    assert cut_legs([L, F, F, P], [7, 8, 8, 9]) == [0, 1, 1, 2]
    assert cut_legs([L, L, L], [-2, -2, -2]) == [0, 0, 0]


def test_long_legs_are_cut():
    assert cut_legs([F] * 18) == [0] * 8 + [1] * 8 + [2] * 2


@given(st.lists(st.integers(0, 6), max_size=40), st.data())
def test_cutting_loses_nothing(actions, data):
    subgoals = data.draw(st.lists(st.integers(0, 2), min_size=len(actions), max_size=len(actions)))
    segment = cut_legs(actions, subgoals)
    legs = split_legs(actions, segment)
    assert flatten(legs) == actions
    assert all(1 <= len(leg) <= MAX_LEG for leg in legs)
    assert all(b - a in (0, 1) for a, b in zip(segment, segment[1:]))
