"""Replay of terminal states: a ring buffer as a pytree of arrays, pure functions that jit.

Only terminals are kept. What is sampled gets a fresh backward trajectory from the current P_B (`replayed_trajectories`), so no
trajectory is ever stale.
"""
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.environment import Environment
from hjepa_gfn.gflownet.rollout import Behaviour, Trajectory, sample_index, sample_trajectories

PRIORITIES = ("uniform", "reward", "rank")


class Replay(NamedTuple):
    """The buffer; the oldest entries are overwritten first. Slots from `size` on are empty."""

    terminal: Any              # leaves [capacity, ...]
    log_reward: jnp.ndarray    # [capacity]
    name: jnp.ndarray          # [capacity] integers that tell terminals apart; all zero where they are not used
    size: jnp.ndarray          # int32 []
    cursor: jnp.ndarray        # int32 [] the slot that is written next

    @property
    def capacity(self) -> int:
        return self.log_reward.shape[0]


def init_replay(example: Any, capacity: int) -> Replay:
    """An empty buffer for terminals like `example` (leaves [B, ...]; values do not matter)."""
    terminal = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), example)
    zero = jnp.zeros((), jnp.int32)
    return Replay(terminal, jnp.zeros(capacity), jnp.zeros(capacity, jnp.uint32), zero, zero)


def add(
    replay: Replay, terminal: Any, log_reward: jnp.ndarray, name: jnp.ndarray | None = None, keep: jnp.ndarray | None = None
) -> Replay:
    """Writes a batch of terminals [B, ...], B <= capacity.

    Args:
      name: integers [B]; with them, a terminal that is in the buffer, or earlier in the batch, is not written again.
      keep: bool [B] the rows to write (default: all).
    """
    batch, capacity = log_reward.shape[0], replay.capacity
    if batch > capacity:
        raise ValueError(f"a batch of {batch} terminals does not fit into a replay buffer of {capacity}")
    keep = jnp.ones(batch, bool) if keep is None else keep
    if name is None:
        name = jnp.zeros(batch, jnp.uint32)
    else:
        name = name.astype(jnp.uint32)
        held = (name[:, None] == replay.name) & (jnp.arange(capacity) < replay.size)
        twin = jnp.tril((name[:, None] == name) & keep, -1)  # an earlier row of the same name
        keep = keep & ~held.any(1) & ~twin.any(1)
    slot = (replay.cursor + jnp.cumsum(keep) - 1) % capacity
    slot = jnp.where(keep, slot, capacity)  # out of bounds: dropped
    put = lambda old, new: old.at[slot].set(new, mode="drop")  # noqa: E731
    written = keep.sum().astype(jnp.int32)
    return Replay(
        jax.tree.map(put, replay.terminal, terminal), put(replay.log_reward, log_reward), put(replay.name, name),
        jnp.minimum(replay.size + written, capacity), (replay.cursor + written) % capacity)


def slot_log_probs(replay: Replay, priority: str = "uniform", temperature: float = 1.0) -> jnp.ndarray:
    """log probability [capacity] with which `sample` draws each slot; -inf for empty ones.

        uniform   1 / size
        reward    R^(1/temperature) / sum of the same
        rank      rank^(-1/temperature) / sum, rank 1 the largest reward (Schaul et al. 2016)
    """
    filled = jnp.arange(replay.capacity) < replay.size
    reward = jnp.where(filled, replay.log_reward, -jnp.inf)
    if priority == "uniform":
        score = jnp.zeros(replay.capacity)
    elif priority == "reward":
        score = reward / temperature
    elif priority == "rank":
        rank = 1 + jnp.argsort(jnp.argsort(-reward))
        score = -jnp.log(rank) / temperature
    else:
        raise ValueError(f"priority {priority!r}: one of {', '.join(PRIORITIES)}")
    return jax.nn.log_softmax(score, where=filled)


def sample(
    replay: Replay, key: jnp.ndarray, batch: int, priority: str = "uniform", temperature: float = 1.0
) -> tuple[Any, jnp.ndarray, jnp.ndarray]:
    """Draws `batch` slots with replacement: (terminals [batch, ...], their log R, log probability of each draw).

    The buffer must hold something. Weights exp(-log probability) / size turn means over draws into means over the buffer.
    """
    log_prob = slot_log_probs(replay, priority, temperature)
    uniform = jax.random.uniform(key, (batch,), minval=1e-7)
    slot = sample_index(uniform, jnp.broadcast_to(log_prob, (batch, replay.capacity)))
    chex.assert_shape(slot, (batch,))
    return jax.tree.map(lambda x: x[slot], replay.terminal), replay.log_reward[slot], log_prob[slot]


def replayed_trajectories(env: Environment, behave: Behaviour, noise: jnp.ndarray, terminal: Any) -> Trajectory:
    """Fresh trajectories to `terminal` [B, ...], drawn backward by `behave`; noise as in `sample_trajectories`."""
    return sample_trajectories(env, behave, noise, terminal, forward=False)
