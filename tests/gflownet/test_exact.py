"""Exact distributions, bounds and transition matrices against the enumeration of every path."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import graded  # noqa: E402
import tabled  # noqa: E402

from hjepa_gfn.gflownet import exact, exact_moves, mcmc  # noqa: E402
from hjepa_gfn.gflownet.exact import normalise, terminal_log_probs, total_variation  # noqa: E402
from hjepa_gfn.gflownet.schedules import Fixed, Geometric, Halving, Uniform  # noqa: E402


def brute_force(graph):
    total = np.zeros(len(graph.grade))
    for path, end in graded.paths_up(graph, 0):
        total[end] += np.exp(graph.log_pf[path].sum() + graph.log_stop[end])
    return np.log(total)


def test_terminal_probabilities_sum_over_every_path_and_parallel_edge():
    graph = graded.make(0)
    parent, child = np.array(graph.edges).T
    found = terminal_log_probs(parent, child, graph.log_pf, graph.log_stop)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, brute_force(graph), atol=1e-12)
    np.testing.assert_allclose(np.exp(found).sum(), 1.0, atol=1e-12)


def test_the_order_in_which_edges_are_listed_does_not_matter():
    graph = graded.make(1)
    parent, child = np.array(graph.edges).T
    order = np.random.default_rng(1).permutation(len(parent))
    found = terminal_log_probs(parent[order], child[order], graph.log_pf[order], graph.log_stop)
    np.testing.assert_allclose(found, brute_force(graph), atol=1e-12)


def test_balanced_labelled_flows_give_rewards_over_their_sum():
    """Flows set from the leaves up by detailed balance with any P_B: P_F samples R/Z."""
    graph = graded.make(2)
    parent, child = np.array(graph.edges).T
    flow = np.exp(graph.log_r)
    through = np.zeros(len(parent))
    for node in reversed(range(len(flow))):
        into = child == node
        through[into] = flow[node] * np.exp(graph.log_pb[into])
        for e in np.flatnonzero(into):
            flow[parent[e]] += through[e]
    log_p = terminal_log_probs(parent, child, np.log(through / flow[parent]), graph.log_r - np.log(flow))
    expected, log_z = normalise(graph.log_r)
    np.testing.assert_allclose(log_p, expected, atol=1e-12)
    np.testing.assert_allclose(log_z, np.log(flow[0]), atol=1e-12)


def test_normalise_survives_large_logs():
    log_p, log_z = normalise([1000.0, 1000.0 + np.log(3.0)])
    np.testing.assert_allclose(np.exp(log_p), [0.25, 0.75], atol=1e-12)
    np.testing.assert_allclose(log_z, 1000.0 + np.log(4.0), atol=1e-9)


def test_total_variation_is_half_the_l1_distance():
    assert total_variation(np.log([0.5, 0.5]), np.log([0.5, 0.5])) == 0.0
    np.testing.assert_allclose(total_variation(np.log([0.7, 0.2, 0.1]), np.log([0.4, 0.2, 0.4])), 0.3, atol=1e-12)


# --- bounds, distances, many contexts at once -----------------------------------------------------------------------


def arrays(graph):
    parent, child = np.array(graph.edges).T
    return parent, child, graph.log_pf, graph.log_pb, graph.log_stop, graph.log_r


def weights(graph):
    """(log weight, log P_F, log of R P_B / Z) of every trajectory from the root."""
    _, log_z = normalise(graph.log_r)
    rows = []
    for path, end in graded.paths_up(graph, 0):
        forward = graph.log_pf[path].sum() + graph.log_stop[end]
        backward = graph.log_r[end] + graph.log_pb[path].sum()
        rows.append((backward - forward, forward, backward - log_z))
    return np.array(rows).T


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_means_of_the_log_weight_over_every_trajectory(seed):
    graph = graded.make(seed)
    weight, forward, backward = weights(graph)
    np.testing.assert_allclose([np.exp(forward).sum(), np.exp(backward).sum()], 1.0, atol=1e-12)
    lower, upper = exact.elbo(*arrays(graph)), exact.eubo(*arrays(graph))
    np.testing.assert_allclose(lower, np.sum(np.exp(forward) * weight), atol=1e-12)
    np.testing.assert_allclose(upper, np.sum(np.exp(backward) * weight), atol=1e-12)
    assert lower < normalise(graph.log_r)[1] < upper


def test_a_balanced_policy_is_exact_and_its_bounds_meet():
    graph = graded.make(3)
    parent, child, _, log_pb, _, log_r = arrays(graph)
    log_pf, log_stop, flow = exact.balanced_policy(parent, child, log_pb, log_r)
    log_p, log_z = normalise(log_r)
    np.testing.assert_allclose(terminal_log_probs(parent, child, log_pf, log_stop), log_p, atol=1e-12)
    bounds = [of(parent, child, log_pf, log_pb, log_stop, log_r) for of in (exact.elbo, exact.eubo)]
    np.testing.assert_allclose([flow[0], *bounds], log_z, atol=1e-12)


def test_contexts_are_computed_side_by_side():
    graphs = [graded.make(seed) for seed in range(4)]
    parent, child = np.array(graphs[0].edges).T
    stacked = [np.stack(x).reshape(2, 2, -1) for x in zip(*(arrays(g)[2:] for g in graphs))]
    for of in (exact.elbo, exact.eubo):
        alone = [of(*arrays(g)) for g in graphs]
        np.testing.assert_allclose(of(parent, child, *stacked).ravel(), alone, atol=1e-12)
    log_pf, _, log_stop, _ = stacked
    found = terminal_log_probs(parent, child, log_pf, log_stop).reshape(4, -1)
    np.testing.assert_allclose(found, [brute_force(g) for g in graphs], atol=1e-12)


def test_jensen_shannon_divergence():
    p, q = np.log([0.7, 0.2, 0.1]), np.log([0.4, 0.2, 0.4])
    m = np.log((np.exp(p) + np.exp(q)) / 2)
    expected = 0.5 * np.sum(np.exp(p) * (p - m)) + 0.5 * np.sum(np.exp(q) * (q - m))
    np.testing.assert_allclose(exact.jensen_shannon(p, q), expected, atol=1e-14)
    assert exact.jensen_shannon(p, p) == 0.0
    apart = exact.jensen_shannon(np.array([0.0, -np.inf]), np.array([-np.inf, 0.0]))
    np.testing.assert_allclose(apart, np.log(2), atol=1e-14)


# --- the transition matrix of the sampler ---------------------------------------------------------------------------

SCHEDULES = [(Uniform(), 0), (Geometric(0.4), 0), (Fixed(1), 0), (Fixed(2, 0.2), 0), (Halving(0.1), 0), (Halving(0.0), 1)]


def transitions(graph, schedule, step=0, **changes):
    parent, child, log_pf, log_pb, log_stop, log_r = arrays(graph)
    paths = exact_moves.every_path(parent, child, log_pf, log_pb, log_stop)
    return exact_moves.transition_matrix(paths, graph.grade, log_r, schedule, step, **changes)


@pytest.mark.parametrize("schedule, step", SCHEDULES, ids=str)
def test_rewards_are_stationary_under_every_schedule(schedule, step):
    graph = graded.make(4)
    matrix, unnormalised = transitions(graph, schedule, step)
    assert unnormalised < 1e-12 and matrix.min() > -1e-12
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-12)
    assert exact_moves.stationary_error(matrix, graph.log_r) < 1e-12


def test_the_matrix_is_the_sum_over_paths_written_out():
    """Loops over K, path down and path up, in plain numbers."""
    graph, schedule = graded.make(5), Geometric(0.4)
    q = lambda k, n: 0.4**k / sum(0.4**j for j in range(n + 1))
    expected = np.zeros((len(graph.grade),) * 2)
    for z, n in enumerate(graph.grade):
        for k in range(n + 1):
            for down, u in graded.paths_down(graph, z, k):
                for up, end in graded.paths_up(graph, u):
                    chance = q(k, n) * np.exp(graph.log_pb[down].sum() + graph.log_pf[up].sum() + graph.log_stop[end])
                    back = q(len(up), graph.grade[end]) * np.exp(
                        graph.log_pb[up].sum() + graph.log_pf[down].sum() + graph.log_stop[z])
                    taken = chance * min(1.0, np.exp(graph.log_r[end] - graph.log_r[z]) * back / chance)
                    expected[z, end] += taken
                    expected[z, z] += chance - taken
    np.testing.assert_allclose(transitions(graph, schedule)[0], expected, atol=1e-12)


def without_k(move):
    zero = jnp.zeros_like(move.log_k)
    return mcmc.log_accept_ratio(move._replace(log_k=zero, log_k_reverse=zero))


def test_mutation_a_ratio_without_k_is_not_stationary():
    graph = graded.make(4)
    for schedule in (Uniform(), Geometric(0.4)):
        matrix, _ = transitions(graph, schedule, log_ratio=without_k)
        assert exact_moves.stationary_error(matrix, graph.log_r) > 1e-3


def test_on_plan_trees_the_sampler_is_stationary_and_without_k_it_is_not():
    env = tabled.family()
    log_pf, log_pb, log_stop = (x[0] for x in env.edge_log_probs(tabled.random_params(env)))
    log_r = np.asarray(env.log_rewards, np.float64)[0]
    paths = exact_moves.every_path(env.graph.parent, env.graph.child, log_pf, log_pb, log_stop)
    assert len(paths.start) == 883
    depth = env.graph.plans.num_edits
    matrix, unnormalised = exact_moves.transition_matrix(paths, depth, log_r, Geometric(0.4))
    assert unnormalised < 1e-12 and exact_moves.stationary_error(matrix, log_r) < 1e-12
    matrix, _ = exact_moves.transition_matrix(paths, depth, log_r, Geometric(0.4), log_ratio=without_k)
    assert exact_moves.stationary_error(matrix, log_r) > 1e-3


def test_policies_that_do_not_sum_to_one_are_noticed():
    graph = graded.make(4)
    _, unnormalised = transitions(graph._replace(log_pb=graph.log_pb + 0.1), Uniform())
    assert unnormalised > 1e-2
