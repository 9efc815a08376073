"""How far the agent has turned: the same said by corpus, world, walks and evaluation, and by nothing but percepts."""
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.configs.babyai_gotolocal import get_config
from hjepa_gfn.agent.agent import world_for
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import memory
from hjepa_gfn.evaluation.walks import Walks
from hjepa_gfn.objectives.system import system_from
from hjepa_gfn.worlds import jitted, make_world
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.exploring import Starts, explore, initial_worlds
from hjepa_gfn.worlds.heading import is_turned, turned
from hjepa_gfn.worlds.remembering import Remembering

LEVEL = "BabyAI-PickupLoc-v0"


def turns(action):
    """What actions [B, T] turn the agent by, counted from the first on: [B, T+1] quarter turns to the right."""
    count = np.cumsum((action == RIGHT).astype(int) - (action == LEFT), axis=1)
    return np.concatenate([np.zeros((len(action), 1), int), count], 1) % 4


def test_quarter_turns_to_the_right():
    assert turned(np.array([0, 1, 3, 2]), np.array([0, 0, 0, 3])).tolist() == [0, 1, 3, 3]
    assert is_turned("turned") and not is_turned("compass")
    with pytest.raises(UserError, match="data.heading='north': must be one of compass, turned"):
        is_turned("north")


def test_a_world_tells_how_far_the_agent_has_turned_since_each_episode_began():
    rows, rng = 6, np.random.default_rng(0)
    world, plain = Remembering(make_world(LEVEL, rows), turned=True), Remembering(make_world(LEVEL, rows))
    for begin in (0, 40):  # the second time: episodes that begin anew
        observation, other = world.reset(range(begin, begin + rows)), plain.reset(range(begin, begin + rows))
        assert len(set(other.percept["direction"].tolist())) > 1
        action = rng.choice([LEFT, RIGHT, FORWARD], (rows, 8))
        for t, want in enumerate(turns(action).T):
            assert observation.percept["direction"].tolist() == want.tolist()
            np.testing.assert_array_equal(observation.percept["view"], other.percept["view"])
            if t < action.shape[1]:
                observation, other = world.step(action[:, t])[0], plain.step(action[:, t])[0]
    assert observation.percept["direction"].dtype == world.percept_spec["direction"][1]


def test_what_a_config_says_of_percepts_reaches_the_world_that_its_agent_acts_in():
    config = get_config()
    for heading, size in (("compass", 0), ("turned", 0), ("turned", 11)):
        config.data.heading, config.data.map = heading, size
        agent = SimpleNamespace(system=system_from(config, 16, 7))
        assert (agent.system.turned, agent.system.map) == (heading == "turned", size)
        world = world_for(agent, LEVEL, 2)
        first = make_world(LEVEL, 2).reset([1, 2]).percept["direction"]
        percept = world.reset([1, 2]).percept
        assert first.any() and percept["direction"].tolist() == ([0, 0] if heading == "turned" else first.tolist())
        assert percept["view"].shape[1] == (size or 7)
    del config.data.map, config.data.heading  # as in older exports
    assert not system_from(config, 16, 7).turned


def test_exploring_walks_count_from_where_the_walk_began_not_from_where_its_window_does():
    rows, steps, lead = 12, 6, 5
    action = jax.numpy.asarray(np.random.default_rng(0).integers(0, 3, (rows, 8)), jax.numpy.int32)
    starts = Starts(jitted.batch_of(initial_worlds(LEVEL, range(rows))), action, jax.numpy.full((rows,), 8, jax.numpy.int32))
    run = lambda heading: jax.tree.map(np.asarray, jax.jit(
        lambda key: explore(key, starts, steps, lead, heading=heading))(jax.random.key(1)))
    compass, found = run("compass"), run("turned")
    first = np.asarray(jitted.percept(starts.world)["direction"])
    np.testing.assert_array_equal(found["direction"], (compass["direction"] - first[:, None]) % 4)
    assert (found["direction"][:, 0] != 0).any(), "some windows begin after a turn"
    np.testing.assert_array_equal(found["view"], compass["view"])


def test_an_agent_that_counts_turns_is_diagnosed_on_turns():
    direction = np.array([[2, 1, 1, 2], [0, 3, 0, 1]])
    walks = Walks({"view": np.zeros((2, 4, 7, 7, 3), np.uint8), "direction": direction}, np.zeros((2, 3), int), None)
    seen = memory.seen_by(SimpleNamespace(map=0, turned=True), walks)
    assert seen["direction"].tolist() == [[0, 3, 3, 0], [0, 3, 0, 1]] and seen["view"] is walks.seen["view"]
    assert memory.seen_by(SimpleNamespace(map=0, turned=False), walks) is walks.seen
