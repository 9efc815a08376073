"""What the loop needs to know about a run: a `Task`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

State = Any  # any pytree with a field `step` (int32 scalar), e.g. a flax.struct dataclass
Batch = Any  # any pytree of host numpy arrays; leading axis = examples
Metrics = Mapping[str, jax.Array]  # scalars


class Task(Protocol):
    """A training run, as pure functions. The loop jits them, places state and batches on the mesh and keeps the
    books."""

    total_steps: int
    train_steps: Mapping[str, Callable[[State, Batch], tuple[State, Metrics]]]
    """Name -> train step. Plain functions are jitted by the loop (state donated, shardings fixed); already jitted ones
    (see `distributed.jit_step`) are used as they are."""

    def init(self, key: jax.Array) -> State:
        """The initial state, as a traceable function; parameters may still be in Linen's logical-axes boxes.

        Randomness later in the run: `jax.random.fold_in(jax.random.key(seed), state.step)` inside the steps, or raw
        key data in the state (no typed keys)."""

    def schedule(self, step: int) -> tuple[str, ...]:
        """The names of the train steps that run in iteration `step`, in order. A function of `step` alone."""

    def batch(self, step: int, shard: Sequence[int] = (0,), num_shards: int = 1) -> Batch:
        """The host batch of iteration `step`: of its `num_shards` equal parts the ones in `shard`, in order (by default all).

        A function of its arguments alone, and each row the same however the batch is cut: this is what makes a restarted run
        the same run, on any number of hosts."""

    def finish_iteration(self, state: State) -> State:
        """`state` with `step + 1`; anything else that happens once an iteration."""
