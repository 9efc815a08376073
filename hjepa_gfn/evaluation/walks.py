"""Exploring walks from held-out levels, rolled out in the jitted world: what evaluations of the world model look at."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.exploring import WALK, initial_worlds

_trace = jax.jit(jitted.trace_states)  # compiled once for each size


class Walks(NamedTuple):
    """B episodes of T actions: percepts, actions, and the simulator's states [B, T+1, ...]."""

    seen: dict[str, np.ndarray]
    action: np.ndarray
    state: jitted.GridState


def explore(level: str, seeds: Sequence[int], steps: int, seed: int = 0) -> Walks:
    """Exploring walks from the starts of a level's episodes."""
    starts = initial_worlds(level, seeds)
    rng = np.random.default_rng(seed)
    action = rng.choice(len(WALK), (len(starts), steps), p=WALK).astype(np.int32)
    states, seen = _trace(jitted.batch_of(starts), jnp.asarray(action))
    return Walks(jax.tree.map(np.asarray, seen), action, jax.tree.map(np.asarray, states))
