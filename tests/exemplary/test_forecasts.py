"""The text of a prediction must state it exactly: words and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.forecasts import ENDS, Prediction, parse_prediction, prediction_in_words
from hjepa_gfn.exemplary.phrases import MAX_ACTIONS

names = st.sampled_from(["red key", "grey ball", "blue box", "red door"])
changes = st.lists(st.tuples(names, st.sampled_from(ENDS)), max_size=3).map(lambda found: tuple(sorted(found)))
numbers = st.integers(0, MAX_ACTIONS)
predictions = st.builds(
    Prediction, st.none() | numbers, st.none() | st.just("") | names, st.none() | changes, st.none() | st.booleans(),
    st.none() | numbers,
)  # fmt: skip
WHOLE = "every step has an effect; nothing is held at the end; nothing is changed; the mission is fulfilled; 3 steps are taken."


@settings(max_examples=150, deadline=None)
@given(predictions, st.integers(0, 3**6 * 2))
def test_words_and_back(prediction, style):
    text = prediction_in_words(prediction, style)
    assert text == text.lower() and text.endswith(".") and text.count(".") == 1
    assert parse_prediction(f"{text} because a wall is 3 ahead; step 2 has no effect.") == prediction


def test_wording():
    known = Prediction(3, "red key", (("blue ball", "moved"), ("red door", "open")), False, 7)
    assert prediction_in_words(known) == (
        "step 3 has no effect; the red key is held at the end; the blue ball ends up moved and the red door ends up open; "
        "the mission is not fulfilled; 7 steps are taken."
    )
    assert prediction_in_words(Prediction(0, "", (), None, None)) == (
        "every step has an effect; nothing is held at the end; nothing is changed; "
        "whether the mission is fulfilled and how many steps are taken cannot be known from what is in view."
    )
    assert parse_prediction(WHOLE) == (0, "", (), True, 3)
    assert len({prediction_in_words(known, style) for style in range(3**5 * 2 * 3)}) > 100


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (". because.", "states no prediction"),
        (WHOLE.replace("nothing is held at the end; ", ""), "does not say what is held"),
        (WHOLE.replace("3 steps are taken", "3 steps are taken; it is over after 3 steps"), "twice"),
        (WHOLE.replace("nothing is changed", "the red wall ends up open"), "cannot read"),
        (WHOLE.replace("every step has an effect", "which step fails and who wins cannot be told from here"), "cannot read"),
        (WHOLE.replace("every step has an effect", "step 0 has no effect"), "1 to 1000"),
        (WHOLE.replace("3 steps", "1001 steps"), "0 to 1000"),
        (WHOLE.replace("3 steps", f"{'9' * 9000} steps"), "0 to 1000"),
    ],
)
def test_what_is_no_prediction_is_refused(wrong, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        parse_prediction(wrong)
    assert len(str(caught.value)) < 300
