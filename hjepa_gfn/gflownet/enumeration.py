"""Every state and labelled edge of a flat environment below a root, on the host: for exact checks of small cases."""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.exact import terminal_log_probs
from hjepa_gfn.gflownet.policy import LogProbs, Network, log_probs


class Graph(NamedTuple):
    """States sorted by depth (leaves [Z, ...], the root first) and labelled edges; parallel edges are kept apart."""

    states: Any
    depth: np.ndarray    # int [Z]
    parent: np.ndarray   # int [E]
    child: np.ndarray    # int [E]
    action: np.ndarray   # int [E]
    undo: np.ndarray     # int [E]


def _rows(states: Any) -> np.ndarray:
    """States as rows of integers [Z, D], equal where the states are."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(states)], axis=-1)


def _take(states: Any, index: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], states)


def _call(fn: Callable[..., Any], *arguments: Any) -> Any:
    """fn of rows [n, ...], padded to a power of two (at least 64) with the first row, lest each n compile anew."""
    n = len(jax.tree.leaves(arguments)[0])
    size = max(64, 1 << (n - 1).bit_length())
    padded = jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], size - n, 0)]), arguments)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:n], fn(*padded))


@functools.lru_cache
def _compiled(env: FlatEnvironment, name: str) -> Callable[..., Any]:
    return jax.jit(getattr(env, name))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_probs(env: FlatEnvironment, network: Network, params: Any, states: Any) -> LogProbs:
    return log_probs(env, network(params, env.features(states)), states)


def enumerate_graph(env: FlatEnvironment, root: Any) -> Graph:
    """Walks all legal actions from `root` (leaves [1, ...]), level by level."""
    forward, mask = _compiled(env, "forward"), _compiled(env, "forward_mask")
    level = jax.tree.map(np.asarray, root)
    levels, edges, offset = [level], [], 0
    while True:
        parent, action = np.nonzero(_call(mask, level))
        size = len(jax.tree.leaves(level)[0])
        if not len(parent):
            break
        child, undo = _call(forward, _take(level, parent), action.astype(np.int32))
        _, first, inverse = np.unique(_rows(child), axis=0, return_index=True, return_inverse=True)
        edges.append((offset + parent, offset + size + inverse.reshape(-1), action, undo))
        level = _take(child, first)
        levels.append(level)
        offset += size
    states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *levels)
    parent, child, action, undo = (np.concatenate(column) for column in zip(*edges))
    return Graph(states, _call(_compiled(env, "depth"), states), parent, child, action, undo)


def terminal_distribution(env: FlatEnvironment, network: Network, params: Any, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The exact distribution of where P_F stops: (indices of the states that can, log P of them), by dynamic programming.

    Compiled once for each `network` and size of graph.
    """
    found = _call(lambda states: _log_probs(env, network, params, states), graph.states)
    log_pf = found.action[graph.parent, graph.action]
    ends = np.flatnonzero(_call(_compiled(env, "stop_mask"), graph.states))
    return ends, terminal_log_probs(graph.parent, graph.child, log_pf, found.stop)[ends]
