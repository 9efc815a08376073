"""What a belief knows that the percept does not show, judged by the simulator: memory, calibration, ambiguity.

Episodes of an exploring walk are rolled out in the jitted world from held-out levels. Probes are fitted on half of the
episodes and tested on the other half; the simulator's state is their target and never an input.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation.probes import probe_accuracy, probe_r2
from hjepa_gfn.evaluation.texts import auroc
from hjepa_gfn.models.belief import Belief
from hjepa_gfn.objectives.belief import watch
from hjepa_gfn.objectives.jepa import LOG_VARIANCE
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.exploring import WALK, initial_worlds
from hjepa_gfn.worlds.language import AGENT_CELL, BALL, VIEW_SIZE

SURPRISE = 6  # a percept that shows so many cells for the first time could not be foreseen


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
    states, seen = jax.jit(jitted.trace_states)(jitted.batch_of(starts), jnp.asarray(action))
    return Walks(jax.tree.map(np.asarray, seen), action, jax.tree.map(np.asarray, states))


def _ahead_and_aside(state: jitted.GridState) -> tuple[np.ndarray, np.ndarray]:
    """The steps (y, x) ahead of the agent and to its right, int [B, T+1, 2] each."""
    steps = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # xminigrid's directions: up, right, down, left
    return steps[state.direction], steps[(state.direction + 1) % 4]


def view_places(state: jitted.GridState) -> np.ndarray:
    """The cell (y, x) that each cell of a view shows: int [B, T+1, 7, 7, 2], indexed as views are."""
    forward, right = _ahead_and_aside(state)
    i, j = np.meshgrid(np.arange(VIEW_SIZE), np.arange(VIEW_SIZE), indexing="ij")
    ahead, aside = AGENT_CELL[1] - j, i - AGENT_CELL[0]
    return (state.position[:, :, None, None] + ahead[..., None] * forward[:, :, None, None]
            + aside[..., None] * right[:, :, None, None])


def first_seen(walks: Walks) -> np.ndarray:
    """How many cells each percept shows for the first time in its episode: int [B, T+1]."""
    shown = walks.seen["view"][..., 0] > 0
    places = view_places(walks.state)
    height, width = walks.state.grid.shape[2:4]
    batch, length = walks.seen["direction"].shape
    known = np.zeros((batch, height, width), bool)
    new = np.zeros((batch, length), int)
    for t in range(length):
        row, i, j = np.nonzero(shown[:, t])
        y, x = places[row, t, i, j].T
        fresh = ~known[row, y, x]
        new[:, t] = np.bincount(row[fresh], minlength=batch)
        known[row, y, x] = True
    return new


def lone_object(walks: Walks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of levels with one object: its place (ahead, right) of the agent, float [B, T+1, 2]; whether the percept shows it, and
    whether it was seen before, bool [B, T+1] each."""
    things = np.isin(walks.state.grid[..., 0], [jitted.TILES[name] for name in ("ball", "box", "key")])
    flat = things.reshape(*things.shape[:2], -1)
    y, x = np.divmod(flat.argmax(-1), things.shape[-1])
    offset = np.stack([y, x], -1) - walks.state.position
    forward, right = _ahead_and_aside(walks.state)
    place = np.stack([(offset * forward).sum(-1), (offset * right).sum(-1)], -1).astype(float)
    shown = ((walks.seen["view"][..., 0] >= BALL - 1) & (walks.seen["view"][..., 0] <= BALL + 1)).any((2, 3))
    there = flat.any(-1)  # carried, it is nowhere
    before = np.logical_or.accumulate(shown, axis=1)
    return place, shown, before & there


def beliefs_of(system: System, params: Params, belief: Belief, belief_params: Params, walks: Walks) -> dict[str, np.ndarray]:
    """Along the walks: percept embeddings "z", beliefs "belief", and of what is expected next: squared residual and variance
    per dimension "residual2", "variance" [B, T, Z], and the ensemble's spread "epistemic" [B, T]."""

    @jax.jit
    def run(view: jnp.ndarray, direction: jnp.ndarray, action: jnp.ndarray) -> dict[str, jnp.ndarray]:
        apply = lambda *args, method: belief.apply({"params": belief_params}, *args, method=method)  # noqa: E731
        z = system.level(params, view, direction, method="encode")
        prior, after = watch(belief, belief_params, z, action, jnp.ones(direction.shape, bool))
        expected = apply(prior[:, 1:], method="decode")
        variance = jnp.exp(jnp.clip(apply(prior[:, 1:], method="log_variance"), *LOG_VARIANCE))
        members = apply(after[:, :-1], action, method="members_of")
        return {"z": z, "belief": after, "residual2": (expected - z[:, 1:]) ** 2, "variance": variance,
                "epistemic": members.var(0).mean(-1)}

    found = run(walks.seen["view"], walks.seen["direction"], walks.action)
    return jax.tree.map(np.asarray, found)


def memory_table(
    system: System, params: Params, belief: Belief, belief_params: Params, level: str, seeds: Sequence[int], steps: int = 40
) -> dict[str, Any]:
    """Memory, calibration and ambiguity of the belief.

    Returns:
        "lone object out of view": R^2 of probes for the place of the one object of GoToObj levels while the percept does not
        show what was shown before, from the "belief" and from the percept's "embedding"; "position", "direction", "carried":
        the same two for the agent's own place (R^2), compass direction and load (accuracy) on `level`; "calibration", mean
        r^2 / sigma^2 of the next percept; "calibration_log_correlation" over steps; "ambiguity_auroc": of predicted variance
        against percepts that really show something new; "epistemic_auroc" likewise of the ensemble's spread.
    """
    half = len(seeds) // 2
    table: dict[str, Any] = {}
    alone = explore("BabyAI-GoToObj-v0", seeds, steps)
    place, shown, before = lone_object(alone)
    found = beliefs_of(system, params, belief, belief_params, alone)
    hidden = before & ~shown
    fit = np.arange(len(seeds))[:, None] < half
    table["lone object out of view"] = {
        name: probe_r2((found[x][hidden & fit], place[hidden & fit]), (found[x][hidden & ~fit], place[hidden & ~fit]))
        for name, x in (("belief", "belief"), ("embedding", "z"))}
    walks = explore(level, seeds, steps)
    found = beliefs_of(system, params, belief, belief_params, walks)
    pocket = walks.state.pocket[..., 0].astype(int) * 16 + walks.state.pocket[..., 1]
    everywhere = np.ones(pocket.shape, bool)
    for name, target, probe in (("position", walks.state.position.astype(float), probe_r2),
                                ("direction", walks.seen["direction"], probe_accuracy), ("carried", pocket, probe_accuracy)):
        table[name] = {
            kind: probe((found[x][everywhere & fit], target[everywhere & fit]),
                        (found[x][everywhere & ~fit], target[everywhere & ~fit]))
            for kind, x in (("belief", "belief"), ("embedding", "z"))}
    residual, variance = found["residual2"].mean(-1), found["variance"].mean(-1)
    table["calibration"] = float((found["residual2"] / found["variance"]).mean())
    table["calibration_log_correlation"] = float(np.corrcoef(np.log(residual.ravel() + 1e-9), np.log(variance.ravel()))[0, 1])
    new = first_seen(walks)[:, 1:] >= SURPRISE
    table["ambiguity_auroc"] = auroc(variance[new], variance[~new])
    table["epistemic_auroc"] = auroc(found["epistemic"][new], found["epistemic"][~new])
    table["surprising percepts"] = float(new.mean())
    return table
