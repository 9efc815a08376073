"""Every state and labelled edge of a flat environment below given roots, on the host: for exact checks of small cases."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.exact import terminal_log_probs
from hjepa_gfn.gflownet.policy import Network, log_probs


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
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(states)], axis=-1)


def enumerate_graph(env: FlatEnvironment, root: Any) -> Graph:
    """Walks all legal actions from `root` (leaves [1, ...]), level by level."""
    level, levels, edges, offset = root, [root], [], 0
    while True:
        parent, action = np.nonzero(np.asarray(env.forward_mask(level)))
        size = len(jax.tree.leaves(level)[0])
        if not len(parent):
            break
        child, undo = env.forward(jax.tree.map(lambda leaf: leaf[parent], level), jnp.asarray(action))
        _, first, inverse = np.unique(_rows(child), axis=0, return_index=True, return_inverse=True)
        edges.append((offset + parent, offset + size + inverse.reshape(-1), action, np.asarray(undo)))
        level = jax.tree.map(lambda leaf: leaf[first], child)
        levels.append(level)
        offset += size
    states = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *levels)
    parent, child, action, undo = (np.concatenate(column) for column in zip(*edges))
    return Graph(states, np.asarray(env.depth(states)), parent, child, action, undo)


def terminal_distribution(env: FlatEnvironment, network: Network, params: Any, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The exact distribution of where P_F stops: (indices of the states that can, log P of them), by dynamic programming."""
    found = log_probs(env, network(params, env.features(graph.states)), graph.states)
    log_pf = np.asarray(found.action)[graph.parent, graph.action]
    ends = np.flatnonzero(np.asarray(env.stop_mask(graph.states)))
    return ends, terminal_log_probs(graph.parent, graph.child, log_pf, found.stop)[ends]
