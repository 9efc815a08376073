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
from hjepa_gfn.gflownet.chains import run_chains  # noqa: E402
from hjepa_gfn.gflownet.environments import Hypergrid  # noqa: E402
from hjepa_gfn.gflownet.exact import normalise  # noqa: E402
from hjepa_gfn.gflownet.policy import Logits, log_probs  # noqa: E402
from hjepa_gfn.gflownet.schedules import Fixed, Geometric, Halving, Uniform  # noqa: E402

UNIFORM = Uniform()


def every_move(graph, schedule=UNIFORM):
    """(from, to, log probability of proposing it, Move) of every K, path down and path up."""
    old, new, fields, used = [], [], [], []
    for z, n in enumerate(graph.grade):
        for k in range(n + 1):
            for down, u in graded.paths_down(graph, z, k):
                for up, end in graded.paths_up(graph, u):
                    old.append(z), new.append(end), used.append((k, len(up)))
                    fields.append((
                        graph.log_r[z], graph.log_r[end],
                        graph.log_pb[down].sum(), graph.log_pf[up].sum() + graph.log_stop[end],
                        graph.log_pb[up].sum(), graph.log_pf[down].sum() + graph.log_stop[z]))
    length_old, length_new = graph.grade[old], graph.grade[new]
    used = np.array(used)
    log_k = schedule.log_prob(jnp.asarray(used[:, 0]), jnp.asarray(length_old))
    log_k_reverse = schedule.log_prob(jnp.asarray(used[:, 1]), jnp.asarray(length_new))
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


def test_a_move_that_cannot_be_undone_is_refused():
    ratio = a_move(jnp.zeros(50))._replace(log_k_reverse=jnp.full(50, -jnp.inf))
    _, taken = mcmc.accept(jax.random.key(0), ratio, jnp.ones(50), jnp.zeros(50))
    assert not taken.any()


# --- the move on an environment -------------------------------------------------------------------------------------

GRID = Hypergrid(dim=2, side=3, r0=0.1, r1=0.5, r2=2.0)
PARAMS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)


def network(params, x):
    out = x @ params
    return Logits(out[..., :3], out[..., 3:])


def index(state):
    return np.asarray(state[..., 0] * 3 + state[..., 1])


def test_what_is_proposed_is_evaluated_along_its_own_path():
    """On a grid the path down is known from its ends: with K = n it leads through the root; each term against the policy."""
    rows = 60
    state = jnp.asarray(np.random.default_rng(1).integers(0, 3, (rows, 2)), jnp.int32)
    walker = mcmc.flat_walker(GRID, network, PARAMS)
    new, move, steps = jax.jit(lambda k: mcmc.propose(k, walker, state, Fixed(1)))(jax.random.key(0))
    said = lambda s: log_probs(GRID, network(PARAMS, GRID.features(s)), s)
    np.testing.assert_array_equal(steps, np.minimum(state.sum(-1), 1))
    np.testing.assert_allclose(move.log_reward_old, GRID.log_reward(state), rtol=1e-6)
    np.testing.assert_allclose(move.log_reward_new, GRID.log_reward(new), rtol=1e-6)
    old_said = said(state)
    for b in range(rows):
        ways = []
        for d in range(2):
            if steps[b] and state[b, d] > 0:
                u = state[b] - (jnp.arange(2) == d)
                at_u = said(u[None])
                if (np.asarray(new[b]) >= np.asarray(u)).all():
                    ways.append((old_said.undo[b, d], at_u.action[0, d] + old_said.stop[b]))
        if not steps[b]:
            ways = [(0.0, old_said.stop[b])]
        gaps = [abs(back - move.log_back[b]) + abs(forth - move.log_forth_reverse[b]) for back, forth in ways]
        assert min(gaps) < 1e-4
    length = np.asarray(new.sum(-1) - (state.sum(-1) - steps))
    expected = np.where(length == np.minimum(new.sum(-1), 1), 0.0, -np.inf)
    np.testing.assert_array_equal(move.log_k_reverse, expected)


@pytest.mark.parametrize("schedule", [Geometric(0.5), Halving(0.3)], ids=str)
def test_chains_on_a_grid_keep_the_reward_distribution(schedule):
    chains, moves = 4000, 4
    log_p, _ = normalise(GRID.log_reward(jnp.asarray(GRID.all_states())))
    p = np.zeros(9)
    p[index(GRID.all_states())] = np.exp(log_p)
    start = np.random.default_rng(2).choice(9, chains, p=p)
    walker = mcmc.flat_walker(GRID, network, PARAMS)

    def step_fn(key, state, number):
        return mcmc.back_and_forth(key, walker, state, schedule, number)[:3]

    state = jnp.asarray(np.stack([start // 3, start % 3], -1), jnp.int32)
    last, seen, _ = jax.jit(lambda k: run_chains(step_fn, state, k, GRID.horizon))(jax.random.split(jax.random.key(3), moves))
    counts = np.bincount(index(last), minlength=9)
    assert np.sum((counts - chains * p) ** 2 / (chains * p)) < 8 + 5 * np.sqrt(16)
    assert (index(last) != start).mean() > 0.3 and 0.1 < seen.overall < 0.99
    assert seen.proposed.sum() == chains * moves and (seen.accepted <= seen.proposed).all()


def test_the_loss_of_moves_reaches_both_policies_and_nothing_else_moves_them():
    state = jnp.asarray(np.random.default_rng(4).integers(0, 3, (50, 2)), jnp.int32)

    def loss(params):
        _, move, _ = mcmc.propose(jax.random.key(1), mcmc.flat_walker(GRID, network, params), state)
        return mcmc.back_and_forth_loss(move)[0]

    value, grad = jax.jit(jax.value_and_grad(loss))(PARAMS)
    assert value > 0.1 and (np.abs(np.asarray(grad)).max(0) > 1e-4).all()
