"""Exact distributions and bounds of a policy over an enumerated graph: dynamic programming in float64 (host, tests).

A graph is given by its labelled edges `parent`, `child` int [E]; its nodes are sorted by number of edits, the root is node 0.
Arrays over edges or nodes may carry leading axes (contexts, seeds): [..., E], [..., Z].
"""
import numpy as np


def terminal_log_probs(parent, child, log_pf, log_stop) -> np.ndarray:
    """log P(z) = log P_F(reach z) + log P_F(STOP|z).

    Args:
      log_pf: [..., E] log probability of each labelled edge given its parent (with the factor of not stopping);
        log_stop: [..., Z].
    Returns: float64 [..., Z].
    """
    log_stop = np.asarray(log_stop, np.float64)
    return reach_log_probs(parent, child, log_pf, log_stop.shape[-1]) + log_stop


def reach_log_probs(parent, child, log_pf, num_nodes: int) -> np.ndarray:
    """log probability float64 [..., Z] that a forward trajectory comes through each node."""
    log_pf = np.asarray(log_pf, np.float64)
    reach = np.full((*log_pf.shape[:-1], num_nodes), -np.inf)
    reach[..., 0] = 0.0
    for e in np.argsort(child, kind="stable"):  # children are numbered after all of their parents
        reach[..., child[e]] = np.logaddexp(reach[..., child[e]], reach[..., parent[e]] + log_pf[..., e])
    return reach


def occupancy(parent, child, log_p, log_pb) -> np.ndarray:
    """Probability float64 [..., Z] that a backward trajectory from z ~ p comes through each node.

    log_p [..., Z], log_pb [..., E].
    """
    seen, pb = np.exp(np.asarray(log_p, np.float64)), np.exp(np.asarray(log_pb, np.float64))
    for e in np.argsort(child, kind="stable")[::-1]:
        seen[..., parent[e]] += seen[..., child[e]] * pb[..., e]
    return seen


def elbo(parent, child, log_pf, log_pb, log_stop, log_r) -> np.ndarray:
    """E over trajectories of P_F of the log weight log R(z) + log P_B(tau|z) - log P_F(tau, STOP): <= log Z. [...]"""
    log_pf, log_pb, log_stop, log_r = (np.asarray(x, np.float64) for x in (log_pf, log_pb, log_stop, log_r))
    reach = reach_log_probs(parent, child, log_pf, log_stop.shape[-1])
    taken = np.exp(reach[..., parent] + log_pf)
    return _mean(taken, log_pb - log_pf) + _mean(np.exp(reach + log_stop), log_r - log_stop)


def eubo(parent, child, log_pf, log_pb, log_stop, log_r) -> np.ndarray:
    """E over z ~ R/Z and tau ~ P_B(tau|z) of the same log weight: >= log Z. [...]"""
    log_pf, log_pb, log_stop, log_r = (np.asarray(x, np.float64) for x in (log_pf, log_pb, log_stop, log_r))
    log_p = log_r - log_sum(log_r)[..., None]
    taken = occupancy(parent, child, log_p, log_pb)[..., child] * np.exp(log_pb)
    return _mean(taken, log_pb - log_pf) + _mean(np.exp(log_p), log_r - log_stop)


def _mean(p: np.ndarray, value: np.ndarray) -> np.ndarray:
    """sum p value, where p = 0 nothing (the value may be infinite there)."""
    return np.sum(np.where(p > 0, p * np.where(p > 0, value, 0.0), 0.0), axis=-1)


def balanced_policy(parent, child, log_pb, log_r) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The policy that satisfies detailed balance with P_B and R: (log P_F [..., E], log P_F(STOP) [..., Z], log F [..., Z]).

    Flows from the leaves up: F(z) = R(z) + sum over edges z -> z' of F(z') P_B(z|z').
    """
    log_pb, flow = np.asarray(log_pb, np.float64), np.array(log_r, np.float64)
    through = np.zeros((*flow.shape[:-1], len(parent)))
    for e in np.argsort(child, kind="stable")[::-1]:
        through[..., e] = flow[..., child[e]] + log_pb[..., e]
        flow[..., parent[e]] = np.logaddexp(flow[..., parent[e]], through[..., e])
    return through - flow[..., parent], np.asarray(log_r) - flow, flow


def total_variation(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """TV = 1/2 sum |p - q| of normalised log distributions [..., Z]."""
    return 0.5 * np.abs(np.exp(log_p) - np.exp(log_q)).sum(-1)


def jensen_shannon(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """JS = 1/2 KL(p | m) + 1/2 KL(q | m), m = (p + q) / 2, in nats (at most log 2), of log distributions [..., Z]."""
    log_p, log_q = np.asarray(log_p, np.float64), np.asarray(log_q, np.float64)
    log_m = np.logaddexp(log_p, log_q) - np.log(2.0)
    return 0.5 * (_mean(np.exp(log_p), log_p - log_m) + _mean(np.exp(log_q), log_q - log_m))


def log_sum(log_r: np.ndarray) -> np.ndarray:
    """log sum exp over the last axis, float64."""
    log_r = np.asarray(log_r, np.float64)
    top = log_r.max(-1, keepdims=True)
    return (top + np.log(np.exp(log_r - top).sum(-1, keepdims=True)))[..., 0]


def normalise(log_r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log p [..., Z], log Z [...]) of an unnormalised float64 log measure."""
    log_z = log_sum(log_r)
    return np.asarray(log_r, np.float64) - log_z[..., None], log_z
