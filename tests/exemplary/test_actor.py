"""Traces: texts state their plans, drafts are worse and finals sound, explanations are true, words give nothing away."""

import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary import ExemplaryActor, parse_plan
from hjepa_gfn.exemplary.actor import leg_names
from hjepa_gfn.exemplary.checkers import CHECKERS, Case, Exemption, findings, violations
from hjepa_gfn.exemplary.claims import claims_of
from hjepa_gfn.exemplary.legs import flatten
from hjepa_gfn.exemplary.phrases import actions_of, explanation_of, legs_of
from hjepa_gfn.exemplary.protocol import Answer
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.traces import Trace
from hjepa_gfn.worlds.babyai import make_env, reset_env
from hjepa_gfn.worlds.language import things_in_view
from tests.exemplary.books import BOOKS

LEVEL = "BabyAI-GoToLocal-v0"


@pytest.fixture(scope="module")
def traces():
    actor = ExemplaryActor(LEVEL, textbooks=BOOKS)
    return [actor.trace(seed, "train") for seed in range(150)]


def play(level, seed, actions):
    """Whether actions fulfil the mission of a fresh episode, after how many steps it ends, and the percepts."""
    env = make_env(level)
    views = [reset_env(env, seed)["image"]]
    for t, action in enumerate(actions):
        observation, reward, terminated, truncated, _ = env.step(action)
        views.append(observation["image"])
        if terminated or truncated:
            return reward > 0, t + 1, np.stack(views)
    return False, len(actions), np.stack(views)


def judged(trace, text):
    situation, state = situation_of(trace.level, trace.seed)
    plan = parse_plan(text)
    return Case(situation, plan, explanation_of(text), roll(state, tuple(actions_of(plan))))


def test_every_episode_is_solved_and_converges(traces):
    assert all(trace is not None and trace.success and trace.converged and trace.robust for trace in traces)
    assert max(entry.sweep for trace in traces for entry in trace.entries) <= 5


def test_texts_state_their_plans(traces):
    for trace in traces:
        assert trace.final.kind == "final" and len(trace.drafts) >= 1 and trace.final.principle == ""
        for version in trace.versions:
            assert parse_plan(version.text) == version.plan and version.text == version.text.lower()
        for draft in trace.drafts:
            assert draft.kind == "draft" and draft.principle in CHECKERS
            assert f"{draft.principle}: " in draft.critique
    assert np.mean([len(trace.drafts) for trace in traces]) >= 3


def test_texts_are_short(traces):
    lengths = [len(version.text.split()) for trace in traces for version in trace.versions]
    assert np.mean(lengths) < 26 and np.mean(np.array(lengths) > 40) < 0.01


def test_final_plan_is_the_executed_trajectory(traces):
    for trace in traces[:40]:
        moves, legs = trace.trajectory, legs_of(trace.final.plan)
        assert flatten(legs) == moves.action
        assert [leg for leg, steps in enumerate(legs) for _ in steps] == moves.segment
        assert len(moves.subgoal) == len(moves.clause) == len(legs)
        success, steps, views = play(LEVEL, trace.seed, moves.action)
        assert success and steps == len(moves.action)
        np.testing.assert_array_equal(views, moves.view)
        np.testing.assert_array_equal(trace.situation.view, moves.view[0])
        assert len(moves.direction) == steps + 1


def test_finals_break_no_principle_and_drafts_do(traces):
    for trace in traces[:60]:
        assert violations(judged(trace, trace.final.text)) == []
        for draft in trace.drafts:
            assert draft.principle in {finding.principle for finding in violations(judged(trace, draft.text))}


def test_refinement_pays(traces):
    """From the draft to the final, the number of violations falls; what is left at the end is exempt, with a reason."""
    first = [len(violations(judged(trace, trace.versions[0].text))) for trace in traces[:60]]
    assert np.mean(first) > 2 and min(first) >= 1


def test_final_explanations_are_true_to_the_first_percept(traces):
    kinds = []
    for trace in traces:
        things = things_in_view(trace.trajectory.view[0])
        claims = claims_of(trace.final.explanation)
        assert claims
        for claim in claims:
            fitting = [thing for thing in things if claim.fits(thing)]
            if claim.kind == "at":
                assert claim.place in [thing.place for thing in fitting], trace.final.text
            elif claim.kind == "unseen":
                assert not fitting, trace.final.text
        kinds.append(claims[0].kind)
    assert kinds.count("at") > 40 and kinds.count("unseen") > 30


def test_mistaken_drafts_need_the_percept_to_be_found_out(traces):
    """Words alone must not give drafts away: both kinds of text say both kinds of thing."""
    for kind in ("draft", "final"):
        claims = [claims_of(v.explanation) for trace in traces for v in trace.versions if v.kind == kind]
        share = np.mean([any(claim.kind == "unseen" for claim in found) for found in claims])
        assert 0.1 < share < 0.7
    cited = {draft.principle for trace in traces for draft in trace.drafts}
    assert {"right-target", "left-is-left", "use-your-eyes", "explore-first", "walls-stand"} <= cited


def test_traces_depend_on_seeds_only():
    def actor(seed):
        return ExemplaryActor(LEVEL, seed=seed, textbooks=BOOKS)

    lines = [actor(1).trace(7, "train").to_json() for _ in range(2)]
    used = actor(1)
    used.trace(8, "train")
    assert lines[0] == lines[1] == used.trace(7, "train").to_json()
    assert lines[0] != actor(2).trace(7, "train").to_json()


@pytest.mark.parametrize(
    "name", ["PutNextLocal", "PickupLoc", "GoToObjDoor", "UnlockPickup", "GoToSeqS5R2", "BlockedUnlockPickup", "MiniBossLevel"]
)
def test_other_levels(name):
    level = f"BabyAI-{name}-v0"
    actor = ExemplaryActor(level, textbooks=BOOKS)
    for seed in range(4):
        trace = actor.trace(seed, "validation", "a family")
        assert trace.success and trace.converged and trace.drafts
        assert (trace.split, trace.family, trace.level, trace.seed) == ("validation", "a family", level, seed)
        assert play(level, seed, trace.trajectory.action)[:2] == (True, len(trace.trajectory.action))
        assert all(isinstance(finding, Exemption) for finding in findings(judged(trace, trace.final.text)))
        again = Trace.from_json(trace.to_json())
        assert again.versions == trace.versions and again.to_json() == trace.to_json()


def test_clauses_of_the_trajectory():
    trace = ExemplaryActor("BabyAI-GoToSeqS5R2-v0", textbooks=BOOKS).trace(1, "train")
    plan = trace.final.plan
    assert len(plan) >= 2
    assert all(goal in trace.mission for clause in plan for goal in clause.goal.split(" and "))
    assert trace.trajectory.clause == [i for i, clause in enumerate(plan) for _ in clause.legs]


def test_legs_are_named_after_what_they_handle():
    trace = ExemplaryActor("BabyAI-UnlockPickup-v0", textbooks=BOOKS).trace(1, "train")
    names = trace.trajectory.subgoal
    assert {"pick up yellow key", "open yellow door", "close yellow door", "drop yellow key"} <= set(names)
    assert names[0] == "go to yellow key"
    _, state = situation_of(LEVEL, 2)
    plan = parse_plan("turn left, then go forward 1.")
    assert leg_names(plan, roll(state, tuple(actions_of(plan)))) == ["go", "go"]


def test_imagined_situations_have_texts_and_the_first_percept_only():
    actor = ExemplaryActor(LEVEL, textbooks=BOOKS)
    imagined, acted = actor.imagine(5, "train"), actor.trace(5, "train")
    assert imagined.versions == acted.versions and imagined.trajectory.action == []
    assert len(imagined.trajectory.view) == 1


def test_an_episode_that_the_planner_cannot_solve_has_no_trace():
    actor = ExemplaryActor("BabyAI-KeyInBox-v0", textbooks=BOOKS)
    assert actor.trace(0, "train") is None and actor.imagine(0, "train") is None


class Stubborn:
    """A back end whose plan leads nowhere, and that nobody objects to."""

    name = "stubborn"

    def draft(self, situation, textbooks, toolbox):
        return Answer("propose", "turn left. i see nothing.")

    def review(self, situation, textbook, text, toolbox):
        return Answer("keep", critique="fine")


def test_a_final_plan_that_fails_is_imagined_but_never_executed():
    actor = ExemplaryActor(LEVEL, textbooks=BOOKS, backend=Stubborn(), robustness=False)
    assert actor.trace(0, "train") is None
    imagined = actor.imagine(0, "train")
    assert not imagined.success and imagined.converged and imagined.robust is None
    assert {entry.backend for entry in imagined.entries} == {"stubborn"}


def test_unknown_level():
    with pytest.raises(UserError, match="unknown level"):
        ExemplaryActor("BabyAI-GoToLokal-v0", textbooks=BOOKS)


def test_the_planners_own_episode():
    episode = ExemplaryActor(LEVEL, textbooks=BOOKS).solve(3)
    assert episode.success and play(LEVEL, 3, episode.action)[0]


def test_converged_is_not_claimed_beyond_the_limit():
    actor = ExemplaryActor(LEVEL, textbooks=BOOKS, max_sweeps=1)
    trace = actor.trace(3, "train")
    assert trace is None or not trace.converged
