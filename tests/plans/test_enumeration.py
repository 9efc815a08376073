"""The exhaustive graph of plans against a reference written with nested tuples, tree by tree and edge by edge."""

import functools
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import nested  # noqa: E402

from hjepa_gfn.gflownet.exact import normalise, terminal_log_probs  # noqa: E402
from hjepa_gfn.plans import KINDS, PlanSpec, backward_mask, forward_mask, split_site  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402

SPEC = PlanSpec((2, 2), (2, 2), capacity=5, max_edits=4)
# in all but the first a buffer fills before the edits are used up; unequal vocabularies; one, two and three scales
SPECS = [SPEC, PlanSpec((2, 1), (1, 2), 3, 4), PlanSpec((1, 2, 1), (2, 1, 3), 3, 4), PlanSpec((2,), (3,), 3, 6)]
graph_of = functools.cache(enumerate_plans)


def reference(spec):
    """(trees in order of discovery, Counter of labelled edges between names) by breadth-first search."""
    frontier, trees, edges = [nested.ROOT], [nested.ROOT], Counter()
    for _ in range(spec.max_edits):
        fresh = {}
        for tree in frontier:
            if nested.size(tree)[0] + 1 >= spec.capacity:
                continue
            for kind, scale, code, child in nested.forward(tree, spec):
                edges[nested.key(tree, spec), kind, scale, code, nested.key(child, spec)] += 1
                fresh[child] = None
        frontier = list(fresh)
        trees += frontier
    return trees, edges


def labelled_edges(graph, spec):
    """The same Counter from the arrays."""
    names = canonical_keys(graph.plans)
    _, scale, kind = split_site(graph.site, spec.num_scales)
    return Counter(
        (names[p], KINDS[k], int(s), int(c), names[q])
        for p, k, s, c, q in zip(graph.parent, kind, scale, graph.code, graph.child))


def test_counts_of_the_published_example():
    graph = graph_of(SPEC)
    bundles = Counter(zip(graph.parent.tolist(), graph.child.tolist()))
    assert graph.plans.num_edits.shape == (642,)
    assert graph.parent.shape == graph.child.shape == graph.site.shape == graph.code.shape == (1313,)
    assert sum(n > 1 for n in bundles.values()) == 68


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_same_trees_and_labelled_edges_as_the_reference(spec):
    graph = graph_of(spec)
    trees, edges = reference(spec)
    names = canonical_keys(graph.plans)
    assert len(set(names)) == len(names)
    assert set(names) == {nested.key(tree, spec) for tree in trees}
    assert labelled_edges(graph, spec) == edges


def test_the_graph_is_graded_and_sorted_with_the_root_first():
    graph = graph_of(SPEC)
    edits = graph.plans.num_edits
    assert edits[0] == 0 and (np.diff(edits) >= 0).all() and edits[-1] == SPEC.max_edits
    assert (edits[graph.child] == edits[graph.parent] + 1).all()
    assert set(graph.child.tolist()) == set(range(1, len(edits)))  # every tree but the root has a parent
    assert edits.tolist() == [nested.size(nested.parse(name))[1] for name in canonical_keys(graph.plans)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_labelled_edge_has_one_backward_label_of_its_own(spec):
    """A tree has as many labelled backward edits as labelled forward edits lead to it, parallel ones included. So every plan
    but the root can be undone, and as the graph is graded every backward walk ends in the root."""
    graph = graph_of(spec)
    undo = np.asarray(jax.jit(backward_mask, static_argnums=1)(graph.plans, spec)).sum(-1)
    assert undo.tolist() == np.bincount(graph.child, minlength=len(undo)).tolist()
    assert undo[0] == 0 and (undo[1:] > 0).all()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_labelled_flows_give_rewards_over_their_sum(spec):
    """P_B uniform over the labels that the mask allows, flows F = R + what flows on, P_F = share of the flow: exactly R/Z."""
    graph = graph_of(spec)
    undo = np.asarray(jax.jit(backward_mask, static_argnums=1)(graph.plans, spec)).sum(-1)
    log_r = np.random.default_rng(0).normal(size=len(undo)) * 2.0
    flow, through = np.exp(log_r), np.zeros(len(graph.parent))
    for e in np.argsort(-graph.child, kind="stable"):  # children are numbered after all of their parents
        through[e] = flow[graph.child[e]] / undo[graph.child[e]]
        flow[graph.parent[e]] += through[e]
    log_pf, log_stop = np.log(through / flow[graph.parent]), log_r - np.log(flow)
    can_go = np.asarray(jax.jit(forward_mask, static_argnums=1)(graph.plans, spec)).any(-1)
    np.testing.assert_allclose(log_stop[~can_go], 0.0, atol=1e-14)
    assert (log_stop[can_go] < 0).all()
    expected, log_z = normalise(log_r)
    found = terminal_log_probs(graph.parent, graph.child, log_pf, log_stop)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(np.log(flow[0]), log_z, atol=1e-12)


def test_the_capacities_of_these_specs_bind():
    for spec in SPECS[1:]:
        plans = graph_of(spec).plans
        assert (plans.num_edits[plans.valid.all(-1)] < spec.max_edits).any(), "some plan is full before its edits are used up"
