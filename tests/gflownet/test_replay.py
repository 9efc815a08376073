"""The replay buffer: what it holds, with which probability it gives it out, and that trajectories to it are fresh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet import replay
from hjepa_gfn.gflownet.environments import Hypergrid
from hjepa_gfn.gflownet.policy import Logits, behaviour, noise_of


def terminals(*values):
    x = jnp.asarray(values)
    return {"x": x, "pair": jnp.stack([x, -x], -1)}


add = jax.jit(replay.add)


def held(buffer):
    return np.asarray(buffer.terminal["x"])[: int(buffer.size)].tolist()


def test_the_oldest_are_overwritten_first():
    buffer = replay.init_replay(terminals(0), 4)
    assert held(buffer) == [] and buffer.capacity == 4
    buffer = add(buffer, terminals(1, 2, 3), jnp.array([0.1, 0.2, 0.3]))
    assert held(buffer) == [1, 2, 3] and buffer.size == 3 and buffer.cursor == 3
    buffer = add(buffer, terminals(4, 5, 6), jnp.array([0.4, 0.5, 0.6]))
    assert held(buffer) == [5, 6, 3, 4] and buffer.size == 4 and buffer.cursor == 2
    np.testing.assert_allclose(buffer.log_reward, [0.5, 0.6, 0.3, 0.4])
    np.testing.assert_array_equal(buffer.terminal["pair"][:, 1], [-5, -6, -3, -4])
    with pytest.raises(ValueError, match="5 terminals"):
        replay.add(buffer, terminals(*range(5)), jnp.zeros(5))


def test_rows_that_are_not_kept_take_no_room():
    buffer = replay.init_replay(terminals(0), 4)
    buffer = add(buffer, terminals(1, 2, 3), jnp.zeros(3), keep=jnp.array([True, False, True]))
    assert held(buffer) == [1, 3]


def test_terminals_with_a_name_are_held_once():
    buffer = replay.init_replay(terminals(0), 8)
    names = lambda *x: jnp.asarray(x, jnp.uint32)
    # name zero is a name like any other, although empty slots are zero too
    buffer = add(buffer, terminals(7, 8, 7), jnp.zeros(3), names(0, 9, 0))
    assert held(buffer) == [7, 8]
    buffer = add(buffer, terminals(8, 6, 6), jnp.zeros(3), names(9, 5, 5))
    assert held(buffer) == [7, 8, 6]
    # a row that is not kept does not stand in the way of its twin
    buffer = add(buffer, terminals(4, 4), jnp.zeros(2), names(3, 3), keep=jnp.array([False, True]))
    assert held(buffer) == [7, 8, 6, 4]


LOG_R = np.array([0.0, 2.0, -1.0, 1.0])


@pytest.mark.parametrize("priority, temperature, weight", [
    ("uniform", 1.0, np.ones(4)), ("reward", 1.0, np.exp(LOG_R)), ("reward", 2.0, np.exp(LOG_R / 2)),
    ("rank", 1.0, 1 / np.array([3.0, 1.0, 4.0, 2.0])), ("rank", 0.5, 1 / np.array([3.0, 1.0, 4.0, 2.0]) ** 2)])
def test_draws_have_the_probability_that_is_reported(priority, temperature, weight):
    buffer = add(replay.init_replay(terminals(0), 6), terminals(0, 1, 2, 3), jnp.asarray(LOG_R, jnp.float32))
    p = weight / weight.sum()
    log_probs = np.asarray(replay.slot_log_probs(buffer, priority, temperature))
    np.testing.assert_allclose(np.exp(log_probs), [*p, 0, 0], atol=1e-6)
    n = 20_000
    drawn, log_r, log_prob = jax.jit(replay.sample, static_argnums=(2, 3, 4))(
        buffer, jax.random.key(0), n, priority, temperature)
    share = np.bincount(drawn["x"], minlength=4) / n
    np.testing.assert_allclose(share, p, atol=4 * np.sqrt(0.25 / n))
    np.testing.assert_allclose(log_r, LOG_R[drawn["x"]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_prob), p[drawn["x"]], rtol=1e-5)
    # the reported probabilities undo the priority: a weighted mean over draws is the mean over the buffer
    weights = np.exp(-np.asarray(log_prob, np.float64)) / int(buffer.size)
    assert np.mean(weights * LOG_R[drawn["x"]]) == pytest.approx(LOG_R.mean(), abs=0.06)


def test_an_unknown_priority_is_refused():
    with pytest.raises(ValueError, match="uniform, reward, rank"):
        replay.slot_log_probs(replay.init_replay(terminals(0), 2), "best")


def test_trajectories_to_what_is_replayed_are_fresh_and_end_in_it():
    env = Hypergrid(dim=2, side=5)
    network = lambda params, x: Logits(jnp.zeros((*x.shape[:-1], 3)))
    end = jnp.tile(jnp.array([[2, 3], [4, 4], [0, 0]]), (20, 1))
    walk = jax.jit(lambda key: replay.replayed_trajectories(
        env, behaviour(env, network, None), noise_of(env, key, len(end)), end))
    first, second = walk(jax.random.key(0)), walk(jax.random.key(1))
    for found in (first, second):
        np.testing.assert_array_equal(found.final, end)
        assert not np.asarray(found.first).any()
        np.testing.assert_array_equal(found.length, end.sum(-1))
    assert (np.asarray(first.states) != np.asarray(second.states)).any()
