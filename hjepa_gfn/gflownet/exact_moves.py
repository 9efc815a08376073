"""The exact transition matrix of the back-and-forth move on an enumerated graph, in float64 (host, tests).

Acceptance depends on the paths undone and taken, not only on where they end, so the matrix sums over pairs of paths:

    T(z, z') = sum_K q(K|z) sum_{u, tau: z ~> u, |tau| = K} P_B(tau) sum_{tau': u ~> z'} P_F(tau', STOP) min(1, e^log_ratio).
"""
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet import mcmc
from hjepa_gfn.gflownet.exact import normalise
from hjepa_gfn.gflownet.schedules import Schedule

CHUNK = 1 << 20  # pairs of paths held at once


class Paths(NamedTuple):
    """Every path of an enumerated graph, the empty ones included; sorted by where they start. All [P]."""

    start: np.ndarray   # the node nearer to the root
    end: np.ndarray
    length: np.ndarray
    log_pf: np.ndarray  # of the path taken forward, STOP at its end included
    log_pb: np.ndarray  # of the same path undone


def every_path(parent, child, log_pf, log_pb, log_stop) -> Paths:
    """Enumerates paths edge by edge; log_pf, log_pb [E], log_stop [Z]."""
    parent, child = np.asarray(parent), np.asarray(child)
    log_pf, log_pb, log_stop = (np.asarray(x, np.float64) for x in (log_pf, log_pb, log_stop))
    order = np.argsort(parent, kind="stable")
    first = np.searchsorted(parent[order], np.arange(len(log_stop) + 1))
    node = np.arange(len(log_stop))
    grown = [(node, node, np.zeros(len(node)), np.zeros(len(node)))]
    while len(grown[-1][0]):
        start, end, pf, pb = grown[-1]
        ways = first[end + 1] - first[end]
        row = np.repeat(np.arange(len(end)), ways)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(ways) - ways, ways)
        edge = order[first[end[row]] + nth]
        grown.append((start[row], child[edge], pf[row] + log_pf[edge], pb[row] + log_pb[edge]))
    length = np.repeat(np.arange(len(grown)), [len(level[0]) for level in grown])
    start, end, pf, pb = (np.concatenate(level) for level in zip(*grown, strict=True))
    by_start = np.argsort(start, kind="stable")
    return Paths(*(x[by_start] for x in (start, end, length, pf + log_stop[end], pb)))


def transition_matrix(
    paths: Paths, depth: np.ndarray, log_r: np.ndarray, schedule: Schedule, step: int = 0,
    log_ratio: Callable[[mcmc.Move], jnp.ndarray] = mcmc.log_accept_ratio,
) -> tuple[np.ndarray, float]:
    """(T float64 [Z, Z], the largest |sum of the proposals of a state - 1|); refused proposals stay where they are.

    depth int [Z], log_r [Z] of one context. `log_ratio` is what the chain itself accepts with.
    """
    size = len(log_r)
    moved, proposed = np.zeros(size * size), np.zeros(size)
    with jax.enable_x64(True):
        log_k = np.asarray(schedule.log_prob(jnp.asarray(paths.length), jnp.asarray(depth[paths.end]), step))
        ratio_of = jax.jit(log_ratio)
        for back, forth in _pairs(paths, log_k):
            old, new = paths.end[back], paths.end[forth]
            rows = (log_r[old], log_r[new], paths.log_pb[back], paths.log_pf[forth], paths.log_pb[forth], paths.log_pf[back],
                    log_k[back], log_k[forth])
            # padded to powers of two: few programs to compile
            pad = (1 << int(np.ceil(np.log2(len(old))))) - len(old)
            ratio = np.asarray(ratio_of(mcmc.Move(*(jnp.asarray(np.pad(x, (0, pad))) for x in rows))))[: len(old)]
            chance = np.exp(log_k[back] + paths.log_pb[back] + paths.log_pf[forth])
            proposed += np.bincount(old, chance, size)
            moved += np.bincount(old * size + new, chance * np.exp(np.minimum(ratio, 0.0)), size * size)
    matrix = moved.reshape(size, size)
    matrix[np.diag_indices(size)] += 1.0 - matrix.sum(1)
    return matrix, float(np.abs(proposed - 1.0).max())


def _pairs(paths: Paths, log_k: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(path undone, path taken) of every proposal, a chunk at a time: both start in the same u, and q allows the first."""
    begin = np.searchsorted(paths.start, paths.start)
    count = np.searchsorted(paths.start, paths.start, side="right") - begin
    back = np.flatnonzero(np.isfinite(log_k))
    chunk = np.cumsum(count[back]) // CHUNK
    for part in np.split(back, np.flatnonzero(np.diff(chunk)) + 1):
        ways = count[part]
        nth = np.arange(ways.sum()) - np.repeat(np.cumsum(ways) - ways, ways)
        yield np.repeat(part, ways), np.repeat(begin[part], ways) + nth


def stationary_error(matrix: np.ndarray, log_r: np.ndarray) -> float:
    """max |pi T - pi| with pi = R/Z."""
    p = np.exp(normalise(log_r)[0])
    return float(np.abs(p @ matrix - p).max())
