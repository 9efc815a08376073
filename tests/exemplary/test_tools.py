"""The planner must be bounded and repeatable; trying plans must not disturb the episode."""

import numpy as np
import pytest

from hjepa_gfn.exemplary import tools
from hjepa_gfn.exemplary.tools import BoundedBot, Simulation, TeacherStuck, run_bot, run_bot_with_start
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, make_env, reset_env

LEVEL = "BabyAI-GoToLocal-v0"
HANGING_LEVEL, HANGING_SEEDS = "BabyAI-UnlockToUnlock-v0", range(12)


def test_episode_is_complete_and_repeatable():
    first, second = run_bot(make_env(LEVEL), 3), run_bot(make_env(LEVEL), 3)
    steps = len(first.action)
    assert first.success and steps > 0
    assert first.view.shape == (steps + 1, 7, 7, 3) and first.direction.shape == (steps + 1,)
    assert len(first.subgoal) == len(first.subgoal_key) == steps
    assert first.action == second.action and first.subgoal_key == second.subgoal_key
    np.testing.assert_array_equal(first.view, second.view)


def test_a_planner_that_hangs_is_stopped():
    env = make_env(HANGING_LEVEL)
    episodes = [run_bot(env, seed) for seed in HANGING_SEEDS]
    assert any(not episode.success for episode in episodes)  # BabyAIBot hangs here: unbounded, this would never end
    assert any(episode.success for episode in episodes)


def test_pushes_are_bounded_within_one_step(monkeypatch):
    monkeypatch.setattr(tools, "MAX_PUSHES_PER_REPLAN", 0)
    env = make_env(LEVEL)
    reset_env(env, 2)  # the target is out of view: the bot has to push an exploration
    with pytest.raises(TeacherStuck, match="subgoals"):
        BoundedBot(env).act()
    assert not run_bot(env, 2).success


def test_search_is_bounded(monkeypatch):
    monkeypatch.setattr(tools, "MAX_SEARCH_STEPS", 3)
    assert not run_bot(make_env(LEVEL), 2).success


def test_broken_assumptions_of_the_bot_are_no_crash():
    assert not run_bot(make_env("BabyAI-KeyInBox-v0"), 0).success


def test_exploring_counts_as_one_subgoal():
    episode = run_bot(make_env("BabyAI-GoToObjMazeS4-v0"), 0)
    exploring = [key for name, key in zip(episode.subgoal, episode.subgoal_key) if name == "explore"]
    assert exploring and len(set(exploring)) == 1
    others = {key for name, key in zip(episode.subgoal, episode.subgoal_key) if name != "explore"}
    assert others and not others & set(exploring)


@pytest.mark.parametrize("level", [LEVEL, "BabyAI-PutNextLocal-v0", "BabyAI-UnlockPickup-v0"])
def test_simulation_ends_as_the_episode_did(level):
    env = make_env(level)
    for seed in range(3):
        episode, start = run_bot_with_start(env, seed)
        for _ in range(2):  # trying twice: the first attempt must leave the start as it was
            assert start.attempt(episode.action) == (True, len(episode.action))
        assert start.attempt(episode.action[:-1]) == (False, len(episode.action) - 1)


def test_simulation_leaves_the_original_alone():
    env = make_env(LEVEL)
    before = reset_env(env, 0)["image"]
    Simulation(env).attempt([LEFT, FORWARD, FORWARD])
    np.testing.assert_array_equal(env.gen_obs()["image"], before)
    assert env.step_count == 0
