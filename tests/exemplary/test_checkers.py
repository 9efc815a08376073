"""Each checker, on rooms drawn by hand: what it objects to, and what it lets pass."""

import pytest

from hjepa_gfn.exemplary.checkers import CHECKERS, DISCIPLINES, Violation, exemptions, findings, violations
from hjepa_gfn.exemplary.simulation import CLOSED, LOCKED, OPEN
from tests.exemplary.rooms import broken, case_of, exempt

ROOM = ("########", "#......#", "#>..b..#", "#..k...#", "#......#", "########")
THINGS = {"b": "red ball", "k": "blue key"}
GO = ("go", "go to the red ball", "b")
TRUE = "i see the red ball 3 ahead."

HALL = ("#########", "#...#...#", "#>..D..b#", "#...#...#", "#########")


def go(text, **options):
    return case_of(text, ROOM, THINGS, GO, **options)


def hall(text, door=CLOSED, part=GO, **options):
    return case_of(text, HALL, {"b": "red ball", "D": ("grey door", door)}, part, **options)


def test_every_principle_has_a_checker_and_one_discipline():
    assert [p for ids in DISCIPLINES.values() for p in ids] == list(CHECKERS)
    assert list(DISCIPLINES) == ["rationality", "epistemology", "physics", "ethics", "design"]


def test_parts_that_are_done_together_are_in_order():
    both = "to go to the red ball and pick up the blue key: forward 2."
    assert broken("parts-in-order", case_of(both, ROOM, THINGS, *TWO, order="before")) == []


def test_what_is_held_already_is_not_picked_up_again():
    rows = ("########", "#......#", "#>k.b..#", "########")
    twice = case_of("pick up, then go forward 2, then pick up.", rows, THINGS, *TWO, order="before")
    assert not twice.rollout.success and [part for part, _ in twice.rollout.done] == [0]


def test_a_sound_plan_breaks_nothing():
    assert findings(go(f"go forward 2. {TRUE}")) == []
    shut = "forward 2; toggle; forward 2; right twice, toggle, right twice; forward 1. i see the grey door 3 ahead."
    assert findings(hall(shut)) == []


@pytest.mark.parametrize("text", ["go forward 1.", "turn left."])
def test_fulfil_the_mission(text):
    assert broken("fulfil-the-mission", go(text)) == [None]
    assert broken("fulfil-the-mission", go("go forward 2.")) == []


TWO = (("go", "go to the red ball", "b"), ("pick", "pick up the blue key", "k"))
BOTH = "to go to the red ball: forward 2; then, to pick up the blue key: forward 1."


def test_parts_that_the_plan_does_not_speak_of():
    missing = case_of("to go to the red ball: go forward 2.", ROOM, THINGS, *TWO, order="before")
    assert len(broken("fulfil-the-mission", missing)) == 2  # not done, and not spoken of
    assert len(broken("fulfil-the-mission", case_of(BOTH, ROOM, THINGS, *TWO, order="before"))) == 1


@pytest.mark.parametrize("order, bad", [("before", 0), ("after", 1), ("and", 0)])
def test_parts_in_order(order, bad):
    assert len(broken("parts-in-order", case_of(BOTH, ROOM, THINGS, *TWO, order=order))) == bad


@pytest.mark.parametrize(
    "text, steps",
    [
        ("turn left and turn right and go forward 2.", [0]),
        ("go forward 1 and turn right twice and go forward 1 and turn right twice and go forward 2.", [0]),
        ("turn right 4 times and go forward 2.", [0, 0]),
        ("turn right 3 times and go forward 1.", [0]),
        ("turn right twice and go forward 1.", []),
        ("go forward 2 and turn left.", [2]),
        ("go forward 2.", []),
        ("wait and go forward 2.", []),  # waiting is not going back and forth
        ("turn left and go forward 1 and turn right and go forward 3 and turn right.", []),  # round about, but not back
    ],
)
def test_no_detours(text, steps):
    assert broken("no-detours", go(text)) == steps


def test_a_look_that_finds_the_target_is_no_detour():
    rows = ("#######", "#b....#", "#.###.#", "#...>.#", "#######")
    look, around = "left; right; ", "forward 1; left, forward 2; left, forward 3."
    found = case_of(look + around, rows, THINGS, GO)
    assert found.rollout.success and broken("no-detours", found) == []
    assert broken("no-detours", case_of(f"{look}forward 1; left.", rows, THINGS, GO)) == [0]  # nothing is made of it
    assert broken("no-detours", case_of(f"{look}{look}{around}", rows, THINGS, GO))[-1] > 0  # one look is enough


@pytest.mark.parametrize(
    "text, n",
    [("go forward 3.", 0), ("turn left and go forward 1, then turn right and go forward 3.", 0), ("go forward 1.", 1)],
)
def test_right_distance(text, n):
    assert len(broken("right-distance", go(text))) == n


def test_walking_too_far_to_turn_to_it():
    rows = ("########", "#......#", "#>.....#", "#..b...#", "########")
    assert broken("right-distance", case_of("go forward 3, then turn right.", rows, THINGS, GO)) == [0]
    assert broken("right-distance", case_of("go forward 2, then turn right.", rows, THINGS, GO)) == []


@pytest.mark.parametrize(
    "why, principle",
    [
        ("i see the red ball 1 ahead and 2 to the right.", "state-your-ground"),
        ("i see the red ball 2 ahead and 1 to the right.", "right-target"),
        ("i do not see the red ball yet, so i look around first.", "use-your-eyes"),
        ("i see the blue key 2 ahead and 1 to the left.", "left-is-left"),
        ("i see the green box 2 ahead.", "explore-first"),
        ("because it seems right to me.", "state-your-ground"),
        ("the red ball is 3 ahead, so i turn left first.", "state-your-ground"),
        ("the red ball is 3 ahead, but the grey box is in the way.", "state-your-ground"),
        ("the red ball is 9 ahead.", "within-sight"),
        ("the red ball is 2 behind.", "within-sight"),
    ],
)
def test_false_explanations(why, principle):
    assert broken(principle, go(f"go forward 2. {why}"))
    assert not broken(principle, go(f"go forward 2. {TRUE}"))


def test_going_to_the_wrong_thing():
    at_key = "turn right and go forward 1, then turn left and go forward 1."
    assert broken("right-target", go(at_key)) == [None]
    assert broken("right-target", go("go forward 1.")) == []
    assert broken("left-is-left", go("turn left and go forward 1 and turn right and go forward 1 and turn left.")) == []


def test_going_to_the_mirror_image():
    rows = ("########", "#......#", "#>.....#", "#..b...#", "########")
    assert broken("left-is-left", case_of("go forward 2, then turn left.", rows, THINGS, GO)) == [None]
    assert broken("left-is-left", case_of("go forward 2, then turn right.", rows, THINGS, GO)) == []


def test_relying_on_what_was_not_in_view():
    rows = ("#########", *["#.......#"] * 6, "#...^..b#", "#########")
    blind = case_of("turn right and go forward 2.", rows, THINGS, GO)
    assert blind.rollout.success and broken("explore-first", blind) == []  # turning is looking
    corridor = ("##########", "#>......b#", "##########")
    assert broken("explore-first", case_of("go forward 7.", corridor, THINGS, GO)) == []
    longer = ("############", "#>........b#", "############")
    assert broken("explore-first", case_of("go forward 8.", longer, THINGS, GO)) == [6]
    assert broken("explore-first", case_of("go forward 6, then go forward 2.", longer, THINGS, GO)) == []


def test_beginning_in_vain_where_nothing_is_seen():
    rows = ("#####", "#b.>#", "#####")
    assert broken("explore-first", case_of("go forward 1, then turn left twice.", rows, THINGS, GO)) == [0]
    assert broken("explore-first", case_of("turn left twice.", rows, THINGS, GO)) == []


def test_walls_stand():
    assert broken("walls-stand", go("turn left and go forward 3, then turn left and go forward 2.")) == [2, 5]
    assert broken("walls-stand", go("turn right and go forward 1, then turn left and go forward 2.")) == [4]  # the key
    assert broken("walls-stand", go("turn right, then go forward 2.")) == []


def test_doors_and_keys():
    assert broken("doors-first", hall("go forward 4.")) == [2] and broken("walls-stand", hall("go forward 4.")) == []
    assert broken("keys-that-fit", hall("go forward 4.")) == []
    assert broken("keys-that-fit", hall("go forward 4.", LOCKED)) == [2]
    assert broken("keys-that-fit", hall("go forward 2 and toggle.", LOCKED)) == [2]
    assert broken("doors-first", hall("go forward 4.", OPEN)) == []


@pytest.mark.parametrize("key, opens", [("grey key", True), ("red key", False)])
def test_only_the_key_of_the_colour_opens(key, opens):
    rows = ("#######", "#>kD.b#", "#######")
    legend = {"k": key, "D": ("grey door", LOCKED), "b": "red ball"}
    case = case_of("pick up, then go forward 1 and toggle.", rows, legend, GO)
    assert broken("keys-that-fit", case) == ([] if opens else [2])


def test_hands():
    pick = ("pick", "pick up the blue key", "k")
    rows = ("#######", "#.>k.b#", "#######")
    assert broken("one-at-a-time", case_of("pick up, then go forward 2, then pick up.", rows, THINGS, GO)) == []
    held = case_of("pick up, then go forward 2, then pick up.", rows, THINGS, ("put", "put it", "k", "b"))
    assert broken("one-at-a-time", held) == [3]
    assert broken("within-reach", case_of("turn left twice and pick up.", rows, THINGS, pick)) == [2]
    assert broken("within-reach", case_of("drop and pick up.", rows, THINGS, pick)) == [0]
    assert broken("within-reach", case_of("pick up, then turn left and drop.", rows, THINGS, GO)) == [2]


def test_doors_are_left_as_found():
    assert broken("leave-as-found", hall("forward 2; toggle; forward 3.")) == [2]
    assert broken("leave-as-found", hall("forward 5.", OPEN)) == []
    assert broken("leave-as-found", hall("forward 2; toggle; forward 2; right twice, toggle.")) == []
    asked = hall("forward 2; toggle.", part=("open", "open the grey door", "D"))
    assert asked.rollout.success and broken("leave-as-found", asked) == []
    assert broken("leave-as-found", hall("forward 2; toggle.", OPEN)) == [None]


def test_what_lay_in_a_box_justifies_opening_it():
    rows = ("#######", "#.>x.b#", "#######")
    case = case_of("toggle, then go forward 1.", rows, {"x": "green box", "b": "red ball"}, GO)
    assert broken("leave-as-found", case) == [0]


def test_a_mission_that_ends_on_the_doorstep_is_exempt():
    rows = ("#######", "#>.Db.#", "#######")
    legend = {"b": "red ball", "D": ("grey door", CLOSED)}
    case = case_of("forward 1; toggle; forward 1.", rows, legend, GO)
    assert case.rollout.success
    for principle in ("leave-as-found", "out-of-the-way"):
        assert broken(principle, case) == [] and exempt(principle, case)
    assert broken("out-of-the-way", hall("forward 2; toggle; forward 1.")) == [None]
    assert broken("out-of-the-way", hall("forward 2; toggle; forward 2.")) == []


BESIDE = ("#########", "#.k.#...#", "#.>.D..b#", "#...#...#", "#########")
WITH_DOOR = {"k": "blue key", "b": "red ball", "D": ("grey door", CLOSED)}


def test_put_aside():
    blocking = "turn left and pick up, then turn right and drop."
    assert broken("put-aside", case_of(blocking, BESIDE, WITH_DOOR, GO)) == [3]
    assert broken("put-aside", case_of("turn left and pick up and drop.", BESIDE, WITH_DOOR, GO)) == []
    aside = "turn left and pick up, then turn left and drop."
    assert broken("put-aside", case_of(aside, BESIDE, WITH_DOOR, GO)) == []
    on_the_step = ("#########", "#.#.#...#", "#.>kD..b#", "#...#...#", "#########")
    assert broken("put-aside", case_of("pick up and drop.", on_the_step, WITH_DOOR, GO)) == []
    wanted = ("put", "put the blue key next to the grey door", "k", "D")
    assert broken("put-aside", case_of(blocking, BESIDE, WITH_DOOR, wanted)) == []


def test_take_only_needed():
    assert broken("take-only-needed", case_of("turn left and pick up.", BESIDE, WITH_DOOR, GO)) == [1]
    mission = ("pick", "pick up the blue key", "k")
    assert broken("take-only-needed", case_of("turn left and pick up.", BESIDE, WITH_DOOR, mission)) == []
    rows = ("#######", "#.>k.b#", "#######")
    assert broken("take-only-needed", case_of("pick up, then go forward 2.", rows, THINGS, GO)) == []
    assert broken("take-only-needed", case_of("pick up, then turn right.", rows, THINGS, GO)) == [0]
    locked = {**WITH_DOOR, "k": "grey key", "D": ("grey door", LOCKED)}
    fetch = "turn left and pick up, then turn right and go forward 1 and toggle."
    assert broken("take-only-needed", case_of(fetch, BESIDE, locked, GO)) == []


def test_design():
    assert broken("known-actions", go("wait, then go forward 2.")) == [0]
    assert broken("known-actions", go("toggle, then go forward 2.")) == [0]
    assert broken("known-actions", hall("go forward 2 and toggle.")) == []
    assert broken("step-budget", go("go forward 2.", max_steps=2)) == []
    assert broken("step-budget", go("turn left and turn right and go forward 2.", max_steps=3)) == [3]


def test_extending_the_checkers(monkeypatch):
    monkeypatch.setitem(CHECKERS, "be-brief", lambda case: [Violation("be-brief", None, "too long.")])
    assert violations(go("go forward 2."), ["be-brief", "no-such-principle"]) == [Violation("be-brief", None, "too long.")]
    assert exemptions(go("go forward 2.")) == []
    assert exempt("out-of-the-way", go("go forward 2.")) == []
