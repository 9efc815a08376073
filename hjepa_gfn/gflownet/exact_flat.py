"""Exact terminal distributions of policies over enumerable flat environments: dynamic programming in float64 on the host.

The environment lists its states with `all_states()` int32 [S, D], sorted by depth.
"""
from typing import Any, NamedTuple

import jax
import numpy as np

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.exact import normalise, total_variation
from hjepa_gfn.gflownet.policy import Network, log_policy


class FlatGraph(NamedTuple):
    """All states and labelled edges of an environment; edges are sorted by the depth of their parents."""

    states: np.ndarray      # int32 [S, D], by depth; the root is the first
    parent: np.ndarray      # int [E] index into states
    action: np.ndarray      # int [E]
    child: np.ndarray       # int [E]
    first: np.ndarray       # int [T + 2]: the edges out of depth d are first[d] .. first[d + 1]
    log_reward: np.ndarray  # float64 [S], -inf where STOP is illegal

    @property
    def log_target(self) -> np.ndarray:
        """log R/Z, float64 [S]."""
        return normalise(self.log_reward)[0]

    @property
    def log_z(self) -> float:
        """log sum_z R(z)."""
        return normalise(self.log_reward)[1]


def flat_graph(env: FlatEnvironment) -> FlatGraph:
    """Enumerates `env`."""
    states = np.asarray(env.all_states(), np.int32)
    parent, action = np.nonzero(np.asarray(env.forward_mask(states)))
    children = np.asarray(jax.jit(env.forward)(states[parent], action.astype(np.int32))[0], np.int32)
    child = _lookup(states, children)
    depth = np.asarray(env.depth(states))
    first = np.searchsorted(depth[parent], np.arange(env.horizon + 2))
    log_reward = np.where(np.asarray(env.stop_mask(states)), np.asarray(env.log_reward(states), np.float64), -np.inf)
    return FlatGraph(states, parent, action, child, first, log_reward)


def _lookup(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """int [N]: where each of rows [N, D] stands in table [S, D]."""
    key = lambda x: np.ascontiguousarray(x).view([("", x.dtype)] * x.shape[1])[:, 0]
    order = np.argsort(key(table))
    return order[np.searchsorted(key(table)[order], key(rows))]


def terminal_log_probs(graph: FlatGraph, log_pf: np.ndarray) -> np.ndarray:
    """log P(z) = log P_F(reach z) + log P_F(STOP|z), float64 [S], of log_pf [S, A+1] (STOP last)."""
    log_pf = np.asarray(log_pf, np.float64)
    reach = np.zeros(len(graph.states))
    reach[0] = 1.0
    step = np.exp(log_pf[graph.parent, graph.action])
    for start, end in zip(graph.first[:-1], graph.first[1:]):  # parents of one depth are complete before they are read
        edge = slice(start, end)
        reach += np.bincount(graph.child[edge], reach[graph.parent[edge]] * step[edge], minlength=len(reach))
    with np.errstate(divide="ignore"):
        return np.log(reach) + log_pf[:, -1]


def jensen_shannon(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """JSD = 1/2 KL(p|m) + 1/2 KL(q|m), m = (p + q)/2, in nats; between 0 and log 2."""
    p, q = np.exp(log_p), np.exp(log_q)
    middle = (p + q) / 2
    kl = lambda x: np.sum(x[x > 0] * np.log(x[x > 0] / middle[x > 0]))
    return float(kl(p) / 2 + kl(q) / 2)


def policy_table(env: FlatEnvironment, network: Network, params: Any, states: np.ndarray, chunk: int = 16384) -> np.ndarray:
    """log P_F float32 [S, A+1] of states [S, D], in chunks of one shape."""
    run = jax.jit(lambda params, x: log_policy(env, network, params, x))
    size = min(chunk, len(states))
    padded = np.concatenate([states, np.repeat(states[:1], -len(states) % size, axis=0)])
    return np.concatenate([run(params, rows) for rows in padded.reshape(-1, size, *states.shape[1:])])[: len(states)]


def exact_metrics(env: FlatEnvironment, network: Network, params: Any, graph: FlatGraph | None = None) -> dict[str, float]:
    """Distances between the policy's exact terminal distribution and R/Z: total variation, JSD (nats); and the true log Z."""
    graph = graph or flat_graph(env)
    found = terminal_log_probs(graph, policy_table(env, network, params, graph.states))
    target = graph.log_target
    return {"tv": total_variation(found, target), "jsd": jensen_shannon(found, target), "log_z": graph.log_z}
