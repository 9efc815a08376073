"""Tree edit distance between plans (Zhang & Shasha 1989, "Simple fast algorithms for the editing distance between trees").

The ordered tree of a plan has a node for every interior state and for every edge that says anything (it holds an action, is
expanded, or both), in reading order; the nodes of a sub-plan are the children of its edge; one more node, the same in all
plans, is the root. An empty, plain edge is no node: it is what is left where nothing has been said. So each forward edit adds
one node or relabels one, and under unit costs

    distance(z, z') = 1 if one edit leads from z to z';    distance(z, z') <= the length of any path of edits between them.

The distance is a metric on trees, whatever the order of their buffers, if the cost is one on labels.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hjepa_gfn.plans.plan import Plan
from hjepa_gfn.plans.tree import EMPTY, timeline_of

Label = tuple | None
Cost = Callable[[Label, Label], float]


class Node(NamedTuple):
    """A node of an ordered, labelled tree."""

    label: Label
    children: tuple[Node, ...] = ()


def unit_cost(old: Label, new: Label) -> float:
    """The cost of making label `old` into `new`; None stands for no node (insertion, deletion): 1 if they differ."""
    return float(old != new)


def plan_distance(one: Plan, two: Plan, cost: Cost = unit_cost) -> float:
    """Tree edit distance of two plans (leaves without batch axes), of one family or of two; see the module's docstring.

    Args:
      cost: of changing one label into another, None for no node. Labels: ("state", scale, code), ("edge", scale, action code or
        None, expanded) and ("plan",) for the root.
    Raises:
      ValueError: a plan has batch axes.
    """
    return tree_edit_distance(ordered_tree(one), ordered_tree(two), cost)


def ordered_tree(plan: Plan) -> Node:
    """The ordered, labelled tree of one plan: see the module's docstring."""

    def nodes(view, scale):
        found = []
        for edge, state in zip(view.edges, (*view.states, None)):
            if edge != EMPTY:
                within = () if edge.inside is None else nodes(edge.inside, scale + 1)
                found.append(Node(("edge", scale, edge.action, edge.inside is not None), within))
            if state is not None:
                found.append(Node(("state", scale, state)))
        return tuple(found)

    return Node(("plan",), nodes(timeline_of(plan), 0))


def tree_edit_distance(one: Node, two: Node, cost: Cost = unit_cost) -> float:
    """Least total cost of deletions, insertions and relabellings that make ordered tree `one` into `two`, float64.

    O(n m min(depth, leaves)^2) for trees of n and m nodes.
    """
    (labels_1, left_1), (labels_2, left_2) = _postorder(one), _postorder(two)
    delete = np.array([cost(label, None) for label in labels_1], np.float64)
    insert = np.array([cost(None, label) for label in labels_2], np.float64)
    relabel = np.array([[cost(a, b) for b in labels_2] for a in labels_1], np.float64)
    distance = np.zeros(relabel.shape)
    for i in _keyroots(left_1):
        for j in _keyroots(left_2):
            _fill(distance, i, j, left_1, left_2, delete, insert, relabel)
    return float(distance[-1, -1])


def _postorder(tree: Node) -> tuple[list[Label], list[int]]:
    """(labels in postorder, the postorder index of the leftmost leaf below each node)."""
    labels, left = [], []

    def visit(node):
        first = len(labels)
        for child in node.children:
            visit(child)
        labels.append(node.label)
        left.append(first)

    visit(tree)
    return labels, left


def _keyroots(left: list[int]) -> list[int]:
    """The highest node above each leftmost leaf, in increasing order."""
    return sorted({first: node for node, first in enumerate(left)}.values())


def _fill(distance, i, j, left_1, left_2, delete, insert, relabel) -> None:
    """Writes the distances of all pairs of subtrees on the left paths of keyroots i and j (Zhang & Shasha, section 3).

    forest[a, b] is the distance between the forests of nodes left_1[i] .. a-1 and left_2[j] .. b-1 (shifted to begin at 0).
    """
    top, low = left_1[i], left_2[j]
    forest = np.zeros((i - top + 2, j - low + 2))
    forest[1:, 0] = np.cumsum(delete[top : i + 1])
    forest[0, 1:] = np.cumsum(insert[low : j + 1])
    for a in range(top, i + 1):
        for b in range(low, j + 1):
            p, q = a - top + 1, b - low + 1
            trees = left_1[a] == top and left_2[b] == low
            if trees:
                both = forest[p - 1, q - 1] + relabel[a, b]
            else:
                both = forest[left_1[a] - top, left_2[b] - low] + distance[a, b]
            forest[p, q] = min(forest[p - 1, q] + delete[a], forest[p, q - 1] + insert[b], both)
            if trees:
                distance[a, b] = forest[p, q]
