"""Optimisation mode over episodes: every decision is a Markov chain of plans, cut after a number of moves."""
from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.following import CHUNK, OnDecision, PlanFollower
from hjepa_gfn.agent.options import options_of
from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.protocol import Observation


class OptimisationMode:
    """Acts on plans that `agent.optimisation` has moved, and follows them as planning mode does its own.

    Args:
      moves: at most `config.agent.optimise.moves`, which is the default.
      choose: "best", or what `config.agent.optimise.choose` says, which is the default (where that is "best": "sample").
    """

    def __init__(
        self, agent: Agent, seed: int, moves: int | None = None, choose: str | None = None,
        on_decision: OnDecision | None = None,
    ):
        options = options_of(agent.config.agent)
        moves = options.moves if moves is None else moves
        choose = options.choose if choose is None else choose
        if not 0 <= moves <= options.moves:
            raise UserError(f"{moves} moves: agent.optimise.moves is {options.moves}, and 0 is the least")
        other = "habit" if options.choose == "habit" else "sample"
        if choose not in (other, "best"):
            raise UserError(f"choose={choose!r}: {other} or best")

        def decide(params: Any, key: jnp.ndarray, percept: dict, mission: jnp.ndarray, *held: Any) -> Any:
            decision, found = agent.act["optimise"](
                params, key, percept, mission, np.int32(moves), np.bool_(choose == "best"), *held)
            done = int(found.moves)
            self.counts["moves"] += done * CHUNK * options.chains
            self.counts["accepted"] += int(found.accepted.sum())
            return decision

        self.follower = PlanFollower(agent, seed, decide, on_decision)
        self.counts = self.follower.counts
        self.counts |= {"moves": 0, "accepted": 0}  # of all chains of a chunk, padding included

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        return self.follower(observation, running)

    def forget(self, rows: np.ndarray) -> None:
        """See `PlanFollower.forget`."""
        self.follower.forget(rows)
