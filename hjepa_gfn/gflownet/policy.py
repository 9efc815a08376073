"""Policies over flat environments: from raw logits to behaviour, and trajectories re-evaluated in one flat batch."""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.rollout import Behaviour, Choice, Exploration, Trajectory, sample_index

NEG = -1e9


class Logits(NamedTuple):
    """What a network says of states [...]; masks are applied by `Policy`. A `None` undo means the uniform P_B."""

    action: jnp.ndarray               # [..., A + 1] of the actions, and of STOP last
    undo: jnp.ndarray | None = None   # [..., U]
    log_flow: jnp.ndarray | None = None  # [...] log F(z), or log F~(z) in the forward-looking losses


class LogProbs(NamedTuple):
    """Normalised log probabilities; what is illegal has `NEG`."""

    action: jnp.ndarray    # [..., A]  log P_F(action|z), with the factor of not stopping
    stop: jnp.ndarray      # [...]     log P_F(STOP|z)
    undo: jnp.ndarray      # [..., U]  log P_B(undo|z)
    log_flow: jnp.ndarray  # [...]     zero where there is no flow head


class Path(NamedTuple):
    """What the losses need of a batch of trajectories."""

    log_pf: jnp.ndarray    # [B, T]    of each edge, 0 past the end
    log_pb: jnp.ndarray    # [B, T]    of the same edges
    log_stop: jnp.ndarray  # [B, T+1]  log P_F(STOP|z_t)
    log_flow: jnp.ndarray  # [B, T+1]  the flow head's
    length: jnp.ndarray    # int32 [B]

    @property
    def stop_at_end(self) -> jnp.ndarray:
        """log P_F(STOP|z_n) [B]."""
        return jnp.take_along_axis(self.log_stop, self.length[:, None], axis=1, mode="clip")[:, 0]


Network = Callable[[Any, jnp.ndarray], Logits]  # (params, features [..., F]) -> Logits


def log_probs(env: FlatEnvironment, logits: Logits, states: Any) -> LogProbs:
    """Masks and normalises `logits` [B, ...] of `states` [B, ...]."""
    can, may_stop, undoable = env.forward_mask(states), env.stop_mask(states), env.backward_mask(states)
    legal = jnp.concatenate([can, may_stop[..., None]], axis=-1)
    ahead = jax.nn.log_softmax(jnp.where(legal, logits.action, NEG), axis=-1)
    ahead = jnp.where(legal, ahead, NEG)
    back = jnp.zeros(undoable.shape) if logits.undo is None else logits.undo
    back = jax.nn.log_softmax(jnp.where(undoable, back, NEG), axis=-1)
    flow = jnp.zeros(may_stop.shape) if logits.log_flow is None else logits.log_flow
    return LogProbs(ahead[..., :-1], ahead[..., -1], back, flow)


def behaviour(
    env: FlatEnvironment, network: Network, params: Any, explore: Exploration = Exploration()  # noqa: B008 (immutable)
) -> Behaviour:
    """(uniform [3, B], states) -> Choice: P_F tempered by 1/temperature, mixed with `epsilon` of uniform choice; P_B as is."""

    def behave(uniform: jnp.ndarray, states: Any) -> Choice:
        found = log_probs(env, network(params, env.features(states)), states)
        ahead = jnp.concatenate([found.action, found.stop[:, None]], axis=-1)
        weights = ahead / explore.temperature
        if explore.epsilon:
            mixed = uniform[2] < explore.epsilon
            weights = jnp.where(mixed[:, None], jnp.where(ahead > NEG / 2, 0.0, NEG), weights)
        drawn = sample_index(uniform[0], weights)
        return Choice(drawn == env.num_actions, jnp.minimum(drawn, env.num_actions - 1), sample_index(uniform[1], found.undo))

    return behave


def noise_of(env: FlatEnvironment, key: jnp.ndarray, batch: int) -> jnp.ndarray:
    """The uniform random numbers [T, 3, B] of one rollout."""
    return jax.random.uniform(key, (env.horizon, 3, batch), minval=1e-7)


def evaluate(
    env: FlatEnvironment, network: Network, params: Any, trajectory: Trajectory, capacity: int | None = None
) -> Path:
    """Log probabilities along trajectories, all states in one flat batch, with gradients to `params`.

    Args:
      capacity: the batch has at most this many real states, sum_b (length_b + 1): only so many rows go through the network, the
        real ones. None: all B (T+1).
    """
    batch, steps = trajectory.action.shape[0], trajectory.horizon
    total = batch * (steps + 1)
    # what is read off each state: the action taken there, and the undo of the edge that led there
    ahead = jnp.pad(trajectory.action, ((0, 0), (0, 1)))
    back = jnp.pad(trajectory.undo, ((0, 0), (1, 0)))
    flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), (trajectory.states, ahead, back))
    if compact := capacity is not None and capacity < total:
        place = jnp.cumsum(trajectory.real.reshape(-1)) - 1  # of each real state among the real states
        target = jnp.where(trajectory.real.reshape(-1), place, capacity)
        source = jnp.zeros(capacity, jnp.int32).at[target].set(jnp.arange(total, dtype=jnp.int32), mode="drop")
        flat = jax.tree.map(lambda x: jnp.take(x, source, axis=0, mode="clip"), flat)
    states, ahead, back = flat
    found = log_probs(env, network(params, env.features(states)), states)
    pick = lambda table, index: jnp.take_along_axis(table, index[:, None], axis=-1, mode="clip")[:, 0]  # noqa: E731
    values = jnp.stack([pick(found.action, ahead), pick(found.undo, back), found.stop, found.log_flow])
    if compact:
        values = jnp.take(values, place, axis=1, mode="clip")
    forward, backward, stop, flow = values.reshape(4, batch, steps + 1)
    edge = trajectory.edge
    return Path(jnp.where(edge, forward[:, :-1], 0.0), jnp.where(edge, backward[:, 1:], 0.0), stop, flow, trajectory.length)


def log_policy(env: FlatEnvironment, network: Network, params: Any, states: Any) -> jnp.ndarray:
    """log P_F float32 [B, A+1] of states [B, ...]: the actions, then STOP; `NEG` where illegal."""
    found = log_probs(env, network(params, env.features(states)), states)
    return jnp.concatenate([found.action, found.stop[:, None]], axis=-1)
