"""The batched world must be MiniGrid, episode by episode, and show the agent nothing but its percept."""

import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds import World, make_world
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, NoSuchEpisode, make_env, reset_env

LEVEL = "BabyAI-GoToLocal-v0"


def test_world_fulfils_the_protocol_and_its_own_spec():
    world = make_world(LEVEL, 3)
    assert isinstance(world, World)
    obs = world.reset([1, 2, 3])
    assert set(obs.percept) == set(world.percept_spec) == {"view", "direction"}
    for name, (shape, dtype) in world.percept_spec.items():
        assert obs.percept[name].shape == (3, *shape)
        assert obs.percept[name].dtype == dtype
    assert len(world.action_names) == world.num_actions == 7


@pytest.mark.parametrize("level", [LEVEL, "BabyAI-UnlockPickup-v0"])
def test_rows_are_the_simulators_episodes(level):
    seeds, steps = [5, 1_000_005, 2_000_005], 12
    actions = np.random.default_rng(0).integers(0, 6, (steps, len(seeds)))
    world = make_world(level, len(seeds))
    world.reset([9, 9, 9])  # an earlier episode must leave no trace
    observations = [world.reset(seeds)] + [world.step(a)[0] for a in actions]
    for row, seed in enumerate(seeds):
        env = make_env(level)
        expected = [reset_env(env, seed)]
        for action in actions[:, row]:
            expected.append(env.step(int(action))[0])
        for obs, want in zip(observations, expected, strict=True):
            np.testing.assert_array_equal(obs.percept["view"][row], want["image"])
            assert obs.percept["direction"][row] == want["direction"]
            assert obs.mission[row] == want["mission"]


def test_done_rows_stay_frozen_and_give_no_more_reward():
    world = make_world(LEVEL, 2)
    # Seed 0: a green ball 3 ahead, two steps forward succeed. The other row turns on the spot.
    world.reset([0, 0])
    actions = np.array([FORWARD, LEFT])
    _, reward, done = world.step(actions)
    assert not done.any() and not reward.any()
    first, reward, done = world.step(actions)
    assert done.tolist() == [True, False]
    assert reward[0] > 0 == reward[1]
    pose = world.pose(0)
    second, reward, done = world.step(np.array([LEFT, LEFT]))
    assert done.tolist() == [True, False] and not reward.any()
    assert world.pose(0) == pose
    np.testing.assert_array_equal(first.percept["view"][0], second.percept["view"][0])
    assert (first.percept["direction"] == second.percept["direction"]).tolist() == [True, False]


def test_running_out_of_time_ends_an_episode_without_reward():
    world = make_world(LEVEL, 1)
    world.reset([0])
    for _ in range(64):
        _, reward, done = world.step(np.array([LEFT]))
        assert not reward.any()
    assert done.all()


def test_returned_arrays_are_not_changed_by_later_steps():
    world = make_world(LEVEL, 1)
    obs = world.reset([0])
    view = obs.percept["view"].copy()
    _, _, done = world.step(np.array([LEFT]))
    world.step(np.array([LEFT]))
    np.testing.assert_array_equal(obs.percept["view"], view)
    assert not done.any()


def test_levels_are_silent(capsys):
    world = make_world("BabyAI-PutNextS4N1-v0", 1)  # a level that reports rejected samples
    for seed in range(30):
        world.reset([seed])
    captured = capsys.readouterr()
    assert captured.out == ""


def test_render_and_pose():
    world = make_world(LEVEL, 1)
    world.reset([0])
    image = world.render(0)
    assert image.dtype == np.uint8 and image.shape == (128, 128, 3) and image.std() > 0
    x, y, direction = world.pose(0)
    world.step(np.array([FORWARD]))
    assert world.pose(0) == (x - 1, y, direction) and direction == 2


@pytest.mark.parametrize(
    "name, hint",
    [("BabyAI-GoToLokal-v0", "BabyAI-GoToLocal-v0"), ("babyai-gotolocal-v0", "BabyAI-GoToLocal-v0"), ("x", "BabyAI-")],
)
def test_unknown_level_suggests_close_names(name, hint):
    with pytest.raises(UserError, match=f"unknown level {name!r}.*{hint}"):
        make_world(name, 1)


def test_misuse_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        make_world(LEVEL, 0)
    world = make_world(LEVEL, 2)
    with pytest.raises(UserError, match="before reset"):
        world.step(np.zeros(2, int))
    with pytest.raises(UserError, match="3 seeds"):
        world.reset([1, 2, 3])
    world.reset([1, 2])
    with pytest.raises(UserError, match="shape"):
        world.step(np.zeros(3, int))


def test_a_level_whose_generator_finds_no_end_is_given_up():
    """MiniGrid looks for ever for a place of which the cell ahead is free, in a room that is full."""
    from hjepa_gfn.exemplary import ExemplaryActor

    env = make_env("BabyAI-SynthS5R2-v0")
    with pytest.raises(NoSuchEpisode, match="BabyAI-SynthS5R2-v0: seed 6470 makes no episode"):
        reset_env(env, 6470)
    reset_env(env, 6471)
    assert "_rand_int" not in vars(env)
    actor = ExemplaryActor("BabyAI-SynthS5R2-v0", robustness=False)
    assert actor.trace(6470, "train") is None and actor.imagine(6470, "train") is None
