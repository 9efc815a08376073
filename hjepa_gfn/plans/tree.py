"""Plans as nested tuples, on the host: what text, distances and drawings walk over. One plan at a time."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hjepa_gfn.plans.plan import Plan
from hjepa_gfn.plans.spec import PlanSpec


class Timeline(NamedTuple):
    """A view between two end states: edges and the states between them, left to right; one edge more than states."""

    edges: tuple[Edge, ...]
    states: tuple[int, ...]


class Edge(NamedTuple):
    """An edge: its action code (None: the placeholder) and its sub-plan one scale finer (None: plain)."""

    action: int | None = None
    inside: Timeline | None = None


EMPTY = Edge()
ROOT = Timeline((EMPTY,), ())


def timeline_of(plan: Plan) -> Timeline:
    """The tree of one plan (leaves without batch axes).

    Raises:
      ValueError: the plan has batch axes.
    """
    if plan.batch_shape:
        raise ValueError(f"one plan at a time: this one has batch axes {plan.batch_shape}")
    code, tag, position, valid, action, expanded = (np.asarray(x) for x in plan[:-1])
    order = sorted(np.flatnonzero(valid), key=lambda slot: position[slot])

    def view(slots, scale):
        """The timeline of `scale` over slots in reading order, of which the first is the left end."""
        starts = [0] + [i for i, slot in enumerate(slots) if i and tag[slot] == scale] + [len(slots)]
        edges = []
        for begin, end in zip(starts[:-1], starts[1:]):
            held, within = int(action[slots[begin], scale]), expanded[slots[begin], scale]
            edges.append(Edge(held - 1 if held else None, view(slots[begin:end], scale + 1) if within else None))
        return Timeline(tuple(edges), tuple(int(code[slots[i]]) for i in starts[1:-1]))

    return view(order, 0)


def plan_of(timeline: Timeline, spec: PlanSpec, seeded: bool = False) -> Plan:
    """The plan of a tree, its states in reading order in the buffer (numpy leaves without batch axes).

    Args:
      seeded: the root edge's action came with the seed (`plans.seeding`): it is not counted in `num_edits`.
    """
    n, s = spec.capacity, spec.num_scales
    code, tag = np.zeros((2, n), np.int32)
    action, expanded = np.zeros((n, s), np.int32), np.zeros((n, s), bool)
    used = 1

    def lay(view, scale, slot):
        nonlocal used
        for edge, state in zip(view.edges, (None, *view.states)):
            if state is not None:
                slot, used = used, used + 1
                code[slot], tag[slot] = state, scale
            if edge.action is not None:
                action[slot, scale] = 1 + edge.action
            if edge.inside is not None:
                expanded[slot, scale] = True
                lay(edge.inside, scale + 1, slot)

    lay(timeline, 0, 0)
    valid = np.arange(n) < used
    edits = used - 1 + (action > 0).sum() + expanded.sum() - seeded
    position = np.where(valid, np.arange(n), 0).astype(np.int32)
    return Plan(code, tag, position, valid, action, expanded, np.int32(edits))
