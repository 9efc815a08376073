"""The standard environments against brute force and float64 formulas."""
import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest

from hjepa_gfn.gflownet.enumeration import enumerate_graph, log_target, policy_table, terminal_log_probs
from hjepa_gfn.gflownet.environments import BitSequences, Hypergrid
from hjepa_gfn.gflownet.networks import policy_network
from hjepa_gfn.gflownet.policy import NEG

ENVIRONMENTS = [Hypergrid(2, 5), Hypergrid(3, 4, r0=0.1), BitSequences(6, 2, 5, 3.0, seed=1), BitSequences(4, 1, 3)]


@pytest.mark.parametrize("env", ENVIRONMENTS, ids=repr)
def test_every_label_leads_one_deeper_and_its_undo_leads_back(env):
    states = env.all_states()
    rows, action = np.nonzero(np.asarray(env.forward_mask(states)))
    child, undo = env.forward(states[rows], action)
    np.testing.assert_array_equal(env.depth(child), np.asarray(env.depth(states[rows])) + 1)
    assert np.asarray(env.backward_mask(child))[np.arange(len(rows)), np.asarray(undo)].all()
    parent, again = env.backward(child, undo)
    np.testing.assert_array_equal(parent, states[rows])
    np.testing.assert_array_equal(again, action)


@pytest.mark.parametrize("env", ENVIRONMENTS, ids=repr)
def test_undos_and_actions_pair_one_to_one(env):
    """From the child's side: each legal undo is the inverse of a legal action, and there are equally many of both."""
    states = env.all_states()
    rows, undo = np.nonzero(np.asarray(env.backward_mask(states)))
    parent, action = env.backward(states[rows], undo)
    assert np.asarray(env.forward_mask(parent))[np.arange(len(rows)), np.asarray(action)].all()
    child, again = env.forward(parent, action)
    np.testing.assert_array_equal(child, states[rows])
    np.testing.assert_array_equal(again, undo)
    assert len(rows) == int(np.asarray(env.forward_mask(states)).sum())


@pytest.mark.parametrize("env", ENVIRONMENTS, ids=repr)
def test_states_are_all_and_sorted_and_only_the_root_has_no_undo(env):
    states = env.all_states()
    depth = np.asarray(env.depth(states))
    assert len({tuple(s) for s in states}) == len(states) and (np.diff(depth) >= 0).all() and depth.max() == env.horizon
    np.testing.assert_array_equal(states[0], env.root(1)[0])
    np.testing.assert_array_equal(np.asarray(env.backward_mask(states)).any(-1), depth > 0)
    stuck = ~np.asarray(env.forward_mask(states)).any(-1)
    assert np.asarray(env.stop_mask(states))[stuck].all()
    reached, edge = {tuple(states[0])}, [tuple(states[0])]
    while edge:  # brute force: everything that legal actions reach
        mask = np.asarray(env.forward_mask(np.array(edge)))
        rows, action = np.nonzero(mask)
        found = {tuple(s) for s in np.asarray(env.forward(np.array(edge)[rows], action)[0])} if len(rows) else set()
        edge = sorted(found - reached)
        reached |= found
    assert reached == {tuple(s) for s in states}


@pytest.mark.parametrize("dim, side", [(2, 8), (3, 8), (2, 16), (2, 21)])
def test_hypergrid_reward_is_the_formula_in_exact_arithmetic(dim, side):
    env = Hypergrid(dim, side, 0.1, 0.5, 2.0)
    states = env.all_states()
    x = [abs(Fraction(2 * s, side - 1) - 1) for s in range(side)]
    outer, ring = np.array([v > Fraction(1, 2) for v in x]), np.array([Fraction(3, 5) < v < Fraction(4, 5) for v in x])
    reward = 0.1 + 0.5 * outer[states].all(-1) + 2.0 * ring[states].all(-1)
    np.testing.assert_allclose(np.exp(np.asarray(env.log_reward(states), np.float64)), reward, rtol=1e-5)
    np.testing.assert_array_equal(ring, ring[::-1])
    assert (reward > 2.5).sum() == ring.sum() ** dim and ring.sum() >= 2


def test_bit_sequence_reward_counts_bits_to_the_nearest_mode():
    env = BitSequences(6, 2, 5, 3.0, seed=1)
    full = np.array(list(itertools.product(range(4), repeat=3)), np.int32)
    for state, found in zip(full, np.asarray(env.log_reward(full))):
        bits = np.array([int(b) for word in state for b in format(word, "02b")], bool)
        nearest = min(int((bits != mode).sum()) for mode in env.modes)
        assert found == pytest.approx(-3.0 * nearest / 6, abs=1e-6)
    assert np.asarray(env.stop_mask(full)).all() and not np.asarray(env.forward_mask(full)).any()


def path_enumeration(env, table):
    """{state: probability of stopping there}, by walking every path."""
    states = env.all_states()
    index = {tuple(s): i for i, s in enumerate(states)}
    total = dict.fromkeys(index, 0.0)

    def walk(state, p):
        row = np.exp(table[index[state]].astype(np.float64))
        total[state] += p * row[-1]
        for action in np.flatnonzero(np.asarray(env.forward_mask(np.array([state])))[0]):
            walk(tuple(int(v) for v in np.asarray(env.forward(np.array([state]), np.array([action]))[0])[0]), p * row[action])

    walk(tuple(int(v) for v in states[0]), 1.0)
    return np.array([total[tuple(s)] for s in states])


@pytest.mark.parametrize("env", [Hypergrid(2, 3), BitSequences(4, 2, 2)], ids=repr)
def test_dynamic_programming_is_the_sum_over_paths(env):
    network = policy_network(env, (8,))
    params = network.init(jax.random.key(0), env.features(env.root(1)))["params"]
    params = jax.tree.map(lambda x: x * 3, params)
    graph = enumerate_graph(env)
    table = policy_table(env, lambda p, x: network.apply({"params": p}, x), params, graph.states, chunk=7)
    assert (table[:, -1][~np.asarray(env.stop_mask(graph.states))] <= NEG / 2).all()
    found = np.exp(terminal_log_probs(graph, table))
    np.testing.assert_allclose(found, path_enumeration(env, table), atol=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-6)


def test_exact_target():
    env = Hypergrid(2, 8, 0.1)
    graph = enumerate_graph(env)
    reward = np.exp(np.asarray(env.log_reward(env.all_states()), np.float64))
    log_p, log_z = log_target(env, graph)
    assert log_z == pytest.approx(np.log(reward.sum()), rel=1e-9)
    expected = {tuple(s): r / reward.sum() for s, r in zip(env.all_states().tolist(), reward)}
    np.testing.assert_allclose(np.exp(log_p), [expected[tuple(s)] for s in graph.states.tolist()], rtol=1e-9)
