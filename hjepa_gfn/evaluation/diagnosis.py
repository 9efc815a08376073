"""All that can be measured about the world model of an agent on held-out behaviour, as one table, and drawn."""
from __future__ import annotations

from typing import Any

import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation import memory, world_model
from hjepa_gfn.evaluation.drawing_bars import stacked_bars
from hjepa_gfn.evaluation.drawing_lines import lines
from hjepa_gfn.evaluation.levels import held_out_windows
from hjepa_gfn.evaluation.walks import explore
from hjepa_gfn.worlds import split_seeds


def diagnose(
    agent: Agent, pipeline: Pipeline, level: str, walks: int, steps: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """(table, plots as SVG) of the step level and the belief: dynamics on experts' windows and on `walks` exploring walks of
    `steps` actions, what probes read off embeddings on walks, and `memory.memory_table`."""
    system, params, horizons = agent.system, agent.params, agent.config.jepa.horizon
    seeds = split_seeds("test", walks)
    expert, wandered = held_out_windows(pipeline), explore(level, seeds, steps, seed)
    seen = wandered._replace(seen=memory.seen_by(system, wandered))
    windows = {"experts": expert, "walks": world_model.as_window(seen)}
    found = {name: world_model.read_steps(system, params, window, horizons) for name, window in windows.items()}
    table: dict[str, Any] = {
        "dynamics": {name: world_model.dynamics_table(found[name], window["action"]) for name, window in windows.items()},
        "probes on walks": world_model.probe_walks(found["walks"].z, wandered),
        "memory": memory.memory_table(system, params, explore(memory.LONE, seeds, steps, seed), wandered),
    }
    trusted = {f"JEPA, {name}": world_model.reliability(s.residual2[s.real], s.variance[s.real]) for name, s in found.items()}
    if system.belief:
        of = lambda window: memory.beliefs_of(  # noqa: E731
            system, params, memory.Walks({k: window[k] for k in ("view", "direction")}, window["action"], None))
        for name, window in windows.items():
            believed, real = of(window), found[name].real
            kept = believed["residual2"][real], believed["variance"][real]
            table["dynamics"][name]["of the belief"] = world_model.calibration(*kept)
            trusted[f"belief, {name}"] = world_model.reliability(*kept)
    return table, plots(found, trusted)


def plots(found: dict[str, world_model.Steps], trusted: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Calibration, prediction over copy error by horizon, and ranks of the true action, as SVG."""
    by_horizon = {name: [(h + 1, float(np.nanmean(e) / max(np.nanmean(c), 1e-9)))
                         for h, (e, c) in enumerate(zip(s.error, s.copy, strict=True))] for name, s in found.items()}
    places = ("1", "2", "3", "4", "5 to 7")
    ranks = {name: np.bincount(np.minimum(s.rank[s.real], 5), minlength=6)[1:] for name, s in found.items()}
    positive = {name: [(max(v, 1e-9), max(r, 1e-9)) for v, r in points] for name, points in trusted.items()}
    return [
        lines(positive, "Are variances right?", "predicted variance", "squared residual", logarithmic=True, diagonal=True),
        lines(by_horizon, "Prediction over copy error", "horizon (steps)", "ratio"),
        stacked_bars(list(ranks), {place: [float(r[k]) for r in ranks.values()] for k, place in enumerate(places)},
                     "Rank of the true action among all", "windows of", "steps"),
    ]
