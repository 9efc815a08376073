"""The planner must be bounded and repeatable, and find the way from wherever it is put."""

import numpy as np
import pytest
from minigrid.utils.baby_ai_bot import BabyAIBot

from hjepa_gfn.exemplary import bot
from hjepa_gfn.exemplary.bot import BoundedBot, TeacherStuck, run, run_bot
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT, make_env, reset_env

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
    monkeypatch.setattr(bot, "MAX_PUSHES_PER_REPLAN", 0)
    env = make_env(LEVEL)
    reset_env(env, 2)  # the target is out of view: the bot has to push an exploration
    with pytest.raises(TeacherStuck, match="subgoals"):
        BoundedBot(env).act()
    assert not run_bot(env, 2).success


def test_search_is_bounded(monkeypatch):
    monkeypatch.setattr(bot, "MAX_SEARCH_STEPS", 3)
    assert not run_bot(make_env(LEVEL), 2).success


def test_broken_assumptions_of_the_bot_are_no_crash():
    assert not run_bot(make_env("BabyAI-KeyInBox-v0"), 0).success


def test_exploring_counts_as_one_subgoal():
    episode = run_bot(make_env("BabyAI-GoToObjMazeS4-v0"), 0)
    exploring = [key for name, key in zip(episode.subgoal, episode.subgoal_key) if name == "explore"]
    assert exploring and len(set(exploring)) == 1
    others = {key for name, key in zip(episode.subgoal, episode.subgoal_key) if name != "explore"}
    assert others and not others & set(exploring)


@pytest.mark.parametrize("level", [LEVEL, "BabyAI-PutNextLocal-v0", "BabyAI-GoToSeqS5R2-v0"])
def test_quicker_eyes_and_search_change_nothing(level):
    env = make_env(level)
    for seed in range(3):
        reset_env(env, seed)
        plain, actions, over = BabyAIBot(env), [], False
        while not over:
            actions.append(int(plain.replan()))
            _, _, terminated, truncated, _ = env.step(actions[-1])
            over = terminated or truncated
        assert run_bot(env, seed).action == actions


def test_going_on_from_elsewhere():
    env = make_env(LEVEL)
    for seed in range(6):
        prefix = [RIGHT, FORWARD, FORWARD, LEFT]
        done = run(env, seed, prefix)
        assert list(done.rollout.actions[:4]) == prefix[: done.rollout.steps]
        assert done.rollout.success


def test_the_simulator_is_left_whole():
    env = make_env(LEVEL)
    run_bot(env, 0)
    assert reset_env(env, 1)["image"].shape == (7, 7, 3)
