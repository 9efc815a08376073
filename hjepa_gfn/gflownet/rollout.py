"""One generic rollout for both directions: behaviour is passed in as a function.

Used forward (edit until STOP), backward (undo until the root or for K steps), or both at once on different rows.
Nothing here needs gradients: losses re-evaluate the trajectory in one flat batch.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Trajectory(NamedTuple):
    """Forward-ordered trajectories. Leaves of `states` are [B, T+1, ...]; past `length` the last state is repeated."""

    states: Any
    site: jnp.ndarray       # int32 [B, T] forward site
    code: jnp.ndarray       # int32 [B, T]
    backward: jnp.ndarray   # int32 [B, T] backward site in states[t+1]
    length: jnp.ndarray     # int32 [B]

    @property
    def edge(self) -> jnp.ndarray:
        """bool [B, T]: which steps are real."""
        return jnp.arange(self.site.shape[1]) < self.length[:, None]

    @property
    def real(self) -> jnp.ndarray:
        """bool [B, T+1]: which states are real."""
        return jnp.arange(self.site.shape[1] + 1) <= self.length[:, None]

    @property
    def first(self) -> Any:
        return jax.tree.map(lambda x: x[:, 0], self.states)

    @property
    def final(self) -> Any:
        """The terminal states z_n."""
        return jax.tree.map(lambda x: x[:, -1], self.states)


def rollout(
    noise: jnp.ndarray, start: Any, act: Callable[[jnp.ndarray, Any], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """Applies `act(noise[t], state) -> (next state, record)` for t = 0..T-1.

    Returns: (states with a time axis at 1: [B, T+1, ...], records [B, T, ...]).
    """

    def body(state, step_noise):
        after, record = act(step_noise, state)
        return after, (after, record)

    _, (later, records) = jax.lax.scan(body, start, noise)
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, later)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), (states, records))


def reverse_in_time(values: Any, last: jnp.ndarray, reverse: jnp.ndarray) -> Any:
    """out[b, t] = values[b, max(last[b] - t, 0)] on the rows to `reverse` bool [B]; others as they are.

    Leaves [B, T, ...].
    """

    def one(x):
        t = jnp.arange(x.shape[1])
        index = jnp.where(reverse[:, None], jnp.maximum(last[:, None] - t, 0), t)
        return jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1, mode="clip")

    return jax.tree.map(one, values)


def sample_index(uniform: jnp.ndarray, log_probs: jnp.ndarray) -> jnp.ndarray:
    """Inverse-CDF sample int32 [...] from log_probs [..., V] (any constant offset); uniform [...] in (0, 1)."""
    weight = jnp.exp(log_probs - log_probs.max(-1, keepdims=True))
    cumulative = jnp.cumsum(weight, axis=-1)
    # a compiled sum adds in blocks: it may rise by a rounding error where the weight is zero, so ask for weight as well
    hit = (cumulative >= uniform[..., None] * cumulative[..., -1:]) & (weight > 0)
    return jnp.where(hit.any(-1), jnp.argmax(hit, axis=-1), jnp.argmax(weight, axis=-1)).astype(jnp.int32)


def choose(condition: jnp.ndarray, yes: Any, no: Any) -> Any:
    """Per-row choice between two pytrees with leaves [B, ...]; condition bool [B]."""
    return jax.tree.map(
        lambda y, n: jnp.where(condition.reshape(condition.shape + (1,) * (y.ndim - 1)), y, n), yes, no)
