"""The jitted world follows MiniGrid step by step: states and percepts, on eleven levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.bot import run_bot
from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.babyai import make_env, reset_env

LEVELS = (
    "BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-PutNextLocal-v0", "BabyAI-UnlockLocal-v0", "BabyAI-UnblockPickup-v0",
    "BabyAI-GoToSeqS5R2-v0", "BabyAI-KeyCorridorS3R3-v0", "BabyAI-OpenDoorsOrderN4-v0", "BabyAI-Synth-v0", "BabyAI-SynthSeq-v0",
    "BabyAI-BossLevel-v0")
SHAPE, STEPS, EPISODES = (22, 22), 60, 3
roll_out = jax.jit(jitted.roll_out)


def recorded(level, seed, rng):
    """An episode by MiniGrid: first state, actions padded with "done", percepts and the state after each."""
    env = make_env(level)
    first = reset_env(env, seed)
    start, actions, percepts, states = jitted.snapshot(env, SHAPE), [], [first], []
    expert = run_bot(make_env(level), seed).action if seed % 2 == 0 else None
    for t in range(STEPS if expert is None else min(STEPS, len(expert))):
        action = int(rng.choice(7, p=[0.15, 0.15, 0.4, 0.1, 0.1, 0.08, 0.02])) if expert is None else expert[t]
        observation, _, terminated, truncated, _ = env.step(action)
        actions.append(action)
        percepts.append(observation)
        states.append(jitted.snapshot(env, SHAPE))
        if terminated or truncated:
            break
    return start, actions, percepts, states


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    return [(level, *recorded(level, seed, rng)) for level in LEVELS for seed in range(EPISODES)]


def padded(actions):
    return actions + [6] * (STEPS - len(actions))


def test_percepts_and_states_are_minigrids_on_every_step(episodes):
    start = jitted.batch_of([episode[1] for episode in episodes])
    actions = jnp.asarray([padded(episode[2]) for episode in episodes])
    last, seen = roll_out(start, actions)
    compared = 0
    for row, (level, _, taken, percepts, states) in enumerate(episodes):
        for t, percept in enumerate(percepts):
            assert np.array_equal(seen["view"][row, t], percept["image"]), (level, t, taken[:t])
            assert seen["direction"][row, t] == percept["direction"], (level, t)
            compared += 1
        assert np.array_equal(last.grid[row], states[-1].grid), level  # "done" changes nothing
        for leaf in ("position", "direction", "pocket"):
            assert np.array_equal(getattr(last, leaf)[row], getattr(states[-1], leaf)), (level, leaf)
    assert compared > 1000
    assert {action for episode in episodes for action in episode[2]} == set(range(7))


def test_a_toggled_box_vanishes():
    from minigrid.core.world_object import Box

    env = make_env("BabyAI-GoToLocal-v0")
    reset_env(env, 0)
    env.grid.set(*env.front_pos, Box("red"))
    start = jitted.batch_of([jitted.snapshot(env)])
    _, seen = roll_out(start, jnp.asarray([[5]]))
    env.step(5)
    assert np.array_equal(seen["view"][0, 1], env.gen_obs()["image"])
    assert seen["view"][0, 0][3, 5, 0] == 7 and seen["view"][0, 1][3, 5, 0] == 1


def test_what_it_does_not_know_is_refused():
    from minigrid.core.world_object import Box, Key, Lava

    env = make_env("BabyAI-GoToLocal-v0")
    reset_env(env, 0)
    with pytest.raises(UserError, match="grid is 8 x 8"):
        jitted.snapshot(env, (7, 22))
    env.grid.set(1, 1, Box("red", Key("red")))
    with pytest.raises(UserError, match="boxes with something in them"):
        jitted.snapshot(env)
    env.grid.set(1, 1, Lava())
    with pytest.raises(UserError, match="knows no lava"):
        jitted.snapshot(env)
