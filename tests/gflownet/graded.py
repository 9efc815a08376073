"""A small graded graph with parallel edges, random policies on it, and all of its paths: for exact checks."""

from typing import NamedTuple

import numpy as np


class Graded(NamedTuple):
    """Nodes are sorted by grade, the root is 0; every node can stop. All log probabilities are float64."""

    grade: np.ndarray    # [Z] number of edits from the root
    edges: list          # (parent, child), labelled by its index; parallel ones allowed
    log_pf: np.ndarray   # [E] given the parent, with the factor of not stopping
    log_stop: np.ndarray  # [Z]
    log_pb: np.ndarray   # [E] given the child
    log_r: np.ndarray    # [Z]


EDGES = [(0, 1), (0, 2), (0, 2), (1, 3), (2, 3), (2, 4), (2, 4), (1, 5), (3, 6), (4, 6), (5, 6), (5, 7)]
GRADE = np.array([0, 1, 1, 2, 2, 2, 3, 3])


def make(seed: int) -> Graded:
    """Random policies and rewards, far from balance."""
    rng = np.random.default_rng(seed)
    parent, child = np.array(EDGES).T
    size = len(GRADE)
    forward, stop, back = (rng.exponential(size=n) + 0.1 for n in (len(EDGES), size, len(EDGES)))
    out, into = stop + np.bincount(parent, forward, size), np.bincount(child, back, size)
    return Graded(GRADE, EDGES, np.log(forward / out[parent]), np.log(stop / out), np.log(back / into[child]),
                  rng.normal(size=size) * 1.5)


def paths_up(graph: Graded, node: int) -> list[tuple[list[int], int]]:
    """Every path (edge labels, last node) from a node towards the leaves, the empty one first."""
    found = [([], node)]
    for e, (a, b) in enumerate(graph.edges):
        if a == node:
            found += [([e, *rest], end) for rest, end in paths_up(graph, b)]
    return found


def paths_down(graph: Graded, node: int, steps: int) -> list[tuple[list[int], int]]:
    """Every path of `steps` edges undone from a node: (edge labels in forward order, the node arrived at)."""
    if steps == 0:
        return [([], node)]
    return [([*rest, e], end) for e, (a, b) in enumerate(graph.edges) if b == node
            for rest, end in paths_down(graph, a, steps - 1)]
