"""Modes over episodes: what is asked of the compiled functions, how plans are followed, and what is counted."""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.agent import following
from hjepa_gfn.agent.decision import Decision
from hjepa_gfn.agent.optimisation_mode import OptimisationMode
from hjepa_gfn.agent.options import Optimise
from hjepa_gfn.agent.reading import FirstLeg
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode
from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.protocol import Observation

CHUNK = following.CHUNK


def decision(counts):
    """Row i's plan begins with counts[i] actions: 1, 2, 3; 10 + i passes."""
    rows = len(counts)
    leg = FirstLeg(np.tile([1, 2, 3], (rows, 1)), np.full((rows, 3), -1), np.asarray(counts), np.zeros(rows, bool))
    return Decision(np.zeros(rows), np.zeros(rows), np.zeros((rows, 1)), leg, 10 + np.arange(rows))


class Fake:
    """An agent whose compiled functions are recorded; `lengths` are those of the plans of a chunk's first rows."""

    def __init__(self, lengths, away=0):
        self.calls, self.lengths, self.away = [], lengths, away
        self.params, self.config = None, SimpleNamespace(agent=Options(leave_distance=3, optimise=dict(chains=2, moves=6)))
        self.act = {
            "left_plan": lambda p, o, e: np.full(len(e), self.away), "plan": self.plan, "optimise": self.optimise,
            "habitual": lambda p, k, o, m: np.full(len(m), 6)}

    def missions(self, missions):
        return jnp.zeros((len(missions), 2), jnp.int32)

    def plan(self, params, key, percept, mission):
        self.calls.append(("plan", len(mission)))
        return decision(np.resize(self.lengths, CHUNK))

    def optimise(self, params, key, percept, mission, moves, best):
        self.calls.append(("optimise", int(moves), bool(best)))
        accepted = np.zeros((7, CHUNK, 2), bool)
        accepted[1, :, 0] = True
        return decision(np.resize(self.lengths, CHUNK)), SimpleNamespace(moves=np.int32(3), accepted=accepted)


class Options(SimpleNamespace):
    """Enough of a config."""

    def get(self, name, default):
        return getattr(self, name, default)


def see(rows):
    return Observation({"view": np.zeros((rows, 1))}, ["go"] * rows)


def test_plans_are_followed_to_their_end_and_costs_are_those_of_real_rows():
    agent = Fake([2, 0, 1])
    mode = PlanningMode(agent, 0)
    running = np.ones(3, bool)
    np.testing.assert_array_equal(mode(see(3), running), [1, 6, 1])  # row 1 says nothing: the habit
    np.testing.assert_array_equal(mode(see(3), running), [2, 1, 6])  # rows 1 and 2 planned anew, as the chunk's first two
    assert agent.calls == [("plan", CHUNK)] * 2
    counts = mode.counts
    assert counts["plans"] == 5 and counts["plan_ended"] == 5 and counts["habit_instead"] == 2 and counts["actions"] == 6
    assert counts["passes"] == (10 + 11 + 12) + (10 + 11) + 2  # and a pass for each habitual action
    assert counts["calls"] == 2 and counts["timed"] == CHUNK and counts["seconds"] > 0  # the first call is not timed


def test_a_plan_whose_next_action_the_habit_doubts_is_made_anew():
    """Of rows with plans of 3, 2 and 3 actions, row 2 is doubted at its second action, and row 1 has nothing left to doubt."""
    agent, asked = Fake([3, 1, 3]), []

    def doubted(params, percept, mission, action):
        asked.append(action.tolist())
        return action * np.array([0, 0, 1]) == 2

    agent.act["doubted"] = doubted
    mode, running = PlanningMode(agent, 0), np.array([True, True, True])
    first = mode(see(3), running)
    assert first.tolist() == [1, 1, 1] and asked == [], "a plan that was just made is carried out"
    passes, mode.follower.keep[:] = mode.counts["passes"], True
    second = mode(see(3), running)
    assert asked == [[2, -1, 2]] and second.tolist() == [2, 1, 1], "row 2 begins a new plan"
    assert mode.counts["doubted"] == 1 and mode.counts["left_plan"] == 0 and mode.counts["plans"] == 3 + 2
    assert mode.counts["passes"] - passes == 10 + 11 + 2, "two plans, and the habit asked twice"
    assert mode.follower.keep.tolist() == [True, True, False], "plans above a doubted one are made anew too"


def test_a_plan_that_the_world_has_left_is_made_anew():
    agent = Fake([3], away=9)
    mode = PlanningMode(agent, 0)
    for _ in range(2):
        np.testing.assert_array_equal(mode(see(2), np.array([True, False])), [1, 0])
    assert mode.counts["left_plan"] == 1 and mode.counts["plans"] == 2 and mode.counts["actions"] == 2


@pytest.mark.parametrize(("given", "asked"), [
    ({}, (6, False)), (dict(moves=2, choose="best"), (2, True)), (dict(moves=0, choose="sample"), (0, False))])
def test_optimisation_mode_asks_for_its_budget_and_choice(given, asked):
    agent = Fake([1])
    mode = OptimisationMode(agent, 0, **given)
    np.testing.assert_array_equal(mode(see(2), np.ones(2, bool)), [1, 1])
    assert agent.calls == [("optimise", *asked)]
    assert mode.counts["moves"] == 3 * CHUNK * 2 and mode.counts["accepted"] == CHUNK
    assert mode.counts["passes"] == 10 + 11 and mode.counts["plans"] == 2


def test_what_optimisation_mode_cannot_do_is_refused():
    for wrong, words in ((dict(moves=7), "7 moves"), (dict(moves=-1), "-1 moves"), (dict(choose="worst"), "worst")):
        with pytest.raises(UserError, match=words):
            OptimisationMode(Fake([1]), 0, **wrong)


def test_habit_costs_a_pass_an_action():
    mode = HabitualMode(Fake([1]), 0)
    mode(see(4), np.array([True, True, False, True]))
    mode(see(4), np.array([True, False, False, False]))
    assert mode.counts["habitual"] == mode.counts["passes"] == 4 and mode.counts["timed"] == 4


def test_the_demo_s_options_are_the_defaults():
    from experiments.configs.babyai_gotolocal import get_config

    """But for the chains among which the habit draws, as it does in planning mode."""
    agent = get_config().agent
    assert Optimise(**agent.optimise.to_dict()) == Optimise(chains=agent.plan_samples, choose=agent.choose)


def test_a_new_plan_that_begins_with_what_was_tried_in_vain_is_no_plan():
    """Where what was tried counts, the habit is asked of new plans too; what it doubts is left to it, and recorded so."""
    agent, asked, told = Fake([3, 2, 0]), [], []

    def doubted(params, percept, mission, action):
        asked.append(action[:3].tolist())
        return (np.arange(len(action)) == 1) & (action >= 0)

    agent.act["doubted_anew"] = doubted
    mode = PlanningMode(agent, 0, lambda row, decision: told.append((row, int(decision.leg.count))))
    assert mode(see(3), np.ones(3, bool)).tolist() == [1, 6, 6]
    assert asked == [[1, 1, -1]] and told == [(0, 3), (1, 0), (2, 0)]
    counts = mode.counts
    assert counts["doubted"] == 1 and counts["habit_instead"] == 2
    assert counts["passes"] == (10 + 11 + 12) + 3 + 2, "plans, the habit asked of each, and its own two actions"


def test_what_was_tried_or_leads_back_counts_in_all_modes_and_only_if_it_is_to():
    """Of the compiled functions themselves: with 60 nats held against an action others are taken; with none, all is as ever.
    What leads back to how things stood counts in the same way."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import tiny

    from experiments.configs.babyai_gotolocal import get_config
    from hjepa_gfn.agent import modes

    system, params, rows = tiny.system(), tiny.params(), 40
    options = get_config().agent.copy_and_resolve_references()
    options.update(dict(plan_samples=6, veto=0.05, stood=0.0))
    options.optimise.update(dict(chains=6, moves=0))
    percept, mission = tiny.percepts(rows), tiny.words(rows, tiny.MISSION)
    actions = system.jepa.sizes.num_actions
    against = np.zeros((rows, actions), np.float32)
    against[:, 2] = 1.0  # what this habit mostly does
    first = {}
    for tried in (0.0, 60.0):
        options.tried = tried
        act = modes.compiled(system, options)
        assert ("doubted_anew" in act) == (tried > 0)
        seen, key = {**percept, "tried": against, "stood": 0 * against}, jax.random.key(3)
        plan, optimised = act["plan"](params, key, seen, mission), act["optimise"](params, key, seen, mission, 0, False)[0]
        begins = [np.where(np.asarray(d.leg.count) > 0, np.asarray(d.leg.action)[:, 0], -1) for d in (plan, optimised)]
        doubt = act["doubted"](params, seen, mission, np.full(rows, 2, np.int32))
        first[tried] = [np.asarray(act["habitual"](params, key, seen, mission)), *begins, np.asarray(doubt)]
        without = act["habitual"](params, key, percept, mission)
        if not tried:
            np.testing.assert_array_equal(first[0.0][0], without)
    share = lambda found: [float(np.mean(x == 2)) for x in found[:3]]  # noqa: E731
    assert min(share(first[0.0])) > 0.15 and share(first[60.0])[0] == 0
    # not of all plans: some situations have no other that can be acted on
    assert all(new < old for new, old in zip(share(first[60.0])[1:], share(first[0.0])[1:], strict=True))
    assert not first[0.0][3].all() and first[60.0][3].all()
    habits = {}
    for tried, stood in ((60.0, 0.0), (0.0, 60.0), (1.5, 0.0), (0.5, 1.0)):  # each as much as it is to count; 0: not at all
        options.update(dict(tried=tried, stood=stood))
        act, loud = modes.compiled(system, options), 9 * np.ones_like(against) * np.arange(actions)
        seen = {**percept, "tried": against if tried else loud, "stood": against if stood else loud}
        habits[tried, stood] = np.asarray(act["habitual"](params, key, seen, mission))
        assert "doubted_anew" in act
    np.testing.assert_array_equal(habits[60.0, 0.0], first[60.0][0])
    np.testing.assert_array_equal(habits[0.0, 60.0], first[60.0][0])
    np.testing.assert_array_equal(habits[1.5, 0.0], habits[0.5, 1.0])
    assert 0 < (habits[1.5, 0.0] == 2).sum() < (first[0.0][0] == 2).sum()
    for name in ("tried", "stood"):
        with pytest.raises(UserError, match=f"agent.{name}=-1.0"):
            modes.compiled(system, {**options.to_dict(), name: -1.0})
