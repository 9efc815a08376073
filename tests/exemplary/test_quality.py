"""Scores of executed episodes and the quality report."""

import dataclasses
import json

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary import ExemplaryActor, print_quality, quality, score_episode
from hjepa_gfn.exemplary.checkers import CHECKERS
from hjepa_gfn.exemplary.phrases import explanation_of
from hjepa_gfn.exemplary.quality import diversity
from hjepa_gfn.exemplary.scoring import NEEDS_EXPLANATION, NEEDS_PLAN
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from tests.exemplary.books import BOOKS

LEVEL = "BabyAI-GoToLocal-v0"


@pytest.fixture(scope="module")
def traces():
    return [ExemplaryActor(LEVEL, textbooks=BOOKS).trace(seed, "train") for seed in range(12)]


def test_an_exemplary_episode_scores_nothing(traces):
    for trace in traces:
        final = trace.final
        scores = score_episode(LEVEL, trace.seed, trace.trajectory.action, explanation_of(final.text), final.plan)
        assert scores == dict.fromkeys(CHECKERS, 0)


def test_what_needs_words_is_left_out_without_words(traces):
    actions = traces[0].trajectory.action
    assert set(CHECKERS) - set(score_episode(LEVEL, 0, actions)) == NEEDS_PLAN | NEEDS_EXPLANATION
    with_plan = score_episode(LEVEL, 0, actions, plan=traces[0].final.plan)
    assert set(CHECKERS) - set(with_plan) == NEEDS_EXPLANATION
    lie = score_episode(LEVEL, traces[0].seed, actions, "i see the yellow box 9 ahead.")
    assert lie["within-sight"] == 1 and set(CHECKERS) - set(lie) == NEEDS_PLAN


def test_violations_are_counted(traces):
    dithering = [LEFT, RIGHT, LEFT, RIGHT, *traces[1].trajectory.action]
    assert score_episode(LEVEL, 1, dithering)["no-detours"] >= 1
    assert score_episode(LEVEL, 1, [LEFT])["fulfil-the-mission"] == 1
    assert score_episode(LEVEL, 2, [FORWARD, FORWARD])["walls-stand"] == 1  # the way ahead is blocked


@pytest.mark.parametrize("level, actions", [("BabyAI-Nowhere-v0", [0]), (LEVEL, [7]), (LEVEL, [-1])])
def test_bad_input(level, actions):
    with pytest.raises(UserError):
        score_episode(level, 0, actions)


def test_report(traces, capsys):
    report = quality(traces)
    assert json.loads(json.dumps(report)) == report
    assert report["traces"] == 12 and report["converged"] == report["success"] == report["parsed"] == report["robust"] == 1
    assert report["drafts"] == sum(len(trace.drafts) for trace in traces) / 12
    assert report["final_violations"] == {} and set(report["curve"]) == set(CHECKERS)
    assert sum(curve[0] for curve in report["curve"].values()) > 1
    assert all(curve[-1] == 0 for curve in report["curve"].values())
    refined = sum(row["refinements"] for row in report["worsened"].values())
    assert refined == report["answers"]["refined"] == sum(len(trace.versions) - 1 for trace in traces)
    assert report["answers"]["proposed"] == 12 and report["answers"]["converse check"] == 12 * 6
    assert report["diversity"]["final"]["texts"] == 12
    print_quality(report)
    table = capsys.readouterr().out
    assert "12 traces: 100.0% converged" in table and "leave-as-found" in table and "epistemology" in table


def test_what_does_not_converge_or_is_turned_down_is_not_hidden(traces):
    trace = traces[0]
    odd = dataclasses.replace(trace.entries[-1], verdict="refine", text="fly.", reason="no plan", failure="")
    failed = dataclasses.replace(odd, verdict="keep", reason="", failure="time-out")
    worse = dataclasses.replace(trace, converged=False, robust=None, entries=[*trace.entries, odd, failed])
    report = quality([worse, traces[1]])
    assert report["converged"] == 0.5 and report["robust"] == 1.0
    assert report["answers"]["turned down"] == 1 and report["answers"]["failed"] == 1


def test_a_refinement_for_the_worse_is_counted(traces):
    trace = traces[1]
    accepted = [entry for entry in trace.entries if entry.accepted]
    draft = dataclasses.replace(accepted[-1], sweep=0)
    nonsense = "wait, then turn left twice. because i feel like it."
    spoilt = dataclasses.replace(draft, text=nonsense, discipline="design", verdict="refine", sweep=1)
    report = quality([dataclasses.replace(trace, entries=[draft, spoilt])])
    assert report["worsened"]["design"] == {"refinements": 1, "more_violations": 1, "mission_lost": 1}
    assert report["final_violations"]


def test_no_traces():
    with pytest.raises(UserError, match="no traces"):
        quality([])


def test_diversity():
    same, other = diversity(["a b c", "a b c"]), diversity(["a b c", "d e f"])
    assert (same["distinct"], same["vocabulary"], same["distinct_2"]) == (1, 3, 0.5)
    assert (other["distinct"], other["vocabulary"], other["distinct_3"]) == (2, 6, 1.0)
