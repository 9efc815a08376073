"""Every plan tree of a small vocabulary, and every labelled edit between two: ground truth for exactness tests."""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.plans.edits import EXPAND, INSERT, apply_forward, forward_mask, split_site
from hjepa_gfn.plans.plan import Plan, edge_exists, root_plan
from hjepa_gfn.plans.spec import PlanSpec

# compiled as wholes: op by op, every new shape of the frontier would compile dozens of little programs
_edge_exists = jax.jit(edge_exists)
_forward_mask = jax.jit(forward_mask, static_argnums=1)
_apply_forward = jax.jit(apply_forward, static_argnums=3)


class PlanGraph(NamedTuple):
    """All plans with at most `max_edits` edits, and all labelled edits between them (numpy, host)."""

    plans: Plan            # leaves [num_plans, ...]; index 0 is the root (or seed); sorted by number of edits
    parent: np.ndarray     # int32 [num_edges]
    child: np.ndarray      # int32 [num_edges]
    site: np.ndarray       # int32 [num_edges] forward site in the parent's buffer
    code: np.ndarray       # int32 [num_edges]


def canonical_keys(plans: Plan) -> list[tuple]:
    """A hashable name of each tree that does not depend on the order of its buffer. Leaves [num_plans, ...]."""
    exists = np.asarray(_edge_exists(plans))
    plans = jax.tree.map(np.asarray, plans)
    keys = []
    for b in range(plans.num_edits.shape[0]):
        order = sorted(np.flatnonzero(plans.valid[b]), key=lambda n: plans.position[b, n])
        keys.append(tuple(
            (int(plans.tag[b, n]), int(plans.code[b, n]),
             tuple((int(plans.action[b, n, d]), bool(plans.expanded[b, n, d])) if exists[b, n, d] else None
                   for d in range(exists.shape[-1])))
            for n in order
        ))
    return keys


def enumerate_plans(spec: PlanSpec, root: Plan | None = None) -> PlanGraph:
    """Breadth-first enumeration by number of edits; cost grows steeply: meant for a few thousand trees.

    Args:
      root: one plan, leaves [...] without batch axes, to begin at (a seed: see `plans.seeding`); default: the plain root.
    """
    root = root_plan(spec) if root is None else root
    frontier = jax.tree.map(lambda x: np.asarray(x)[None], root)
    levels, index = [frontier], {canonical_keys(frontier)[0]: 0}
    parent, child, sites, codes, base = [], [], [], [], 0
    for _ in range(spec.max_edits):
        row, site, code = [], [], []
        for b, flat in zip(*np.nonzero(np.asarray(_forward_mask(frontier, spec))), strict=True):
            _, scale, kind = split_site(int(flat), spec.num_scales)
            size = 1 if kind == EXPAND else (spec.state_codes if kind == INSERT else spec.action_codes)[scale]
            for c in range(size):
                row.append(b), site.append(flat), code.append(c)
        if not row:  # every plan of the frontier fills its buffer
            break
        row, site, code = (np.asarray(x, np.int32) for x in (row, site, code))
        parents = jax.tree.map(lambda x, r=row: x[r], frontier)
        grown, _ = _apply_forward(parents, jnp.asarray(site), jnp.asarray(code), spec)
        grown = jax.tree.map(np.asarray, grown)
        fresh, next_base = [], base + frontier.num_edits.shape[0]
        for i, key in enumerate(canonical_keys(grown)):
            if key not in index:
                index[key] = next_base + len(fresh)
                fresh.append(i)
            child.append(index[key])
        parent += list(base + row)
        sites += list(site)
        codes += list(code)
        base, frontier = next_base, jax.tree.map(lambda x, f=fresh: x[f], grown)
        levels.append(frontier)
    plans = jax.tree.map(lambda *xs: np.concatenate(xs), *levels)
    return PlanGraph(plans, *(np.asarray(x, np.int32) for x in (parent, child, sites, codes)))
