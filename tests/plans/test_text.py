"""The text form of plans: exact round trips, and what is refused with which words."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import nested  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.plans import Names, PlanSpec, at_capacity, parse_plan, print_plan, root_plan  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402

SPEC = PlanSpec(state_codes=(8, 3), action_codes=(5, 4), capacity=5, max_edits=8)
NAMES = Names(states=(None, ("door", "left-of.it", "x+y")), actions=(("a", "b", "c", "d", "e"), None))
checked = settings(max_examples=15, deadline=None, derandomize=True, database=None)
READABLE = "s0 -[3]{ . -[1]-> 2 -[_]-> . }-> 7 -[_]-> sT"


def name(plan):
    return canonical_keys(jax.tree.map(lambda x: np.asarray(x)[None], plan))[0]


def assert_same(one, two):
    assert name(one) == name(two) and one.num_edits == two.num_edits
    assert [leaf.dtype for leaf in one] == [leaf.dtype for leaf in two]
    assert [leaf.shape for leaf in one] == [leaf.shape for leaf in two]


def test_a_text_means_the_tree_it_shows():
    plan = parse_plan(READABLE, SPEC)
    inside = ((1, None), (None, None)), (2,)
    tree = ((3, inside), (None, None)), (7,)
    assert name(plan) == nested.key(tree, SPEC) and plan.num_edits == 5
    assert print_plan(plan, SPEC) == READABLE
    assert print_plan(root_plan(SPEC), SPEC) == "s0 -[_]-> sT"
    assert_same(parse_plan("s0-[_]->sT", SPEC), root_plan(SPEC))


def test_names_of_codes():
    text = "s0 -[d]{ . -[1]-> x+y -[_]-> . }-> 7 -[_]-> sT"
    assert_same(parse_plan(text, SPEC, NAMES), parse_plan(READABLE, SPEC))
    assert print_plan(parse_plan(READABLE, SPEC), SPEC, NAMES) == text


@pytest.mark.parametrize("spec", [
    PlanSpec((3,), (2,), 5, 9), PlanSpec((2, 3), (3, 2), 5, 9), PlanSpec((1, 2, 3), (3, 1, 2), 6, 12)], ids=str)
@checked
@given(st.integers(0, 2**31 - 1))
def test_round_trip_of_random_plans(spec, seed):
    plans = jax.tree.map(np.asarray, tiny.random_plans(spec, jax.random.key(seed), 8))
    for b in range(8):
        plan = jax.tree.map(lambda x, b=b: x[b], plans)
        text = print_plan(plan, spec)
        assert "\n" not in text
        assert_same(parse_plan(text, spec), plan)
        assert_same(parse_plan(text.replace(" ", ""), spec), plan)  # all spaces are free here: no two words meet


def test_texts_of_all_plans_of_a_family_differ_and_come_back():
    """Every plan, those at capacity included; edges that are both expanded and acted on are among them."""
    spec = PlanSpec((2, 2), (2, 2), capacity=3, max_edits=4)
    plans = enumerate_plans(spec).plans
    one = lambda b: jax.tree.map(lambda x: x[b], plans)
    texts = [print_plan(one(b), spec) for b in range(len(plans.num_edits))]
    assert len(set(texts)) == len(texts) and np.asarray(at_capacity(plans, spec)).any()
    assert sum("]{" in text and "[_]{" not in text for text in texts) > 3
    for b, text in enumerate(texts):
        assert_same(parse_plan(text, spec), one(b))


def test_an_action_that_came_with_the_seed_is_marked_and_not_counted():
    text = "s0 -[!3]{ . -[1]-> . }-> sT"
    plan = parse_plan(text, SPEC)
    assert plan.num_edits == 2 and parse_plan(text.replace("!", ""), SPEC).num_edits == 3
    assert print_plan(plan, SPEC) == text
    assert name(plan) == name(parse_plan(text.replace("!", ""), SPEC))
    tight = PlanSpec(SPEC.state_codes, SPEC.action_codes, SPEC.capacity, max_edits=2)
    assert_same(parse_plan(text, tight), plan)
    with pytest.raises(UserError, match="column 14: found '1'; expected the plan to end: at most 2 edits"):
        parse_plan(text.replace("!", ""), tight)


@pytest.mark.parametrize("text, column, found, expected", [
    ("", 1, "the end of the text", "'s0'"),
    ("s1 -[_]-> sT", 1, "'s1'", "'s0'"),
    ("s0 -[_]->", 10, "the end of the text", "'sT' or a code of the states of scale 0 (0 to 7)"),
    ("s0 -[_]-> sT 3", 14, "'3'", "the end of the text"),
    ("s0 _ -> sT", 4, "'_'", "'-['"),
    ("s0 -[_ -> sT", 8, "'->'", "']'"),
    ("s0 -[_] sT", 9, "'sT'", "'{' or '->'"),
    ("s0 -[_]-> ? -[_]-> sT", 11, "'?'", "'sT' or a code of the states of scale 0"),
    ("s0 -[]-> sT", 6, "']'", "'_' or a code of the actions of scale 0 (0 to 4)"),
    ("s0 -[_]-> 3 4 -[_]-> sT", 13, "'4'", "'-['"),
    # unknown codes, of each vocabulary
    ("s0 -[5]-> sT", 6, "'5'", "a code of the actions of scale 0 (0 to 4)"),
    ("s0 -[_]-> 8 -[_]-> sT", 11, "'8'", "a code of the states of scale 0 (0 to 7)"),
    ("s0 -[_]{ . -[4]-> . }-> sT", 14, "'4'", "a code of the actions of scale 1 (0 to 3)"),
    ("s0 -[_]{ . -[_]-> 3 -[_]-> . }-> sT", 19, "'3'", "'.' or a code of the states of scale 1 (0 to 2)"),
    ("s0 -[03]-> sT", 6, "'03'", "a code of the actions of scale 0"),
    # nesting of scales
    ("s0 -[_]{ . -[_]{ . -[_]-> . }-> . }-> sT", 16, "'{'", "'->': scale 1 is the finest"),
    ("s0 -[_]{ -[_]-> }-> sT", 10, "'-['", "'.'"),
    ("s0 -[_]{ . -[_]-> sT", 19, "'sT'", "'.' or a code of the states of scale 1"),
    ("s0 -[_]{ . -[_]-> . -> sT", 21, "'->'", "'}'"),
    ("s0 -[_]-> } sT", 11, "'}'", "'sT' or a code"),
    ("s0 -[_]-> . -[_]-> sT", 11, "'.'", "'sT' or a code"),
    # what no plan of this family holds
    ("s0 -[_]-> 1 -[_]-> 1 -[_]-> 1 -[_]-> 1 -[_]-> 1 -[_]-> sT", 47, "'1'", "room for 4 states"),
    ("s0 -[1]{ . -[1]-> 2 -[1]-> . }-> 1 -[1]{ . -[1]-> . }-> 1 -[_]-> sT", 46, "'1'", "at most 8 edits"),
    ("s0 -[1]{ . -[1]-> 2 -[1]-> 1 -[1]-> . }-> 1 -[_]{ . -[_]-> . }-> sT", 49, "'{'", "at most 8 edits"),
    ("s0 -[1]-> 1 -[_]-> 2 -[1]-> 3 -[_]-> 4 -[1]-> sT", 49, "no state can have come last", "two plain, empty edges"),
    # marks of a seed
    ("s0 -[!_]-> sT", 7, "'_'", "a code of the actions of scale 0"),
    ("s0 -[_]-> 1 -[!1]-> sT", 15, "'!'", "'_' or a code"),
    ("s0 -[_]{ . -[!1]-> . }-> sT", 14, "'!'", "'_' or a code"),
])
def test_what_is_wrong_is_said_with_its_column(text, column, found, expected):
    with pytest.raises(UserError) as caught:
        parse_plan(text, SPEC)
    message = str(caught.value)
    assert message.startswith(f"plan text, column {column}: found ") and "\n" not in message
    what, right = message.split("; expected ")
    assert found in what and expected in right


def test_a_plan_that_fills_its_buffer_is_read_where_its_last_state_can_have_come_last():
    text = "s0 -[1]-> 1 -[_]-> 2 -[_]-> 3 -[_]-> 4 -[1]-> sT"
    assert at_capacity(parse_plan(text, SPEC), SPEC)
    only = PlanSpec((1,), (1,), capacity=1, max_edits=2)
    assert_same(parse_plan("s0 -[_]-> sT", only), root_plan(only))
    with pytest.raises(UserError, match="no state can have come last"):
        parse_plan("s0 -[0]-> sT", only)


def test_unknown_names_are_refused_with_the_names_there_are():
    with pytest.raises(UserError, match=r"column 6: found 'f'; expected '_' or a code of .* scale 0 \(a, b, c, d, e\)"):
        parse_plan("s0 -[f]-> sT", SPEC, NAMES)


@pytest.mark.parametrize("names, message", [
    (Names((None,), (None, None)), "names.states: 1 scales are named; give one entry for each of 2"),
    (Names((None, ("x", "y")), (None, None)), "names.states, scale 1: 2 different names; give one for each of 3 codes"),
    (Names((None, ("x", "y", "x")), (None, None)), "names.states, scale 1: 2 different names"),
    (Names((None, ("x", "_", "y")), (None, None)), "'_' cannot be told"),
    (Names((None, None), (("a", "b", "c", "go on", "e"), None)), "names.actions, scale 0: 'go on' cannot be told"),
    (Names((None, ("x", "sT", "y")), (None, None)), "'sT' cannot be told"),
])
def test_names_that_could_not_be_read_back_are_refused(names, message):
    for use in (lambda: print_plan(root_plan(SPEC), SPEC, names), lambda: parse_plan("s0 -[_]-> sT", SPEC, names)):
        with pytest.raises(UserError) as caught:
            use()
        assert message in str(caught.value)


def test_one_plan_at_a_time():
    with pytest.raises(ValueError, match=r"batch axes \(2,\)"):
        print_plan(root_plan(SPEC, (2,)), SPEC)


def test_parsed_plans_are_plans():
    plan = parse_plan(READABLE, SPEC)
    wide = jax.tree.map(lambda x: jnp.asarray(x)[None], plan)
    assert [leaf.dtype for leaf in wide] == [leaf.dtype for leaf in root_plan(SPEC, (1,))]
    assert plan.position.tolist() == [0, 1, 2, 0, 0] and plan.valid.tolist() == [True] * 3 + [False] * 2
