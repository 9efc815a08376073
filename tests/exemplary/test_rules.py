"""The rule-based back end: habits that are objected to, reviews that mend their own discipline's mistakes."""

import numpy as np
import pytest

from hjepa_gfn.exemplary.bot import run
from hjepa_gfn.exemplary.checkers import DISCIPLINES, Case, findings, violations
from hjepa_gfn.exemplary.claims import claims_of
from hjepa_gfn.exemplary.explain import Belief, explanation, true_belief
from hjepa_gfn.exemplary.phrases import actions_of, explanation_of, parse_plan
from hjepa_gfn.exemplary.rules.backend import RuleBackend
from hjepa_gfn.exemplary.rules.habits import HABITS, Habit, draw_habits, see_through
from hjepa_gfn.exemplary.rules.mind import Mind
from hjepa_gfn.exemplary.rules.sound import sound_plan
from hjepa_gfn.exemplary.rules.walking import walk
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT, make_env
from hjepa_gfn.worlds.language import BALL, BOX, EMPTY, KEY, cell_of
from tests.exemplary.books import BOOKS

LEVELS = ("GoToLocal", "PutNextLocal", "UnlockPickup", "GoToSeqS5R2", "UnblockPickup", "PickupLoc", "OpenDoorsOrderN4")


def toolbox_of(level, seed):
    name = f"BabyAI-{level}-v0"
    return Toolbox(situation_of(name, seed)[0], make_env(name))


@pytest.fixture(scope="module")
def minds():
    boxes = [toolbox_of(level, seed) for level in LEVELS for seed in range(6)]
    return [Mind(0, box, sound_plan(box)) for box in boxes]


def test_sound_plans_break_no_principle(minds):
    for mind in minds:
        assert violations(mind.case(mind.sound.thought)) == [], mind.situation.id
        assert mind.truth.success and mind.truth.steps == len(mind.truth.actions)


def test_a_door_is_shut_also_where_turning_round_might_end_the_mission():
    box = toolbox_of("GoToSeqS5R2", 23)  # turning to the right from the door fulfils the mission at once
    thought = sound_plan(box).thought
    done = box.rollout(thought.actions)
    assert done.success and all(done.final.door[item] == found for item, found in done.start.door.items())


def test_habits_leave_a_plan_with_one_step_at_least():
    box = toolbox_of("GoToSeqS5R2", 544)  # skipping a part and stopping short together left nothing to say
    answer = RuleBackend().draft(box.situation, (), box)
    assert answer.verdict == "propose" and actions_of(parse_plan(answer.text))


def test_clauses_follow_the_order_in_which_parts_are_done(minds):
    several = 0
    for mind in minds:
        parts = mind.truth.layout.mission.parts
        goals = [goal for whole in mind.sound.thought.goals for goal in whole.split(" and ")]
        assert sorted(goals) == sorted(part.goal for part in parts)
        for before, after in mind.truth.layout.mission.order:
            if parts[before].goal != parts[after].goal:
                assert goals.index(parts[before].goal) < goals.index(parts[after].goal)
        several += len(mind.sound.thought.goals) > 1
        plan = mind.plan(mind.sound.thought)
        assert [clause.goal for clause in plan] == (list(mind.sound.thought.goals) if len(plan) > 1 else [""])
    assert several >= 6


def test_every_kind_of_habit_occurs_and_is_objected_to_by_its_discipline(minds):
    occurred = set()
    for mind in minds:
        for discipline, functions in HABITS.items():
            for function in functions:
                habit = Habit(discipline, function.__name__, function)
                thought = see_through(mind, (habit,))
                assert thought.steps, habit.name
                if violations(mind.case(thought), DISCIPLINES[discipline]):
                    occurred.add(habit.name)
    assert occurred == {function.__name__ for functions in HABITS.values() for function in functions}


def test_drawn_habits_are_of_several_disciplines(minds):
    for mind in minds:
        habits = draw_habits(mind)
        disciplines = [habit.discipline for habit in habits]
        assert len(set(habits)) == len(habits) >= 2 and len(set(disciplines)) >= 2
        assert disciplines == sorted(disciplines, key=list(HABITS).index)
        assert see_through(mind, habits).actions != mind.sound.thought.actions
    assert len({draw_habits(mind) for mind in minds}) > 20


def test_a_review_mends_its_own_discipline_and_leaves_the_rest():
    mended = 0
    for level in LEVELS:
        for seed in range(3):
            box = toolbox_of(level, seed)
            backend = RuleBackend()
            text = backend.draft(box.situation, BOOKS, box).text
            for book in BOOKS:
                before = case_of(box, text)
                answer = backend.review(box.situation, book, text, box)
                ids = DISCIPLINES[book.discipline]
                assert set(answer.principle_ids) <= set(ids)
                assert set(answer.principle_ids) == {v.principle for v in violations(before, ids)}
                assert all(f"{principle}: " in answer.critique for principle in answer.principle_ids[:3])
                if answer.verdict == "refine":
                    assert answer.principle_ids and answer.text != text
                    text, mended = answer.text, mended + 1
                assert [call.name for call in answer.tool_calls] == ["roll_forward"]
    assert mended >= 2 * len(LEVELS) * 3


def case_of(box, text):
    plan = parse_plan(text)
    return Case(box.situation, plan, explanation_of(text), box.rollout(actions_of(plan)))


def test_answers_depend_on_seed_and_question_only():
    box, again = toolbox_of("GoToLocal", 3), toolbox_of("GoToLocal", 3)
    backend, other = RuleBackend(5), RuleBackend(5)
    other.draft(toolbox_of("PickupLoc", 1).situation, BOOKS, toolbox_of("PickupLoc", 1))
    first, second = backend.draft(box.situation, BOOKS, box), other.draft(again.situation, BOOKS, again)
    assert first == second and len(first.prompt_sha) == 16
    review = backend.review(box.situation, BOOKS[1], first.text, box)
    fresh = RuleBackend(5).review(again.situation, BOOKS[1], first.text, again)  # has seen no draft
    assert review == fresh
    shas = {first.prompt_sha, review.prompt_sha, backend.explain_otherwise(box.situation, first.text, box).prompt_sha}
    shas |= {backend.review(box.situation, BOOKS[2], first.text, box).prompt_sha}
    shas |= {RuleBackend(6).draft(box.situation, BOOKS, box).prompt_sha}
    assert len(shas) == 5
    assert {RuleBackend(seed).draft(box.situation, BOOKS, box).text for seed in range(8)} != {first.text}


def test_somebody_elses_plan_is_thought_anew():
    box = toolbox_of("GoToLocal", 1)
    theirs = "turn right and go forward 2, then pick up. i see the purple box 2 ahead."
    answer = RuleBackend().review(box.situation, BOOKS[1], theirs, box)
    assert answer.verdict == "refine" and "state-your-ground" in answer.principle_ids
    assert findings(case_of(box, answer.text)) == []
    nonsense = RuleBackend().review(box.situation, BOOKS[0], "do something.", box)
    assert nonsense.failure and nonsense.verdict == "keep"


def test_explaining_otherwise_keeps_the_plan_and_stays_true():
    for seed in range(8):
        box = toolbox_of("GoToLocal", seed)
        backend = RuleBackend()
        mind = Mind(0, box, sound_plan(box))
        text = mind.write(mind.sound.thought)
        other = backend.explain_otherwise(box.situation, text, box).text
        assert parse_plan(other) == parse_plan(text) and explanation_of(other) != explanation_of(text)
        assert violations(case_of(box, other)) == []


def test_a_level_that_the_planner_cannot_do_is_a_failure():
    box = toolbox_of("KeyInBox", 0)
    assert RuleBackend().draft(box.situation, BOOKS, box).failure


def percept(things):
    view = np.zeros((7, 7, 3), np.uint8)
    view[..., 0] = EMPTY
    for place, code in things.items():
        view[cell_of(place)] = code
    return view


SOUND = [FORWARD, FORWARD, LEFT, FORWARD]  # ends facing (2, -2)


@pytest.mark.parametrize(
    "things, mission, actions, role",
    [
        ({(2, -2): (BALL, 0, 0), (3, 1): (BOX, 2, 0)}, "go to the red ball", SOUND, "target"),
        ({(2, -2): (KEY, 5, 0)}, "open the grey door", SOUND, "means"),
        ({(2, 0): (KEY, 5, 0)}, "go to the red ball", [FORWARD, PICKUP, RIGHT, DROP, LEFT, FORWARD], "blocker"),
        ({(2, -2): (4, 5, 1)}, "go to the red ball", SOUND, "door"),
        ({}, "go to the red ball", SOUND, None),
        ({(4, 3): (BALL, 0, 0)}, "go to a red ball", SOUND, None),
        ({(4, 3): (BALL, 0, 0)}, "pick up the red ball", SOUND, None),
    ],
)
def test_every_wording_says_the_same_and_reads_back(things, mission, actions, role):
    view = percept(things)
    belief = true_belief(view, mission, actions)
    assert (belief.role if belief.aim else None) == role
    texts = {explanation(belief, actions, style) for style in range(60)}
    assert len(texts) >= 2 and all(text == text.lower() and text.endswith(".") for text in texts)
    said = {frozenset(claim for claim in claims_of(text) if claim.kind in ("at", "unseen")) for text in texts}
    assert len(said) == 1 and said != {frozenset()}, said


def test_obstacles_first_steps_and_citations():
    belief = Belief("red ball", "red ball", (3, 0), "grey key")
    assert all("grey key is in the way" in explanation(belief, [FORWARD], style) for style in range(6))
    plain = Belief("red ball", "red ball", (3, 0))
    claims = [claim for style in range(20) for claim in claims_of(explanation(plain, [LEFT], style))]
    assert {claim.what for claim in claims if claim.kind == "first"} == {"turn left"}
    assert "right-target" in explanation(plain, [LEFT], 3, "right-target")


def test_walking_finds_the_shortest_way_round():
    done = run(make_env("BabyAI-GoToLocal-v0"), 4).rollout
    for t, pose in enumerate(done.poses):
        way = walk(done.start, pose)
        assert way is not None and len(way) <= t
        state = done.start.copy()
        for action in way:
            state.step(action)
        assert (*state.pos, state.heading) == pose
    assert walk(done.start, (0, 0, 0)) is None
