"""How far the agent has turned and gone: as the simulator has it, the same said by corpus, world, walks and evaluation."""
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.configs.babyai_gotolocal import get_config
from hjepa_gfn.agent.agent import world_for
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import memory
from hjepa_gfn.evaluation.walks import Walks
from hjepa_gfn.models.context import SECTORS
from hjepa_gfn.objectives.system import system_from
from hjepa_gfn.worlds import jitted, make_world
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.exploring import Starts, explore, initial_worlds
from hjepa_gfn.worlds.heading import check_heading, placed, stride, turned
from hjepa_gfn.worlds.protocol import Observation
from hjepa_gfn.worlds.remembering import Remembering

LEVEL = "BabyAI-PickupLoc-v0"


def turns(action):
    """What actions [B, T] turn the agent by, counted from the first on: [B, T+1] quarter turns to the right."""
    count = np.cumsum((action == RIGHT).astype(int) - (action == LEFT), axis=1)
    return np.concatenate([np.zeros((len(action), 1), int), count], 1) % 4


def test_quarter_turns_to_the_right():
    assert turned(np.array([0, 1, 3, 2]), np.array([0, 0, 0, 3])).tolist() == [0, 1, 3, 3]
    assert check_heading("placed") == "placed"
    with pytest.raises(UserError, match="data.heading='north': must be one of compass, turned, placed"):
        check_heading("north")


def test_a_world_tells_how_far_the_agent_has_turned_since_each_episode_began():
    rows, rng = 6, np.random.default_rng(0)
    world, plain = Remembering(make_world(LEVEL, rows), heading="turned"), Remembering(make_world(LEVEL, rows))
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
    for heading, size in (("compass", 0), ("turned", 0), ("turned", 11), ("placed", 0), ("placed", 11)):
        config.data.heading, config.data.map = heading, size
        agent = SimpleNamespace(system=system_from(config, 16, 7), config=config)
        assert (agent.system.heading, agent.system.map) == (heading, size)
        world = world_for(agent, LEVEL, 2)
        first = make_world(LEVEL, 2).reset([1, 2]).percept["direction"]
        percept = world.reset([1, 2]).percept
        assert first.any() and percept["direction"].tolist() == (first.tolist() if heading == "compass" else [0, 0])
        assert percept["view"].shape[1:] == world.percept_spec["view"][0] == agent.system.view_shape
        assert agent.system.view_shape == (size or 7, size or 7, 4 if heading == "placed" else 3)
    del config.data.map, config.data.heading  # as in older exports
    assert system_from(config, 16, 7).heading == "compass"


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
    other = run("placed")
    np.testing.assert_array_equal(other["view"][..., :3], compass["view"])
    np.testing.assert_array_equal(other["direction"], found["direction"])
    assert (other["view"][:, 0, 3, 6, 3] != 4).any(), "some windows begin away from where the walk did"


def test_an_agent_that_counts_turns_is_diagnosed_on_turns():
    direction = np.array([[2, 1, 1, 2], [0, 3, 0, 1]])
    walks = Walks({"view": np.zeros((2, 4, 7, 7, 3), np.uint8), "direction": direction}, np.zeros((2, 3), int), None)
    seen = memory.seen_by(SimpleNamespace(map=0, heading="turned"), walks)
    assert seen["direction"].tolist() == [[0, 3, 3, 0], [0, 3, 0, 1]] and seen["view"] is walks.seen["view"]
    assert memory.seen_by(SimpleNamespace(map=0, heading="compass"), walks) == walks.seen


def lies(env, world_place, begin):
    """The sector of a place in the simulator's world, as BabyAI's own verifier tells sides apart (`ObjDesc`): along the
    direction that the agent faced when it was given the mission, and to the right of that."""
    position, (dx, dy) = begin
    offset = np.asarray(world_place) - position
    return 3 * (np.sign(offset @ (dx, dy)) + 1) + np.sign(offset @ (-dy, dx)) + 1


@pytest.mark.parametrize("size", (0, 13))
def test_cells_lie_where_the_simulator_has_them(size):
    rows, rng = 6, np.random.default_rng(0)
    inner = make_world(LEVEL, rows)
    world = Remembering(inner, size, heading="placed")
    percept = world.reset(range(rows)).percept
    envs = [env.unwrapped for env in inner._envs]
    begin = [(np.array(env.agent_pos), tuple(env.dir_vec)) for env in envs]
    bumped = 0
    for _ in range(25):
        for row, env in enumerate(envs):
            (ax, ay), (dx, dy) = env.agent_pos, env.dir_vec
            i, j = (size // 2, size // 2) if size else (3, 6)
            for (u, v), sector in np.ndenumerate(percept["view"][row, ..., 3]):
                ahead, right = j - v, u - i
                there = (ax + ahead * dx - right * dy, ay + ahead * dy + right * dx)
                assert sector == lies(env, there, begin[row])
        action = rng.choice([LEFT, RIGHT, FORWARD, FORWARD, FORWARD], rows)
        before = [tuple(env.agent_pos) for env in envs]
        percept = world.step(action)[0].percept
        bumped += sum(a == FORWARD and tuple(env.agent_pos) == b for a, env, b in zip(action, envs, before, strict=True))
    assert bumped > 5, "steps into walls and things are not steps"
    assert len(np.unique(percept["view"][..., 3])) == SECTORS, "an embedding for each place"


def test_an_agent_that_was_moved_does_not_know_it():
    world = Remembering(make_world(LEVEL, 2), heading="placed")
    world.reset([1, 2])
    before = world.step(np.array([FORWARD, FORWARD]))[0].percept
    after = world.displace([0, 1]).percept
    np.testing.assert_array_equal(after["view"][:, 3, 6, 3], before["view"][:, 3, 6, 3], "it is where it believed to be")
    assert not np.array_equal(before["view"][0, ..., :3], after["view"][0, ..., :3])


@pytest.mark.parametrize("size", (0, 11))
def test_walks_are_placed_as_the_world_places_them(size):
    rows, steps = 5, 10
    action = np.random.default_rng(3).choice([LEFT, RIGHT, FORWARD, FORWARD], (rows, steps))
    world = Remembering(make_world(LEVEL, rows), size, heading="placed")
    plain = Remembering(make_world(LEVEL, rows))
    want, views, directions = [world.reset(range(rows)).percept], [], []
    seen = [plain.reset(range(rows)).percept]
    for t in range(steps):
        want.append(world.step(action[:, t])[0].percept)
        seen.append(plain.step(action[:, t])[0].percept)
    views, directions = (np.stack([p[name] for p in seen], 1) for name in ("view", "direction"))
    walks = Walks({"view": views, "direction": directions}, action, None)
    found = memory.seen_by(SimpleNamespace(map=size, heading="placed"), walks)
    np.testing.assert_array_equal(found["view"], np.stack([p["view"] for p in want], 1))
    np.testing.assert_array_equal(found["direction"], np.stack([p["direction"] for p in want], 1))
    assert found["view"].dtype == np.uint8
    if not size:  # and as JAX computes it
        def run(view, turns, action):
            moves = stride(view[:, :-1], turns[:, :-1], action)
            place = jax.numpy.pad(jax.numpy.cumsum(moves, 1), ((0, 0), (1, 0), (0, 0)))
            return placed(view, place, turns)

        np.testing.assert_array_equal(jax.jit(run)(views, found["direction"], action), found["view"])


def test_what_was_tried_is_counted_by_place_direction_and_view():
    """Against the simulator's own poses: an action counts where it was taken, and nowhere else; none counts once an episode is
    over."""
    rows, rng = 4, np.random.default_rng(0)
    inner = make_world(LEVEL, rows)
    world = Remembering(inner, heading="turned")
    percept = world.reset(range(rows)).percept
    assert percept["tried"].shape == (rows, 7) and not percept["tried"].any()
    taken, done, repeated = [{} for _ in range(rows)], np.zeros(rows, bool), 0
    for _ in range(60):
        action = rng.choice([LEFT, RIGHT, FORWARD, 3, 4], rows)
        for row in np.flatnonzero(~done):
            env = inner._envs[row].unwrapped
            where = (*map(int, env.agent_pos), int(env.agent_dir), percept["view"][row].tobytes())
            own = taken[row].setdefault(where, np.zeros(7))
            np.testing.assert_array_equal(percept["tried"][row], own)
            repeated += own.any()
            own[action[row]] += 1
        observation, _, done = world.step(action)
        percept = observation.percept
    assert repeated > 40
    again = world.reset(range(rows)).percept["tried"]
    assert not again.any(), "another episode, nothing tried"


class Plain:
    """A plain without end that looks the same from everywhere."""

    num_actions, action_names = 7, tuple("abcdefg")
    percept_spec = {"view": ((7, 7, 3), np.dtype(np.uint8)), "direction": ((), np.dtype(np.int32))}
    situation = render = pose = None

    def reset(self, seeds):
        self.direction = np.zeros(len(seeds), np.int32)
        return self._see()

    def step(self, actions):
        self.direction = (self.direction + (actions == RIGHT) - (actions == LEFT)) % 4
        return self._see(), np.zeros(len(actions)), np.zeros(len(actions), bool)

    def _see(self):
        return Observation({"view": np.full((len(self.direction), 7, 7, 3), [1, 0, 0], np.uint8),
                            "direction": self.direction.astype(np.int32)}, ["go"] * len(self.direction))


def test_the_same_view_elsewhere_or_from_another_side_is_another_situation():
    world = Remembering(Plain())
    world.reset([0])
    tried = lambda action: world.step(np.array([action]))[0].percept["tried"][0]  # noqa: E731
    assert not tried(FORWARD).any(), "a step on: another place"
    assert not tried(RIGHT).any() and not tried(RIGHT).any(), "the same place, another side"
    assert not tried(FORWARD).any(), "where it began, from the other side"
    assert not tried(RIGHT).any()
    np.testing.assert_array_equal(tried(RIGHT), np.eye(7)[FORWARD], "as it began: the step was tried once")
