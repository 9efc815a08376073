"""Acting on plans, whoever decides them: follow a plan's first actions, plan anew when they end, the world leaves it or the
habit doubts what comes next."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.decision import Decision
from hjepa_gfn.worlds.protocol import Observation

CHUNK = 64  # situations planned for at once: one compiled shape, whatever the number of episodes that need a plan
NOT_TIMED = {"calls": 0, "seconds": 0.0, "timed": 0}

# (params, key, percept of CHUNK situations, missions int32 [CHUNK, M]) -> Decision of each; with several actors also the plans
# that those above the finest hold [CHUNK], and where these count (`hierarchy.what_is_left`)
Decide = Callable[[Any, jnp.ndarray, dict[str, np.ndarray], jnp.ndarray], Decision]
OnDecision = Callable[[int, Decision], None]


def in_chunks(rows: np.ndarray, size: int) -> list[tuple[np.ndarray, int]]:
    """Index arrays of exactly `size` (the last one padded by repetition) and how many entries of each count."""
    pieces = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [(np.resize(piece, size), len(piece)) for piece in pieces]


def timed(counts: dict[str, Any], situations: int, fn: Callable, *args: Any) -> Any:
    """fn(*args), waited for. Adds its wall time to `counts`, and how many situations it decided in (padding included: it takes
    the same time); the first call, which may compile, is not timed. `seconds / timed` are seconds a decision."""
    began = time.perf_counter()
    out = jax.block_until_ready(fn(*args))
    counts["calls"] += 1
    if counts["calls"] > 1:
        counts["seconds"] += time.perf_counter() - began
        counts["timed"] += situations
    return out


class PlanFollower:
    """Follows the plans that `decide` makes; where a plan does not say how to begin, takes the habitual action (and counts it).

    `counts` grows with every step; network passes are those of decisions that were needed, not of padding.
    """

    def __init__(self, agent: Agent, seed: int, decide: Decide, on_decision: OnDecision | None = None):
        self.agent, self.key, self.tick, self.decide = agent, jax.random.key(seed), 0, decide
        self.queue: list[list[tuple[int, int]]] | None = None  # per episode: (action, code expected after it)
        self.expected: np.ndarray | None = None
        self.held: Any = None  # of several actors: the plans above the finest, leaves [B, ...]
        self.keep: np.ndarray | None = None  # bool [B]: where these count
        self.on_decision = on_decision
        self.counts = {"plans": 0, "plan_ended": 0, "left_plan": 0, "doubted": 0, "decoded_macro": 0, "habit_instead": 0,
                       "actions": 0, "passes": 0, **NOT_TIMED}

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        """Actions int [B] of the episodes that are `running` bool [B]."""
        self.tick += 1
        batch = len(running)
        if self.queue is None:
            self.queue, self.expected = [[] for _ in range(batch)], np.full(batch, -1, np.int32)
            self.keep = np.zeros(batch, bool)
        percept = {name: np.asarray(value) for name, value in observation.percept.items()}
        mission = self.agent.missions(observation.mission)
        key_plan, key_habit = jax.random.split(jax.random.fold_in(self.key, self.tick))
        away = np.asarray(self.agent.act["left_plan"](self.agent.params, percept, self.expected))
        left = running & (away > self.agent.config.agent.leave_distance)
        empty = np.array([not queue for queue in self.queue])
        self.counts["left_plan"] += int((left & ~empty).sum())
        left |= self._doubted(percept, mission, running & ~left & ~empty)
        self.keep &= ~left
        self.counts["plan_ended"] += int((running & empty).sum())
        vague = self._plan(key_plan, percept, mission, np.flatnonzero(running & (left | empty)))
        actions = np.zeros(batch, np.int64)
        for i in np.flatnonzero(running):
            if self.queue[i]:
                actions[i], self.expected[i] = self.queue[i].pop(0)
        if len(vague):
            habit = np.asarray(self.agent.act["habitual"](self.agent.params, key_habit, percept, mission))
            actions[vague] = habit[vague]
            self.expected[vague] = -1
            self.counts["passes"] += len(vague)
        self.counts["actions"] += int(running.sum())
        return actions

    def forget(self, rows: np.ndarray) -> None:
        """Drops the plans of the episodes `rows` int [R]: made before another mode acted, they are about what is past."""
        for i in rows if self.queue is not None else ():
            self.queue[i], self.expected[i], self.keep[i] = [], -1, False

    def _doubted(self, percept: dict, mission: jnp.ndarray, goes_on: np.ndarray) -> np.ndarray:
        """Of the episodes whose plan goes on, bool [B], those where the habit doubts its next action (`agent.veto`)."""
        doubt = self.agent.act.get("doubted")
        if doubt is None or not goes_on.any():
            return np.zeros_like(goes_on)
        action = np.array([self.queue[i][0][0] if goes else -1 for i, goes in enumerate(goes_on)], np.int32)
        found = np.asarray(doubt(self.agent.params, percept, mission, action))
        self.counts["doubted"] += int(found.sum())
        self.counts["passes"] += int(goes_on.sum())  # the context of one situation
        return found

    def _without_retries(self, decision: Decision, seen: dict, mission: jnp.ndarray, count: int) -> Decision:
        """A decision whose plans do not say how to begin where the habit doubts how they do: only where what was tried before
        counts (`agent.tried`), as else the habit had its say when a plan was chosen."""
        doubt = self.agent.act.get("doubted_anew")
        if doubt is None:
            return decision
        leg = decision.leg
        first = np.where(leg.count > 0, leg.action[:, 0], -1).astype(np.int32)
        again = np.asarray(doubt(self.agent.params, seen, mission, first))
        self.counts["doubted"] += int(again[:count].sum())
        self.counts["passes"] += count
        return decision._replace(leg=leg._replace(count=np.where(again, 0, leg.count)))

    def _held(self, rows: np.ndarray) -> tuple:
        """Of several actors: the plans held in the episodes `rows`, and where they count."""
        blank = self.agent.act.get("blank")
        if blank is None:
            return ()
        if self.held is None:
            self.held = jax.tree.map(np.array, blank(len(self.keep)))
        return jax.tree.map(lambda x: x[rows], self.held), self.keep[rows]

    def _hold(self, plans: Any, index: np.ndarray, count: int) -> None:
        """Keeps the plans above the finest that a decision in the first `count` episodes of `index` was made with."""
        if plans is None:
            return
        for old, new in zip(jax.tree.leaves(self.held), jax.tree.leaves(plans), strict=True):
            old[index[:count]] = new[:count]
        self.keep[index[:count]] = True

    def _plan(self, key: jnp.ndarray, percept: dict, mission: jnp.ndarray, rows: np.ndarray) -> np.ndarray:
        """Refills the queues of the episodes `rows`; returns those whose plan does not say how to begin."""
        vague = []
        for number, (index, count) in enumerate(in_chunks(rows, CHUNK)):
            seen = {name: value[index] for name, value in percept.items()}
            decision = timed(self.counts, CHUNK, self.decide, self.agent.params, jax.random.fold_in(key, number), seen,
                             mission[index], *self._held(index))
            decision = self._without_retries(jax.tree.map(np.asarray, decision), seen, mission[index], count)
            self._hold(decision.held, index, count)
            for j, i in enumerate(index[:count]):
                length = int(decision.leg.count[j])
                self.queue[i] = list(zip(
                    decision.leg.action[j, :length].tolist(), decision.leg.expected[j, :length].tolist(), strict=True))
                self.counts["decoded_macro"] += int(decision.leg.decoded[j])
                if not length:  # the habit acts: the plans above have not come any further by it
                    vague.append(i)
                    self.keep[i] = False
                if self.on_decision:
                    self.on_decision(int(i), jax.tree.map(lambda x, j=j: x[j], decision))
            self.counts["plans"] += count
            self.counts["passes"] += int(decision.passes[:count].sum())
        self.counts["habit_instead"] += len(vague)
        return np.asarray(vague, int)
