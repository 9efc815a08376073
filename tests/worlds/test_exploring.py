"""Exploring rows: what they do, where windows begin, how legs are cut, and that percepts are those of the simulator."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.babyai import DONE, FORWARD, LEFT, PICKUP, RIGHT, make_env, reset_env
from hjepa_gfn.worlds.exploring import PERSISTENT, REPLACED, WALK, Starts, cut_legs, draw_actions, explore, initial_worlds

ROWS, STEPS, LEAD = 24, 10, 6
LEVEL = "BabyAI-GoToLocal-v0"


@pytest.fixture(scope="module")
def starts():
    worlds = jitted.batch_of(initial_worlds(LEVEL, range(ROWS)))
    action = jnp.asarray(np.random.default_rng(0).integers(0, 3, (ROWS, 8)), jnp.int32)
    return Starts(worlds, action, jnp.full((ROWS,), 8, jnp.int32))


@pytest.fixture(scope="module")
def windows(starts):
    return jax.tree.map(np.asarray, jax.jit(lambda key: explore(key, starts, STEPS, LEAD, 4))(jax.random.key(1)))


def test_windows_are_what_the_simulator_shows(starts, windows):
    """Without a lead: MiniGrid, stepped by the same actions, gives the same percepts."""
    window = jax.tree.map(np.asarray, jax.jit(lambda key: explore(key, starts, STEPS))(jax.random.key(2)))
    env = make_env(LEVEL)
    for row in range(6):
        percepts = [reset_env(env, row)]
        for action in window["action"][row]:
            percepts.append(env.step(int(action))[0])
        assert all(np.array_equal(window["view"][row, t], percept["image"]) for t, percept in enumerate(percepts))
        assert [percept["direction"] for percept in percepts] == window["direction"][row].tolist()
    assert windows["view"].shape == (ROWS, STEPS + 1, 7, 7, 3) and windows["direction"].dtype == np.int32
    assert (windows["length"] == STEPS).all() and windows["action"].max() < DONE


def test_windows_begin_after_a_lead_of_their_own(starts, windows):
    """With a lead most windows begin elsewhere than the world does, some where it does."""
    first = np.asarray(jitted.percept(starts.world)["view"])
    moved = (windows["view"][:, 0] != first).any((1, 2, 3))
    assert 0.4 < moved.mean() < 1.0


def frequencies(actions):
    return np.bincount(np.ravel(actions), minlength=7) / actions.size


def test_kinds_of_rows():
    """A third follows its own actions but for replaced ones; the others walk by `WALK` or go on as `PERSISTENT` says."""
    rows, steps = 3000, 12
    own = jnp.full((rows, steps), PICKUP, jnp.int32)
    begin = jnp.full((rows,), 2, jnp.int32)
    drawn = np.asarray(jax.jit(draw_actions, static_argnums=4)(
        jax.random.key(0), own, jnp.full((rows,), 5, jnp.int32), begin, steps))
    followed = (drawn[:, 2:7] == PICKUP).mean(1)
    follows = followed > 0.3  # WALK and PERSISTENT pick up one time in fifty
    assert follows.mean() == pytest.approx(1 / 3, abs=0.04)
    assert followed[follows].mean() == pytest.approx(1 - REPLACED, abs=0.03)
    assert (drawn[follows][:, [0, 1, 7, 8, 9]] == PICKUP).mean() < 0.1, "not before it begins, nor past its end"
    none = np.asarray(jax.jit(draw_actions, static_argnums=4)(
        jax.random.key(3), own, jnp.zeros((rows,), jnp.int32), begin, steps))
    turns = (none[:, :-1] == LEFT) | (none[:, :-1] == RIGHT)
    again = (none[:, 1:] == none[:, :-1])[turns].mean()
    assert again > 1.3 * WALK[LEFT], "turns go on in half of the rows"
    after_left = frequencies(none[:, 1:][none[:, :-1] == LEFT])
    # rows of either kind, weighted by how often each of them turns left
    assert WALK[LEFT] < after_left[LEFT] < PERSISTENT[LEFT, LEFT] and after_left[RIGHT] < WALK[RIGHT]
    assert frequencies(none)[FORWARD] > 0.45 and frequencies(none)[PICKUP] > 0.01
    assert np.allclose(PERSISTENT.sum(1), 1.0) and PERSISTENT[:, DONE].max() == WALK[DONE] == 0.0


def test_legs_are_short_runs_that_end_after_handling():
    action = np.zeros((400, 20), np.int32)
    action[:, 5] = PICKUP
    legs = np.asarray(cut_legs(jax.random.key(0), jnp.asarray(action), 4))
    assert (legs[:, 0] == 0).all() and set(np.unique(np.diff(legs, axis=1))) == {0, 1}
    lengths = [np.bincount(row)[:-1] for row in legs]  # the last leg may go on past the window
    assert max(map(max, lengths)) == 4 and min(map(min, lengths)) == 1
    assert (legs[:, 6] == legs[:, 5] + 1).all() and (legs[:, 7] == legs[:, 6]).any()
