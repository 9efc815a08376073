"""Parallel Metropolis-Hastings chains in one scan, and what they are worth: acceptance by K, autocorrelation time."""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

State = Any
# (key, states [B, ...], number of the move) -> (states after it, accepted bool [B], steps K int32 [B])
ChainStep = Callable[[jnp.ndarray, State, jnp.ndarray], tuple[State, jnp.ndarray, jnp.ndarray]]


class Acceptance(NamedTuple):
    """Moves proposed and accepted for each number of steps K, int32 [longest + 1]."""

    proposed: jnp.ndarray
    accepted: jnp.ndarray

    @property
    def rate(self) -> jnp.ndarray:
        """Share accepted for each K, nan where none was proposed."""
        return self.accepted / self.proposed

    @property
    def overall(self) -> jnp.ndarray:
        """Share accepted of all moves []."""
        return self.accepted.sum() / jnp.maximum(self.proposed.sum(), 1)


def run_chains(
    step_fn: ChainStep, state: State, keys: jnp.ndarray, longest: int, observe: Callable[[State], Any] | None = None
) -> tuple[State, Acceptance, Any]:
    """Runs len(keys) moves of B parallel chains, `state` [B, ...].

    Args:
      keys: one random key a move (`jax.random.split(key, moves)`); move number i gets step i.
      longest: the largest K counted.
      observe: what to keep of the states after each move; leaves [moves, B, ...] come back (None: nothing).
    Returns: (last states, acceptance by K over all chains and moves, observations).
    """
    zeros = jnp.zeros(longest + 1, jnp.int32)

    def body(carry, move):
        state, seen = carry
        key, number = move
        state, accepted, steps = step_fn(key, state, number)
        seen = Acceptance(seen.proposed.at[steps].add(1), seen.accepted.at[steps].add(accepted.astype(jnp.int32)))
        return (state, seen), observe(state) if observe else None

    (state, seen), trace = jax.lax.scan(body, (state, Acceptance(zeros, zeros)), (keys, jnp.arange(keys.shape[0])))
    return state, seen, trace


def autocorrelation(series: np.ndarray) -> np.ndarray:
    """rho(t), t = 0..N-1, of series [chains, N] or [N]: autocovariances about the mean of all chains, averaged over chains.

    One mean for all chains, so that chains stuck in different places show as correlated, not as constant.
    """
    x = np.atleast_2d(np.asarray(series, np.float64))
    x = x - x.mean()
    length = x.shape[1]
    spectrum = np.fft.rfft(x, n=2 * length, axis=1)  # padded: no wrapping round
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :length].mean(0) / length
    return covariance / covariance[0] if covariance[0] > 0 else np.ones(length)


def integrated_autocorrelation_time(series: np.ndarray, window: float = 5.0) -> float:
    """tau = 1 + 2 sum_{t=1}^{W} rho(t), W the smallest with W >= window * max(tau(W), 1) (Sokal 1997), in moves.

    series: [chains, N] or [N] of one observable. A mean over n moves varies like one over n / tau independent draws. A series
    that never changes, or for which no W is large enough, has tau = N. Trust it where N is at least some 50 tau.
    """
    rho = autocorrelation(series)
    tau = 2.0 * np.cumsum(rho) - 1.0
    enough = np.arange(len(rho)) >= window * np.maximum(tau, 1.0)
    return float(tau[np.argmax(enough)] if enough.any() else len(rho))


def effective_sample_size(series: np.ndarray, window: float = 5.0) -> float:
    """chains * N / tau of series [chains, N] or [N]."""
    return float(np.size(series) / integrated_autocorrelation_time(series, window))
