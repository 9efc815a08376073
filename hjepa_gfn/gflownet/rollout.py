"""One generic rollout for both directions: behaviour is passed in as a function.

Used forward (edit until STOP), backward (undo until the root or for K steps), or both at once on different rows.
Nothing here needs gradients: losses re-evaluate the trajectory in one flat batch.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.environment import Environment


class Trajectory(NamedTuple):
    """Forward-ordered trajectories. Leaves of `states` are [B, T+1, ...]; past `length` the last state is repeated."""

    states: Any
    action: Any             # leaves int32 [B, T]: the action from states[t]
    undo: Any               # leaves int32 [B, T]: the undo of the same edge, from states[t+1]
    length: jnp.ndarray     # int32 [B]

    @property
    def horizon(self) -> int:
        return jax.tree.leaves(self.states)[0].shape[1] - 1

    @property
    def edge(self) -> jnp.ndarray:
        """bool [B, T]: which steps are real."""
        return jnp.arange(self.horizon) < self.length[:, None]

    @property
    def real(self) -> jnp.ndarray:
        """bool [B, T+1]: which states are real."""
        return jnp.arange(self.horizon + 1) <= self.length[:, None]

    @property
    def first(self) -> Any:
        return jax.tree.map(lambda x: x[:, 0], self.states)

    @property
    def final(self) -> Any:
        """The terminal states z_n."""
        return jax.tree.map(lambda x: x[:, -1], self.states)


class Exploration(NamedTuple):
    """How sampling departs from the policy; the losses always use the untempered probabilities."""

    temperature: float = 1.0
    epsilon: float = 0.0  # share of uniform choice among what is legal


class Choice(NamedTuple):
    """What a policy decides in each of B states: whether to STOP, the edge to take, and the edge to undo."""

    stop: jnp.ndarray  # bool [B]
    action: Any        # leaves [B]; read on rows that go forward
    undo: Any          # leaves [B]; read on rows that go backward


Behaviour = Callable[[jnp.ndarray, Any], Choice]


def sample_trajectories(
    env: Environment, behave: Behaviour, noise: jnp.ndarray, start: Any, forward: jnp.ndarray | bool = True,
    steps: jnp.ndarray | None = None,
) -> Trajectory:
    """Samples one trajectory per row of `start` [B, ...], in forward order.

    Rows with `forward` edit until they STOP, at most T times; the others undo `steps` int32 [B] edges (default: all), so their
    last state is `start`. Both directions share one loop, which ends as soon as every row has: at most T calls of `behave`.

    Args:
      behave: (noise[t], states [B, ...]) -> Choice.
      noise: [T, ..., B] uniform random numbers, or whatever else `behave` draws from.
      forward: bool [B], or True or False for all rows (the other direction is then not even computed).
    """
    horizon = noise.shape[0]
    batch = jax.tree.leaves(start)[0].shape[0]
    ahead = jnp.full(batch, forward) if isinstance(forward, bool) else forward
    # the static cases leave out the direction that no row takes
    forth, back = forward is not False, forward is not True
    if back:
        undone = env.depth(start) if steps is None else steps
        limit = jnp.where(ahead, horizon, undone) if forth else undone
    else:
        limit = jnp.full(batch, horizon)

    def step(t, state, active):
        choice = behave(jax.lax.dynamic_index_in_dim(noise, t, keepdims=False), state)
        active &= limit > t
        if forth:
            active &= ~(choice.stop & ahead)
            after, undo = env.forward(state, choice.action)
            record = (choice.action, undo)
        if back:
            smaller, redo = env.backward(state, choice.undo)
            past = (redo, choice.undo)
            after, record = choose(ahead, (after, record), (smaller, past)) if forth else (smaller, past)
        return choose(active, after, state), record, active

    def body(carry):
        t, state, active, length, states, records = carry
        state, record, active = step(t, state, active)
        write = lambda rows, row, at: jax.tree.map(  # noqa: E731
            lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, at, 0), rows, row)
        return t + 1, state, active, length + active, write(states, state, t + 1), write(records, record, t)

    blank = lambda shape, length: jnp.zeros((length, *shape.shape), shape.dtype)  # noqa: E731
    _, record, _ = jax.eval_shape(step, 0, start, ahead)
    states = jax.tree.map(lambda x: blank(x, horizon + 1).at[0].set(x), start)
    records = jax.tree.map(lambda x: blank(x, horizon), record)
    begin = (0, start, jnp.ones(batch, bool), jnp.zeros(batch, jnp.int32), states, records)
    _, _, _, length, states, records = jax.lax.while_loop(
        lambda carry: (carry[0] < horizon) & carry[2].any(), body, begin)
    states, (action, undo) = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), (states, records))
    return Trajectory(
        in_forward_order(states, length, ahead), *in_forward_order((action, undo), length - 1, ahead), length)


def in_forward_order(values: Any, last: jnp.ndarray, forward: jnp.ndarray) -> Any:
    """Values of a walk in forward order: out[b, t] = values[b, min(t, last)] on `forward` rows, values[b, max(last - t, 0)] on
    the others; what the last (first) value is repeated past the end. Leaves [B, T, ...]; last int32 [B], -1 for none."""

    def one(x):
        t, end = jnp.arange(x.shape[1]), jnp.maximum(last, 0)[:, None]
        index = jnp.where(forward[:, None], jnp.minimum(t, end), jnp.maximum(end - t, 0))
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


def cut(trajectory: Trajectory, key: jnp.ndarray, size: int) -> Trajectory:
    """A window of `size` successive edges of each trajectory, its place drawn uniformly (shorter trajectories stay whole).

    In the stop form every sub-trajectory balances by itself, so a balance loss on windows has the same zero as on whole
    trajectories, at O(size) instead of O(T) network passes.
    """
    size = min(size, trajectory.horizon)
    begin = jax.random.randint(key, trajectory.length.shape, 0, jnp.maximum(trajectory.length - size, 0) + 1)

    def part(x, wide):
        index = jnp.minimum(begin[:, None] + jnp.arange(wide), x.shape[1] - 1)
        return jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1, mode="clip")

    states = jax.tree.map(lambda x: part(x, size + 1), trajectory.states)
    action, undo = jax.tree.map(lambda x: part(x, size), (trajectory.action, trajectory.undo))
    return Trajectory(states, action, undo, jnp.clip(trajectory.length - begin, 0, size))
