"""The plan tree and its edits once more, as nested Python tuples: an independent reference for the arrays.

    segment = (edges, states), one edge more than states;  edge = (action or None, segment one scale finer or None)
"""
from collections.abc import Iterator

EMPTY = (None, None)
ROOT = ((EMPTY,), ())


def _with_edge(segment, i, edge):
    edges, states = segment
    return edges[:i] + (edge,) + edges[i + 1 :], states


def forward(segment, spec, scale: int = 0) -> Iterator[tuple[str, int, int, tuple]]:
    """Every forward edit (kind, scale, code, result), whatever the room left."""
    edges, states = segment
    for i, (action, inside) in enumerate(edges):
        if (action, inside) == EMPTY:
            for code in range(spec.state_codes[scale]):
                grown = edges[:i] + (EMPTY, EMPTY) + edges[i + 1 :], states[:i] + (code,) + states[i:]
                yield "insert", scale, code, grown
        if action is None:
            for code in range(spec.action_codes[scale]):
                yield "act", scale, code, _with_edge(segment, i, (code, inside))
        if inside is None and scale + 1 < spec.num_scales:
            yield "expand", scale, 0, _with_edge(segment, i, (action, ROOT))
        if inside is not None:
            for kind, at, code, inner in forward(inside, spec, scale + 1):
                yield kind, at, code, _with_edge(segment, i, (action, inner))


def backward(segment, scale: int = 0) -> Iterator[tuple[str, int, int, tuple]]:
    """Every backward edit, named by the forward edit it undoes: (kind, scale, code, result)."""
    edges, states = segment
    for i, code in enumerate(states):
        if edges[i] == edges[i + 1] == EMPTY:
            yield "insert", scale, code, (edges[:i] + edges[i + 1 :], states[:i] + states[i + 1 :])
    for i, (action, inside) in enumerate(edges):
        if action is not None:
            yield "act", scale, action, _with_edge(segment, i, (None, inside))
        if inside == ROOT:
            yield "expand", scale, 0, _with_edge(segment, i, (action, None))
        if inside is not None:
            for kind, at, code, inner in backward(inside, scale + 1):
                yield kind, at, code, _with_edge(segment, i, (action, inner))


def size(segment) -> tuple[int, int]:
    """(states, edits that lead here): each state, action and expansion is one edit."""
    edges, states = segment
    inner = [size(inside) for _, inside in edges if inside is not None]
    acted = sum(action is not None for action, _ in edges)
    held = len(states) + sum(n for n, _ in inner)
    return held, len(states) + acted + len(inner) + sum(n for _, n in inner)


def key(segment, spec) -> tuple:
    """The name that `plans.enumeration.canonical_keys` gives to the same tree."""
    tokens: list[list] = []

    def lay(segment, scale):
        edges, states = segment
        for i, (action, inside) in enumerate(edges):
            if i:
                tokens.append([scale, states[i - 1], [None] * spec.num_scales])
            at = len(tokens) - 1
            tokens[at][2][scale] = (0 if action is None else action + 1, inside is not None)
            if inside is not None:
                lay(inside, scale + 1)

    tokens.append([0, 0, [None] * spec.num_scales])
    lay(segment, 0)
    return tuple((tag, code, tuple(edges)) for tag, code, edges in tokens)


def parse(name: tuple, scale: int = 0) -> tuple:
    """The tree of a canonical name: the inverse of `key`."""
    starts = [0] + [i for i, token in enumerate(name) if i and token[0] == scale] + [len(name)]
    edges = []
    for begin, end in zip(starts[:-1], starts[1:]):
        held, expanded = name[begin][2][scale]
        assert expanded or end == begin + 1, "finer states under a plain edge"
        edges.append((held - 1 if held else None, parse(name[begin:end], scale + 1) if expanded else None))
    return tuple(edges), tuple(name[i][1] for i in starts[1:-1])
