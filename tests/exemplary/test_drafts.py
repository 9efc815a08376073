"""Each kind of mistake, on a percept made by hand."""

import numpy as np
import pytest

from hjepa_gfn.exemplary import drafts
from hjepa_gfn.exemplary.actor import write_text
from hjepa_gfn.exemplary.explain import explanation, true_belief
from hjepa_gfn.exemplary.geometry import destination
from hjepa_gfn.exemplary.legs import flatten, plan_of
from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT
from hjepa_gfn.worlds.language import BALL, BOX, EMPTY, KEY, cell_of

MISSION = "go to the red ball"
SOUND = [FORWARD, FORWARD, LEFT, FORWARD]  # ends facing (2, -2)


def case(things, mission=MISSION, actions=SOUND):
    view = np.zeros((7, 7, 3), np.uint8)
    view[..., 0] = EMPTY
    for place, code in things.items():
        view[cell_of(place)] = code
    return drafts.make_case(view, mission, plan_of(actions), true_belief(view, mission, actions))


SEEN = {(2, -2): (BALL, 0, 0), (3, 1): (BOX, 2, 0)}
HIDDEN = {(3, 1): (BOX, 2, 0)}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_wrong_object_goes_to_another_thing(rng):
    for _ in range(20):
        draft = drafts.wrong_object(case(SEEN), rng)
        assert destination(flatten(draft.plan)) == draft.belief.place == (3, 1)
        assert draft.belief.aim in ("red ball", "blue box") and "blue box" in draft.complaint
    assert drafts.wrong_object(case({(2, -2): (BALL, 0, 0)}), rng) is None


def test_mirrored_goes_to_the_mirror_image(rng):
    draft = drafts.mirrored(case(SEEN), rng)
    assert destination(flatten(draft.plan)) == draft.belief.place == (2, 2)
    assert drafts.mirrored(case(HIDDEN), rng) is None
    straight = case({(3, 0): (BALL, 0, 0)}, actions=[FORWARD, FORWARD])
    assert drafts.mirrored(straight, rng) is None


def test_overshoot_walks_at_least_two_too_far(rng):
    draft = drafts.overshoot(case(SEEN), rng)
    assert len(flatten(draft.plan)) in (len(SOUND) + 2, len(SOUND) + 3)
    assert draft.belief.place == destination(flatten(draft.plan)) != (2, -2)
    assert drafts.overshoot(case(HIDDEN), rng) is None


def test_overlooked_denies_what_is_in_view_and_turns_away(rng):
    for _ in range(20):
        draft = drafts.overlooked(case(SEEN), rng)
        assert draft.belief.aim is None
        assert all(leg for leg in draft.plan)
        assert flatten(draft.plan)[0] == RIGHT or flatten(draft.plan)[:2] == [LEFT, LEFT]
    assert drafts.overlooked(case(HIDDEN), rng) is None


def test_straight_on(rng):
    for things in (SEEN, HIDDEN):
        for _ in range(20):
            draft = drafts.straight_on(case(things), rng)
            assert flatten(draft.plan)[:2] == [FORWARD, FORWARD]
            if draft.belief.aim:
                assert draft.belief.place == destination(flatten(draft.plan))


def test_detours_come_back_and_then_do_the_right_thing(rng):
    for make in (drafts.detour, drafts.full_turn):
        for _ in range(10):
            sound = case(SEEN)
            draft = make(sound, rng)
            actions = flatten(draft.plan)
            assert actions[-len(SOUND) :] == SOUND and len(actions) >= len(SOUND) + 4
            assert destination(actions) == destination(SOUND)
            assert draft.belief == sound.belief


def test_explanations_name_obstacles_means_and_alternatives():
    around = [LEFT, FORWARD, RIGHT, FORWARD, FORWARD, FORWARD, RIGHT]
    blocked = case({(3, 0): (BALL, 0, 0), (2, 0): (KEY, 5, 0)}, actions=around)
    assert destination(flatten(blocked.plan)) == (3, 0)
    assert "the grey key is in the way" in explanation(blocked.belief, SOUND, 0)
    key = case({(2, -2): (KEY, 5, 0)}, "open the grey door")
    assert explanation(key.belief, SOUND, 0) == "i need the grey key first: it is 2 ahead and 2 to the left."
    elsewhere = {(4, 3): (BALL, 0, 0)}
    assert "nearer" in explanation(case(elsewhere, "go to a red ball").belief, SOUND, 0)
    assert "do not see yet" in explanation(case(elsewhere, "pick up the red ball").belief, SOUND, 0)


def test_every_wording_gives_the_same_facts():
    belief = case(SEEN).belief
    texts = {explanation(belief, SOUND, style) for style in range(12)}
    assert len(texts) == 4
    assert all("the red ball is 2 ahead and 2 to the left" in text for text in texts)
    assert write_text(plan_of(SOUND), belief, np.random.default_rng(1)) == write_text(
        plan_of(SOUND), belief, np.random.default_rng(1)
    )


def test_a_thing_that_is_moved_away_is_called_a_blocker():
    actions = [FORWARD, PICKUP, RIGHT, DROP, LEFT, FORWARD, LEFT]
    belief = case({(2, 0): (KEY, 5, 0)}, actions=actions).belief
    assert explanation(belief, actions, 0) == "the grey key is 2 ahead and blocks the way, so i move it first."
