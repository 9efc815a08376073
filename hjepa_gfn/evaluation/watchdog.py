"""Does the agent notice when it is out of its depth? Indicators at injected anomalies against ordinary episodes.

Anomalies befall episodes in planning mode after a few steps. The agent is told nothing: it sees its next percept. Episodes of
both kinds begin from the same seeds; indicators are read once, at the first percept that the anomaly touches.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent, world_for
from hjepa_gfn.agent.indicators import IndicatorReader
from hjepa_gfn.agent.runner import PlanningMode
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.texts import auroc
from hjepa_gfn.plans import root_plan
from hjepa_gfn.worlds.protocol import Observation

KINDS = ("none", "teleported", "colours", "noise")
# Which way each indicator points when something is wrong: -1 where less is worse.
SIGNS = {"surprise": 1, "surprise_fresh": 1, "risk": 1, "risk_followed": 1, "subplan_surprise": 1, "ambiguity": 1, "charge": -1,
         "percept_charge": -1, "left_plan": 1, "prediction_error": 1, "contradiction": 1, "novelty": 1,
         "percept_surprise": 1}
FIRST_OBJECT, LAST_OBJECT, COLOURS, OBJECTS = 4, 7, 6, 11  # MiniGrid: door, key, ball, box; how many colours and objects
NOISE = 0.1  # share of cells
LONGEST = 40  # steps that a thing is waited for


def swap_colours(view: np.ndarray) -> np.ndarray:
    """Views uint8 [B, 7, 7, 3] with the colours of doors, keys, balls and boxes moved on by one."""
    coloured = (view[..., 0] >= FIRST_OBJECT) & (view[..., 0] <= LAST_OBJECT)
    swapped = view.copy()
    swapped[..., 1] = np.where(coloured, (view[..., 1] + 1) % COLOURS, view[..., 1])
    return swapped


def add_noise(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Views with a tenth of their cells replaced by anything."""
    hit = rng.random(view.shape[:-1]) < NOISE
    anything = rng.integers(0, (OBJECTS, COLOURS, 3), view.shape).astype(view.dtype)
    return np.where(hit[..., None], anything, view)


def shows_door(view: np.ndarray) -> np.ndarray:
    """Which views uint8 [B, 7, 7, 3] show a door: bool [B]. Levels of one room have none."""
    return (view[..., 0] == FIRST_OBJECT).any((-2, -1))


def indicators_at(
    agent: Agent, level: str, seeds: Sequence[int], kind: str, at: int, seed: int, reader: IndicatorReader | None = None,
    until: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The indicators [n] of the episodes that are still running after `at` steps in planning mode, where `kind` befalls them.

    until: the anomaly is something that the level holds: indicators are those of each episode's first percept from there on,
      within `LONGEST` steps more, whose view it says True of; the episodes that show none are left out.

    Raises:
      UserError: `kind` is none of `KINDS`, or no episode is left.
    """
    if kind not in KINDS:
        raise UserError(f"unknown anomaly {kind!r}: there are {', '.join(KINDS)}")
    world, rng = world_for(agent, level, len(seeds)), np.random.default_rng([seed, at])
    reader = reader or IndicatorReader(agent, seed)
    reader.begin(seed)
    planning = PlanningMode(agent, seed, reader.on_decision)
    reader.follow(planning.follower)
    observation, running = world.reset(seeds), np.ones(len(seeds), bool)

    def act(observation: Observation) -> Observation:
        actions = planning(observation, running)
        reader.acted(observation, actions)
        observation, _, done = world.step(actions)
        np.logical_and(running, ~done, out=running)
        return observation

    for _ in range(at):
        reader.step_on(len(seeds))
        observation = act(observation)
    if kind == "teleported":
        observation = world.displace(np.flatnonzero(running))
    elif kind != "none":
        observation = world.tamper(swap_colours if kind == "colours" else partial(add_noise, rng=rng))
    parts, waiting = [], running.copy()
    for _ in range(LONGEST if until else 1):
        waiting &= running
        if not waiting.any():
            break
        due = waiting & until(observation.percept["view"]) if until else waiting
        if due.any():
            parts.append({name: np.asarray(value)[due] for name, value in reader(observation, running).items()})
        else:
            reader.step_on(len(seeds))
        waiting &= ~due
        if until:
            observation = act(observation)
    if not parts:
        raise UserError(f"{level}: no episode is left after {at} steps" + (" that shows what is waited for" if until else ""))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def auroc_with_interval(anomalous: np.ndarray, ordinary: np.ndarray, seed: int = 0, draws: int = 300) -> dict[str, Any]:
    """AUROC, its 95 % bootstrap interval over episodes, and the counts; NaN (nothing to be read) is left out."""
    a, b = anomalous[~np.isnan(anomalous)], ordinary[~np.isnan(ordinary)]
    if not len(a) or not len(b):
        return {"auroc": None, "interval": None, "anomalous": len(a), "ordinary": len(b)}
    rng = np.random.default_rng(seed)
    drawn = [auroc(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(draws)]
    return {"auroc": auroc(a, b), "interval": [float(np.quantile(drawn, q)) for q in (0.025, 0.975)],
            "anomalous": len(a), "ordinary": len(b)}


def watchdog_table(
    agent: Agent, level: str, other_level: str, seeds: Sequence[int], at: int, agent_seeds: Sequence[int], bar: float = 2.0
) -> dict[str, Any]:
    """For every anomaly and indicator: AUROC against ordinary episodes; and the share of episodes above `bar` (surprise)."""
    reader = IndicatorReader(agent, 0)
    cases: dict[str, tuple] = {kind: (level, kind) for kind in KINDS} | {
        other_level: (other_level, "none"), f"{other_level}, door in view": (other_level, "none", shows_door)}
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in cases}
    for seed in agent_seeds:
        for name, (where, kind, *until) in cases.items():
            found[name].append(indicators_at(agent, where, seeds, kind, at, seed, reader, *until))
    values = {name: {key: np.concatenate([run[key] for run in runs]) for key in runs[0]} for name, runs in found.items()}
    ordinary = values["none"]
    table = {name: {key: auroc_with_interval(sign * case[key], sign * ordinary[key]) for key, sign in SIGNS.items()}
             for name, case in values.items() if name != "none"}
    return {"auroc": table, "above_bar": {name: float(np.mean(case["surprise"] > bar)) for name, case in values.items()},
            "followed": {name: float(np.mean(case["followed"])) for name, case in values.items()},
            "means": {name: {key: float(np.nanmean(case[key])) if not np.isnan(case[key]).all() else None for key in SIGNS}
                      for name, case in values.items()},
            "seeds": [int(s) for s in seeds], "agent_seeds": list(agent_seeds), "step": at, "bar": bar}


def calibration(agent: Agent, pipeline: Pipeline, seed: int) -> dict[str, float]:
    """The watchdog's prediction of one new plan's risk in held-out ordinary situations: standardised residual (mean 0 and
    mean square 1 would be right), R^2 of the mean against what the risk's own mean gives, and the same of sub-plans."""
    reader = IndicatorReader(agent, seed)
    rows: list[dict[str, np.ndarray]] = []
    for number, batch in enumerate(pipeline.epoch()):
        size = len(batch["mask"])
        percept = {name: jnp.asarray(batch["random"][name][:, 0]) for name in ("view", "direction")}
        found = reader._read(agent.params, jax.random.fold_in(reader.key, number), percept, jnp.asarray(batch["mission"]),
                             root_plan(agent.system.spec, (size,)), np.zeros(size, bool), np.full(size, -1, np.int32))
        rows.append({name: np.asarray(value)[batch["mask"]] for name, value in found.items()})
    table = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return residual_summary(table)


def residual_summary(table: dict[str, np.ndarray]) -> dict[str, float]:
    """Calibration of {first_risk, predicted, deviation, subplan_surprise} [n]."""
    risk, residual = table["first_risk"], table["first_risk"] - table["predicted"]
    standard = residual / table["deviation"]
    sub = table["subplan_surprise"][table["subplan_surprise"] != 0]
    return {"n": len(risk), "mean": float(standard.mean()), "mean_square": float((standard**2).mean()),
            "variance": float(standard.var()), "above_2": float((standard > 2).mean()),
            "r2": float(1 - (residual**2).sum() / ((risk - risk.mean()) ** 2).sum()),
            "risk_mean": float(risk.mean()), "risk_deviation": float(risk.std()),
            "subplans": len(sub), "subplan_mean": float(sub.mean()) if len(sub) else 0.0,
            "subplan_mean_square": float((sub**2).mean()) if len(sub) else 0.0}
