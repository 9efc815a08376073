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

from hjepa_gfn.plans import KINDS, PlanSpec, backward_mask, split_site  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402

SPEC = PlanSpec((2, 2), (2, 2), capacity=5, max_edits=4)
graph_of = functools.cache(enumerate_plans)


def reference(spec):
    """(trees in order of discovery, Counter of labelled edges between names) by breadth-first search."""
    frontier, trees, edges = [nested.ROOT], [nested.ROOT], Counter()
    for _ in range(spec.max_edits):
        fresh = {}
        for tree in frontier:
            full = nested.size(tree)[0] + 1 >= spec.capacity
            for kind, scale, code, child in nested.forward(tree, spec):
                if not (kind == "insert" and full):
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


# the second has room for two states only, so capacity binds; the third has three scales and unequal vocabularies
@pytest.mark.parametrize("spec", [SPEC, PlanSpec((2, 1), (1, 2), 3, 4), PlanSpec((1, 2, 1), (2, 1, 3), 4, 3)], ids=str)
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


def test_every_labelled_edge_has_one_backward_label_of_its_own():
    """A tree has as many labelled backward edits as labelled forward edits lead to it, parallel ones included."""
    graph = graph_of(SPEC)
    undo = np.asarray(jax.jit(backward_mask, static_argnums=1)(graph.plans, SPEC)).sum(-1)
    assert undo.tolist() == np.bincount(graph.child, minlength=len(undo)).tolist()
