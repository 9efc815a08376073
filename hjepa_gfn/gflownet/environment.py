"""What a GFlowNet needs to know of a state space: a graded graph of labelled edges, as pure functions over batches.

States, actions and undos are pytrees whose leaves begin with a batch axis [B, ...]. An *action* labels a forward edge given
its parent, an *undo* the same edge given its child; the two label one to one, also where several edges join the same two
states (parallel edges pair off label by label; pairing over unique parents is silently wrong). STOP is no action: it leads
from a state to the terminal copy of it, whose only parent that state is.
"""
from typing import Any, Protocol

import jax.numpy as jnp

State = Any
Action = Any
Undo = Any


class Environment(Protocol):
    """A graded state graph.

    Attributes:
      horizon: T, the most edges between the root and a state.
    """

    horizon: int

    def root(self, batch: int) -> State:
        """The root of each of `batch` rows."""

    def depth(self, state: State) -> jnp.ndarray:
        """int32 [B]: edges between the root and each state (the graph is graded: every path has this length)."""

    def forward(self, state: State, action: Action) -> tuple[State, Undo]:
        """Takes one legal forward edge per row; returns the child and the undo that leads back."""

    def backward(self, state: State, undo: Undo) -> tuple[State, Action]:
        """Undoes one legal edge per row; returns the parent and the action that leads here again."""


class FlatEnvironment(Environment, Protocol):
    """An environment whose actions and undos are single integers, with masks and network inputs (hypergrid, bit sequences).

    Attributes:
      num_actions, num_undos: sizes A and U of the two label sets.
    """

    num_actions: int
    num_undos: int

    def forward_mask(self, state: State) -> jnp.ndarray:
        """bool [B, A]: legal actions."""

    def stop_mask(self, state: State) -> jnp.ndarray:
        """bool [B]: whether STOP is legal. A state without legal actions must be able to stop."""

    def backward_mask(self, state: State) -> jnp.ndarray:
        """bool [B, U]: legal undos; all False at the root only."""

    def features(self, state: State) -> jnp.ndarray:
        """float32 [B, F]: what a network sees."""

    def log_reward(self, state: State) -> jnp.ndarray:
        """float32 [B]: log R of states that can stop."""
