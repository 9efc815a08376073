"""Exact terminal distributions against the enumeration of every path."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import graded  # noqa: E402

from hjepa_gfn.gflownet.exact import normalise, terminal_log_probs, total_variation  # noqa: E402


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
