"""Every state and labelled edge of a flat environment below a root, on the host: for exact checks of small cases."""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.exact import jensen_shannon, normalise, total_variation
from hjepa_gfn.gflownet.policy import Network, log_policy


class Graph(NamedTuple):
    """States by depth (leaves [Z, ...], the root first) and labelled edges by the depth of their parents; parallel edges are
    kept apart."""

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
def _log_policy(env: FlatEnvironment, network: Network, params: Any, states: Any) -> jnp.ndarray:
    return log_policy(env, network, params, states)


def enumerate_graph(env: FlatEnvironment, root: Any = None) -> Graph:
    """Walks all legal actions from `root` (leaves [1, ...]; the environment's by default), level by level."""
    root = env.root(1) if root is None else root
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


def policy_table(env: FlatEnvironment, network: Network, params: Any, states: Any, chunk: int = 16384) -> np.ndarray:
    """log P_F float32 [Z, A+1] (STOP last) of states [Z, ...], in chunks; compiled once for each `network` and size."""
    size = len(jax.tree.leaves(states)[0])
    call = lambda x: _call(lambda y: _log_policy(env, network, params, y), x)  # noqa: E731
    return np.concatenate([call(_take(states, slice(i, i + chunk))) for i in range(0, size, chunk)])


def terminal_log_probs(graph: Graph, table: np.ndarray) -> np.ndarray:
    """log P(z) = log P_F(reach z) + log P_F(STOP|z), float64 [Z], of a `policy_table` [Z, A+1]; one pass over the depths."""
    table = np.asarray(table, np.float64)
    reach = np.zeros(len(graph.depth))
    reach[0] = 1.0
    step = np.exp(table[graph.parent, graph.action])
    first = np.searchsorted(graph.depth[graph.parent], np.arange(graph.depth.max() + 2))
    for start, end in zip(first[:-1], first[1:]):  # parents of one depth are complete before they are read
        edge = slice(start, end)
        reach += np.bincount(graph.child[edge], reach[graph.parent[edge]] * step[edge], minlength=len(reach))
    with np.errstate(divide="ignore"):
        return np.log(reach) + table[:, -1]


def terminal_distribution(env: FlatEnvironment, network: Network, params: Any, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The exact distribution of where P_F stops: (indices of the states that can, log P of them)."""
    found = terminal_log_probs(graph, policy_table(env, network, params, graph.states))
    ends = np.flatnonzero(_call(_compiled(env, "stop_mask"), graph.states))
    return ends, found[ends]


def log_target(env: FlatEnvironment, graph: Graph) -> tuple[np.ndarray, float]:
    """(log R/Z float64 [Z], -inf where STOP is illegal; log Z) of the environment's own reward."""
    can = np.asarray(_call(_compiled(env, "stop_mask"), graph.states))
    log_p, log_z = normalise(np.where(can, np.float64(_call(_compiled(env, "log_reward"), graph.states)), -np.inf))
    return log_p, float(log_z)


def exact_metrics(env: FlatEnvironment, network: Network, params: Any, graph: Graph | None = None) -> dict[str, float]:
    """Distances between the policy's exact terminal distribution and R/Z: total variation, JSD (nats); and the true log Z."""
    graph = graph or enumerate_graph(env)
    target, log_z = log_target(env, graph)
    found = terminal_log_probs(graph, policy_table(env, network, params, graph.states))
    return {"tv": float(total_variation(found, target)), "jsd": float(jensen_shannon(found, target)), "log_z": log_z}
