"""Exact distributions of a policy over an enumerated graph: forward dynamic programming in float64 (host, tests)."""
import numpy as np


def terminal_log_probs(parent, child, log_pf, log_stop) -> np.ndarray:
    """log P(z) = log P_F(reach z) + log P_F(STOP|z), for a graph whose nodes are sorted by number of edits.

    Args:
      parent, child: int [E] labelled edges; log_pf: [E] log probability of each labelled edge given its parent (with
        the factor of not stopping); log_stop: [Z].
    Returns: float64 [Z].
    """
    log_pf, log_stop = np.asarray(log_pf, np.float64), np.asarray(log_stop, np.float64)
    reach = np.full(log_stop.shape, -np.inf)
    reach[0] = 0.0
    for e in np.argsort(child, kind="stable"):  # children are numbered after all of their parents
        reach[child[e]] = np.logaddexp(reach[child[e]], reach[parent[e]] + log_pf[e])
    return reach + log_stop


def total_variation(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """TV = 1/2 sum |p - q| of two normalised log distributions."""
    return float(0.5 * np.abs(np.exp(log_p) - np.exp(log_q)).sum())


def normalise(log_r: np.ndarray) -> tuple[np.ndarray, float]:
    """(log p, log Z) of an unnormalised float64 log measure."""
    log_r = np.asarray(log_r, np.float64)
    top = log_r.max()
    log_z = float(top + np.log(np.exp(log_r - top).sum()))
    return log_r - log_z, log_z
