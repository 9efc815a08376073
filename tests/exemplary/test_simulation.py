"""The fast copy must agree with MiniGrid step by step, on every level."""

import numpy as np
import pytest

from hjepa_gfn.exemplary.bot import run
from hjepa_gfn.exemplary.percepts import look, world_codes
from hjepa_gfn.exemplary.rollout import absolute, relative, roll
from hjepa_gfn.exemplary.simulation import read_state
from hjepa_gfn.worlds.babyai import level_names, make_env, reset_env

P = [0.1, 0.1, 0.4, 0.15, 0.1, 0.1, 0.05]


def view_of(state):
    held = None if state.carrying is None else state.layout.items[state.carrying]
    return look(world_codes(state), (*state.pos, state.heading), (held.kind, held.colour, 0) if held else None)[0]


def assert_in_step(env, state, actions):
    """Takes actions in both; percepts, poses and verdicts must be equal throughout. Returns whether they fulfil the mission."""
    for t, action in enumerate(actions):
        observation, reward, terminated, truncated, _ = env.step(action)
        state.step(action)
        assert tuple(map(int, env.agent_pos)) == state.pos and env.agent_dir == state.heading, (t, action)
        assert (reward > 0, terminated) == (state.success, state.success or state.failed), (t, action)
        assert (terminated or truncated) == state.over
        np.testing.assert_array_equal(view_of(state), observation["image"], err_msg=f"step {t}")
        if state.over:
            break
    return state.success


@pytest.mark.parametrize("level", level_names())
def test_random_actions(level):
    env = make_env(level)
    rng = np.random.default_rng(len(level))
    observation = reset_env(env, 3)
    state = read_state(env)
    if "Carrying" not in level:  # MiniGrid's first percept there is from before the agent was given what it carries
        np.testing.assert_array_equal(view_of(state), observation["image"])
    assert_in_step(env, state, rng.choice(7, 60, p=P).tolist())


@pytest.mark.parametrize(
    "level",
    ["GoToLocal", "OpenDoorsOrderN4", "PutNextLocal", "UnlockPickup", "MoveTwoAcrossS5N2", "SynthS5R2", "MiniBossLevel"],
)
def test_sound_and_disturbed_plans(level):
    env = make_env(f"BabyAI-{level}-v0")
    rng = np.random.default_rng(0)
    for seed in range(5):
        actions = list(run(env, seed).rollout.actions)
        reset_env(env, seed)
        assert assert_in_step(env, read_state(env), actions)
        for t in rng.choice(len(actions), min(4, len(actions)), replace=False):
            actions.insert(int(t), int(rng.choice(7, p=P)))
        reset_env(env, seed)
        assert_in_step(env, read_state(env), actions)


def test_strict_missions_fail_as_minigrid_fails():
    env = make_env("BabyAI-OpenDoorsOrderN4Debug-v0")
    failures = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        reset_env(env, seed)
        state = read_state(env)
        assert_in_step(env, state, rng.choice([0, 1, 2, 2, 2, 5], 150).tolist())
        failures += state.failed
    assert failures


def test_rollouts_state_what_happened():
    env = make_env("BabyAI-UnlockPickup-v0")
    for seed in range(4):
        done = run(env, seed).rollout
        observation = reset_env(env, seed)
        np.testing.assert_array_equal(done.views[0], observation["image"])
        for t, action in enumerate(done.actions):
            held = env.carrying
            observation = env.step(action)[0]
            np.testing.assert_array_equal(done.views[t + 1], observation["image"])
            kind = done.effects[t].kind
            assert (kind == "pickup") == (held is None and env.carrying is not None)
            assert (kind == "drop") == (held is not None and env.carrying is None)
        assert done.success and done.steps == len(done.actions) and done.done == ((0, done.steps),)
        toggled = [effect for effect in done.effects if effect.kind == "toggle"]
        assert toggled and toggled[0].before == 2 and toggled[0].after == 0


def test_trying_leaves_the_start_alone():
    env = make_env("BabyAI-UnlockPickup-v0")
    done = run(env, 0).rollout
    before = (done.start.pos, dict(done.start.at), dict(done.start.door), done.start.memory.finished)
    again = roll(done.start, done.actions)
    assert again.keys == done.keys and again.success
    assert before == (done.start.pos, done.start.at, done.start.door, done.start.memory.finished)


def test_equal_keys_mean_equal_states():
    env = make_env("BabyAI-PickupLoc-v0")
    reset_env(env, 0)
    state = read_state(env)
    turned = roll(state, (0, 0, 0, 0, 1))
    assert turned.keys[0] == turned.keys[4] != turned.keys[1]
    assert len(set(turned.keys)) == 4


def test_places_and_cells():
    for heading in range(4):
        pose = (5, 7, heading)
        for place in ((2, -1), (0, 3), (-1, 0)):
            assert relative(pose, absolute(pose, place)) == place
    assert absolute((5, 5, 0), (2, 1)) == (7, 6)
