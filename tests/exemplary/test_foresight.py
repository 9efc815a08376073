"""What is foreseen from the first percept is what happens, whatever lies out of view; and it is all that can be foreseen."""

import functools

import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.foresight.case import PredictionCase, Question
from hjepa_gfn.exemplary.foresight.checks import PREDICTION_CHECKS, faults
from hjepa_gfn.exemplary.foresight.foresee import foresee
from hjepa_gfn.exemplary.foresight.orders import read_orders
from hjepa_gfn.exemplary.foresight.truth import false_parts, what_happened
from hjepa_gfn.exemplary.knowledge import load_textbooks
from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.rules.fancies import FANCIES, fancied
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.supposing import supposing
from hjepa_gfn.worlds.families import draw_level
from tests.exemplary.rooms import case_of

PICK, OPEN, GO = "pick up the red ball", "open the blue door", "go to the red ball"
PUT = "put the red ball next to the grey box"


def foreseen(plan, rows, legend, *parts, **options):
    """(what is foreseen, what happens) of a plan in a room that is drawn."""
    case = case_of(plan, rows, legend, *parts, **options)
    return foresee(case.situation.view, case.situation.mission, case.rollout.actions), what_happened(case.rollout)


ROOM = ["########", "#......#", "#......#", "#.>.r.b#", "#......#", "########"]
LEGEND = {"r": "red ball", "b": "grey box"}


@pytest.mark.parametrize(
    ("plan", "part", "expected"),
    [
        ("go forward 2.", ("go", GO, "r"), (0, "", (), True, 1)),  # it is over before step 2, which would be in vain
        ("turn left, then go forward 1.", ("go", GO, "r"), (0, "", (), False, 2)),
        ("forward 1; pick up; left; drop.", ("put", PUT, "r", "b"), (0, "", (("red ball", "moved"),), False, 4)),
        ("go forward 1 and pick up.", ("pick", PICK, "r"), (0, "red ball", (), True, 2)),
        ("pick up and wait.", ("pick", PICK, "r"), (1, "", (), False, 2)),
    ],
)
def test_what_is_in_view_is_foreseen(plan, part, expected):
    foresight, truth = foreseen(plan, ROOM, LEGEND, part)
    assert foresight.prediction == truth == expected


def test_what_lies_out_of_view_is_not_known():
    walk = "turn right twice and go forward 1 and turn left and pick up."
    foresight, truth = foreseen(walk, ROOM, LEGEND, ("go", "go to a red ball", "r"))
    assert foresight.prediction == (None, None, None, None, None) and foresight.lost == (3, (-1, 0))
    # No step picks up, opens or puts down: so much is known, wherever it leads.
    foresight, truth = foreseen("turn right twice and go forward 3.", ROOM, LEGEND, ("pick", PICK, "r"))
    assert foresight.prediction == (None, "", (), False, 5) and truth[1:] == (foresight.prediction[1:])


def test_another_one_may_be_out_of_view_unless_there_is_only_one():
    plan, part = "turn right twice.", ("go", "go to a red ball", "r")
    assert foreseen(plan, ROOM, LEGEND, part)[0].prediction == (0, "", (), None, 2)
    assert foreseen(plan, ROOM, LEGEND, ("go", GO, "r"))[0].prediction == (0, "", (), False, 2)
    over = foreseen("turn right twice and turn right twice and go forward 1.", ROOM, LEGEND, part)[0].prediction
    assert over == (0, "", (), True, None)  # it may be over before


def test_doors_keys_and_boxes():
    rows = ["#########", "#..#....#", "#k>d....#", "#..#....#", "#########"]
    locked = {"k": "blue key", "d": ("blue door", 2)}
    part = ("open", OPEN, "d")
    assert foreseen("toggle.", rows, locked, part)[0].prediction == (1, "", (), False, 1)
    assert foreseen("toggle.", rows, {**locked, "d": ("blue door", 1)}, part)[0].prediction == (
        0, "", (("blue door", "open"),), True, 1)
    box = ["#####", "#.>b#", "#####"]
    after = foreseen("toggle and go forward 1.", box, {"b": "red box"}, ("pick", "pick up the red box", "b"))[0]
    assert after.prediction.changes == (("red box", "broken"),) and after.lost == (2, (1, 0))  # it may have held something


def test_a_drop_in_vain_puts_nothing_anywhere():
    """Cells of the picture must not be taken for the verifier's "nowhere", (-1, -1)."""
    case = case_of("wait.", ["#####", "#b..#", "#.r.#", "#.^.#", "#####"], LEGEND, ("put", PUT, "r", "b"))
    for actions in ((3, 0, 4, 4), (3, 0, 0, 4), (3, 1, 1, 1, 0, 2, 2, 4), (3, 0, 2, 4), (3, 1, 2, 4)):
        foresight = foresee(case.situation.view, case.situation.mission, actions)
        assert false_parts(foresight.prediction, roll(case.rollout.start, actions)) == []


def test_what_is_done_already_needs_no_action_any_more():
    parts = ("pick", PICK, "r"), ("go", "go to the grey box", "b")
    mission = f"{PICK}, then go to the grey box"
    plan = "go forward 1 and pick up and turn left twice and go forward 3."
    done, _ = foreseen(plan, ROOM, LEGEND, *parts, mission=mission, order="before")
    assert done.lost == (6, (-1, 0)) and done.prediction == (None, "red ball", (), None, None)
    undone, _ = foreseen(plan.replace("pick up", "wait"), ROOM, LEGEND, *parts, mission=mission, order="before")
    assert undone.prediction == (2, "", (), False, 7)


def test_what_the_simulator_refutes_is_withdrawn_and_nothing_is_added():
    case = case_of("turn left.", ROOM, LEGEND, ("go", GO, "r"))
    question = Question(supposing(case.situation, "turn left."))
    other = case_of("pick up and go forward 1.", ROOM, LEGEND, ("go", GO, "r")).rollout
    claimed = PredictionCase(question, question.foresight.prediction, "i see that.", other)
    assert claimed.prediction == (0, "", (), False, 1) and claimed.sound == (None, "", (), None, None)
    assert {fault.parts for fault in faults(claimed)} == {("vain",), ("fulfilled",), ("steps",)}
    unknown = Question(supposing(case.situation, "turn right twice and go forward 1."))
    assert PredictionCase(unknown, unknown.foresight.prediction, "i see that.", case.rollout).sound.vain is None


def test_nothing_is_known_beyond_the_least_limit_on_steps():
    rows = ["####", "#..#", "#r^#", "####"]
    plan = "turn left 4 times and turn right 12 times and toggle."
    foresight, truth = foreseen(plan, rows, LEGEND, ("pick", PICK, "r"), max_steps=16)
    assert truth == (0, "", (), False, 16) and foresight.prediction == (None, "", (), False, None)


def test_never_more_than_what_happens():
    """Random plans in levels of all families. Levels that break off at a wrong attempt do not tell so (Debug)."""
    rng, known, n = np.random.default_rng(0), 0, 0
    for seed in range(60):
        level = draw_level("mixed", seed)
        situation, state = situation_of(level, seed)
        for _ in range(4):
            actions = tuple(rng.choice(7, int(rng.integers(1, 20)), p=[0.14, 0.14, 0.42, 0.12, 0.08, 0.08, 0.02]).tolist())
            foresight = foresee(situation.view, situation.mission, actions)
            if "Debug" not in level:
                assert false_parts(foresight.prediction, roll(state, actions)) == [], (level, seed, actions)
            known += sum(part is not None for part in foresight.prediction)
            n += 5
    assert known / n > 0.6  # it says something


def test_mission_words_are_read_as_the_verifier_means_them():
    def shape(node):
        return node.kind if hasattr(node, "goal") else (node.kind, shape(node.first), shape(node.second))

    for seed in range(80):
        situation, state = situation_of(draw_level("mixed", seed), seed)
        assert shape(read_orders(situation.mission).mission.tree) == shape(state.layout.mission.tree)
    wanted = read_orders("put a ball next to the red door on your left after you go to the grey object").wanted
    assert wanted[0] == ("a", "", "ball", "") and wanted[1] == ("the", "grey", "", "")
    assert read_orders("pick up the key on your left").wanted[0].matches("red key", (2, -1))
    assert not read_orders("pick up the key on your left").wanted[0].matches("red key", (2, 1))
    with pytest.raises(UserError, match="cannot read 'find a ball'"):
        read_orders("find a ball")


def test_an_unreadable_mission_leaves_the_mission_open():
    case = case_of("go forward 1.", ROOM, LEGEND, ("go", GO, "r"))
    assert foresee(case.situation.view, "dance", case.rollout.actions).prediction == (0, "", (), None, None)


@functools.cache
def asked():
    """Questions about plans of many kinds: (question, rollout)."""
    rng, found = np.random.default_rng(3), []
    for seed in range(70):
        situation, state = situation_of(draw_level("mixed", seed), seed)
        words = ("turn left", "turn right", "go forward 2", "pick up", "drop", "toggle", "wait", "go forward 1", "go forward 3")
        plan = " and ".join(rng.choice(words, 6)) + "."
        found.append((Question(supposing(situation, plan)), roll(state, tuple(actions_of(parse_plan(plan))))))
    return found


def test_what_is_sound_has_no_fault():
    for question, rollout in asked():
        sound = PredictionCase(question, question.foresight.prediction, "i see that.", rollout).sound
        assert faults(PredictionCase(question, sound, "i see that.", rollout)) == []


BALLS = ["######", "#..b.#", "#.>..#", "#...r#", "######"]
TWO = ["######", "#.b..#", "#.>r.#", "#....#", "######"]
DOOR = ["#########", "#..#....#", "#k>d....#", "#..#....#", "#########"]


@pytest.mark.parametrize(
    ("fancy", "plan", "rows", "legend", "part"),
    [
        ("wishful", "turn left.", ROOM, LEGEND, ("go", GO, "r")),
        ("near_enough", "turn left.", ROOM, LEGEND, ("go", GO, "r")),
        ("free_turns", "turn left.", ROOM, LEGEND, ("go", GO, "r")),
        ("on_to_the_end", "go forward 2.", ROOM, LEGEND, ("go", GO, "r")),
        ("any_colour", "go forward 1 and turn left.", BALLS, {"r": "red ball", "b": "grey ball"}, ("go", GO, "r")),
        ("mirrored", "turn left and go forward 2.", ROOM, LEGEND, ("go", GO, "r")),
        ("unseen_is_empty", "turn right twice and go forward 3.", ROOM, LEGEND, ("go", GO, "r")),
        ("unsure", "turn left.", ROOM, LEGEND, ("go", GO, "r")),
        ("any_key", "toggle.", DOOR, {"k": "blue key", "d": ("blue door", 2)}, ("open", OPEN, "d")),
        ("roomy_hands", "pick up and turn left and pick up.", TWO, LEGEND, ("put", PUT, "r", "b")),
        ("long_arms", "pick up.", ROOM, LEGEND, ("pick", PICK, "r")),
        ("doors_give_way", "go forward 1.", DOOR, {"k": "blue key", "d": ("blue door", 1)}, ("open", OPEN, "d")),
        ("walls_give_way", "turn left and go forward 4.", ROOM, LEGEND, ("go", GO, "r")),
        ("no_trace", "go forward 1 and pick up and turn left and drop.", ROOM, LEGEND, ("put", PUT, "r", "b")),
        ("unseen_is_walled", "turn right twice and go forward 3.", ROOM, LEGEND, ("go", GO, "r")),
        ("idle_counts", "wait.", ROOM, LEGEND, ("go", GO, "r")),
    ],
)
def test_every_naive_belief_is_objected_to_by_its_discipline(fancy, plan, rows, legend, part):
    drawn = case_of(plan, rows, legend, part)
    question = Question(supposing(drawn.situation, plan))
    said = fancied(question.situation.view, question.situation.mission, question.actions, frozenset({fancy}))[0]
    case = PredictionCase(question, said, "i see that.", drawn.rollout)
    discipline = next(name for name, fancies in FANCIES.items() if fancy in fancies)
    (book,) = load_textbooks(disciplines=[discipline])
    assert said != case.sound == question.foresight.prediction
    assert faults(case, [principle.id for principle in book.principles])


def test_all_naive_beliefs_and_principles_are_known():
    tried = {case[0] for case in test_every_naive_belief_is_objected_to_by_its_discipline.pytestmark[0].args[1]}
    assert tried == {fancy for fancies in FANCIES.values() for fancy in fancies}
    assert set(PREDICTION_CHECKS) <= {principle.id for book in load_textbooks() for principle in book.principles}


@pytest.mark.parametrize("part", ["vain", "held", "changes", "fulfilled", "steps"])
def test_every_wrong_part_is_somebodys_business(part):
    """Completeness: whatever is said of a part, a principle speaks to it if it is not what can be known."""
    others = {
        "vain": (0, 1, 2, 5, 900), "held": ("", "red key"), "changes": ((), (("red door", "open"),), (("red key", "moved"),)),
        "fulfilled": (True, False), "steps": (0, 3, 900),
    }[part]  # fmt: skip
    for question, rollout in asked():
        sound = PredictionCase(question, question.foresight.prediction, "i see that.", rollout).sound
        for value in (None, *others):
            if value != getattr(sound, part):
                case = PredictionCase(question, sound._replace(**{part: value}), "i see that.", rollout)
                assert any(part in fault.parts for fault in faults(case)), (part, value, sound)
