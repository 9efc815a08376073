"""The back-and-forth move leaves R/Z exactly stationary: its whole transition matrix, from every path it can take."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import graded  # noqa: E402

from hjepa_gfn.gflownet import mcmc  # noqa: E402
from hjepa_gfn.gflownet.exact import normalise  # noqa: E402


def every_move(graph):
    """(from, to, log probability of proposing it, Move) of every K, path down and path up."""
    old, new, fields = [], [], []
    for z, n in enumerate(graph.grade):
        for k in range(n + 1):
            for down, u in graded.paths_down(graph, z, k):
                for up, end in graded.paths_up(graph, u):
                    old.append(z), new.append(end)
                    fields.append((
                        graph.log_r[z], graph.log_r[end],
                        graph.log_pb[down].sum(), graph.log_pf[up].sum() + graph.log_stop[end],
                        graph.log_pb[up].sum(), graph.log_pf[down].sum() + graph.log_stop[z]))
    length_old, length_new = graph.grade[old], graph.grade[new]
    log_k, log_k_reverse = mcmc.log_k_prob(jnp.asarray(length_old)), mcmc.log_k_prob(jnp.asarray(length_new))
    move = mcmc.Move(*(jnp.asarray(x) for x in np.array(fields).T), log_k, log_k_reverse)
    proposed = np.asarray(log_k) + np.asarray(move.log_back) + np.asarray(move.log_forth)
    return np.array(old), np.array(new), proposed, move


def drift(graph, old, new, proposed, move):
    """Largest change of the reward distribution under one step of the chain with these acceptances."""
    ratio = np.asarray(mcmc.log_accept_ratio(move))
    assert ratio.dtype == np.float64
    flow = np.exp(proposed + np.minimum(ratio, 0.0))
    matrix = np.zeros((len(graph.grade),) * 2)
    np.add.at(matrix, (old, new), flow)
    stay = 1.0 - matrix.sum(1)
    assert stay.min() > -1e-12
    matrix[np.diag_indices(len(graph.grade))] += stay
    p = np.exp(normalise(graph.log_r)[0])
    return np.abs(p @ matrix - p).max()


@pytest.mark.parametrize("seed", range(3))
def test_rewards_are_stationary(seed):
    graph = graded.make(seed)
    with jax.enable_x64(True):
        old, new, proposed, move = every_move(graph)
        for z in range(len(graph.grade)):
            np.testing.assert_allclose(np.exp(proposed[old == z]).sum(), 1.0, atol=1e-12)
        assert drift(graph, old, new, proposed, move) < 1e-12


@pytest.mark.parametrize("dropped", [
    ("log_k", "log_k_reverse"), ("log_back", "log_back_reverse"), ("log_forth", "log_forth_reverse"),
    ("log_reward_old", "log_reward_new"), ("log_k",), ("log_k_reverse",),
])
def test_every_term_is_needed(dropped):
    graph = graded.make(0)
    with jax.enable_x64(True):
        old, new, proposed, move = every_move(graph)
        without = move._replace(**{name: jnp.zeros_like(getattr(move, name)) for name in dropped})
        assert drift(graph, old, new, proposed, without) > 1e-3


def test_the_ratio_of_a_move_back_to_where_it_came_from_is_zero():
    graph = graded.make(1)
    with jax.enable_x64(True):
        old, new, _, move = every_move(graph)
        same = (old == new) & (np.asarray(move.log_back) == np.asarray(move.log_back_reverse))
        assert same.sum() > len(graph.grade) - 1
        np.testing.assert_allclose(np.asarray(mcmc.log_accept_ratio(move))[same], 0.0, atol=1e-12)


def test_k_is_uniform_from_nothing_to_everything():
    n = 4000
    length = jnp.array([0, 1, 4])
    drawn = np.asarray(jax.vmap(lambda key: mcmc.draw_k(key, length))(jax.random.split(jax.random.key(0), n)))
    for column, top in zip(drawn.T, length):
        share = np.bincount(column, minlength=int(top) + 1) / n
        assert len(share) == top + 1
        np.testing.assert_allclose(share, np.exp(mcmc.log_k_prob(top)), atol=5 * np.sqrt(0.25 / n))


def a_move(ratio):
    zeros = jnp.zeros_like(ratio)
    return mcmc.Move(zeros, ratio, *(zeros,) * 6)


def test_acceptance_follows_the_ratio_row_by_row():
    n = 4000
    ratio = jnp.tile(jnp.log(jnp.array([0.0, 0.3, 0.8, 1.0, 5.0])), n)
    new = {"x": jnp.ones((5 * n, 2)), "y": jnp.ones(5 * n, jnp.int32)}
    old = jax.tree.map(jnp.zeros_like, new)
    kept, taken = mcmc.accept(jax.random.key(1), a_move(ratio), new, old)
    np.testing.assert_array_equal(kept["y"], taken.astype(int))
    np.testing.assert_array_equal(kept["x"], np.asarray(taken, float)[:, None].repeat(2, 1))
    share = np.asarray(taken).reshape(n, 5).mean(0)
    np.testing.assert_allclose(share, [0, 0.3, 0.8, 1, 1], atol=5 * np.sqrt(0.25 / n))
    assert share[0] == 0.0 and share[3] == share[4] == 1.0


def test_a_move_with_a_meaningless_ratio_is_refused():
    _, taken = mcmc.accept(jax.random.key(0), a_move(jnp.full(50, jnp.nan)), jnp.ones(50), jnp.zeros(50))
    assert not taken.any()
