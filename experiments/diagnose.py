"""Diagnoses a world model: `python -m experiments.diagnose --checkpoint=runs/demo [--data_dir=CORPUS] [--out=FOLDER]`.

Prints all that can be measured about JEPA and belief on held-out seeds (experts' windows of the validation split, exploring
walks of test seeds) and writes it to diagnosis.json, with plots in diagnosis.html. The agent never sees what probes are fitted
to.
"""
from __future__ import annotations

import html
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation import memory, world_model
from hjepa_gfn.evaluation.drawing_bars import stacked_bars
from hjepa_gfn.evaluation.drawing_lines import lines
from hjepa_gfn.evaluation.levels import evaluate_levels, held_out_windows
from hjepa_gfn.files import write_json, write_text
from hjepa_gfn.worlds import split_seeds
from hjepa_gfn.worlds.babyai import check_level


def diagnose(
    agent: Agent, pipeline: Pipeline, level: str, walks: int, steps: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """(table of everything, plots as SVG)."""
    system, params = agent.system, agent.params
    seeds, horizons = split_seeds("test", walks), agent.config.jepa.horizon
    expert, wandered = held_out_windows(pipeline), memory.explore(level, seeds, steps, seed)
    windows = {"experts": expert, "walks": world_model.as_window(wandered)}
    found = {name: world_model.read_steps(system, params, window, horizons) for name, window in windows.items()}
    table: dict[str, Any] = {
        "levels": evaluate_levels(agent, pipeline, seed),
        "dynamics": {name: world_model.dynamics_table(found[name], window["action"]) for name, window in windows.items()},
        "probes on walks": {"embedding": world_model.probe_walks(found["walks"].z, wandered)},
        "belief": None,
    }
    trusted = {f"JEPA, {name}": world_model.reliability(s.residual2[s.real], s.variance[s.real]) for name, s in found.items()}
    if system.belief:
        of = lambda some: memory.beliefs_of(system, params, system.belief, params["belief"], some)  # noqa: E731
        on_experts = of(memory.Walks({k: expert[k] for k in ("view", "direction")}, expert["action"], None))
        on_walks, real = of(wandered), found["experts"].real
        table["belief"] = memory.memory_table(system, params, system.belief, params["belief"], level, seeds, steps)
        table["belief"]["experts"] = world_model.calibration(on_experts["residual2"][real], on_experts["variance"][real])
        table["probes on walks"]["belief"] = world_model.probe_walks(on_walks["belief"], wandered)
        flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
        trusted["belief, experts"] = world_model.reliability(on_experts["residual2"][real], on_experts["variance"][real])
        trusted["belief, walks"] = world_model.reliability(flat(on_walks["residual2"]), flat(on_walks["variance"]))
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


def flat_rows(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The table as (name, value) lines."""
    rows = []
    for name, value in table.items():
        path = f"{prefix} / {name}" if prefix else name
        if isinstance(value, dict):
            rows += flat_rows(value, path)
        else:
            rows.append((path, "not there" if value is None else f"{value:.3f}"))
    return rows


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    path = Path(f.checkpoint)
    with read_agent(f.checkpoint) as agent, tempfile.TemporaryDirectory() as scratch:
        level = f.level or agent.config.level
        check_level(level)
        held_out = f.data_dir or str(build(
            level, Path(scratch) / "held_out", 1, agent.config.evaluation.texts, 0, 2, False))
        # no initial worlds: the validation split is only read
        config = agent.config.data.copy_and_resolve_references()
        config.update(dict(worlds=0))
        table, pictures = diagnose(
            agent, Pipeline(held_out, "validation", agent.tokenizer, config, f.seed), level, f.walks, f.steps, f.seed)
    out = Path(f.out) if f.out else path / "diagnosis"
    out.mkdir(parents=True, exist_ok=True)
    rows = flat_rows(table)
    print("\n".join(f"  {name:60s} {value:>10s}" for name, value in rows))
    write_json(out / "diagnosis.json", {"level": level, "walks": f.walks, "steps": f.steps, "seed": f.seed, **table})
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    write_text(out / "diagnosis.html", '<!doctype html><meta charset="utf-8"><title>World model</title>'
               f'<body style="font-family:sans-serif"><h1>World model, {html.escape(level)}</h1>{"".join(pictures)}'
               f"<table>{cells}</table></body>")
    print(f"written to {out / 'diagnosis.html'}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "where the diagnosis goes; default: diagnosis/ beside the checkpoint")
    flags.DEFINE_string("level", "", "BabyAI level; default: the one the agent was trained on")
    flags.DEFINE_string("data_dir", "", "a corpus whose validation split is read; default: made anew")
    flags.DEFINE_integer("walks", 128, "exploring walks, from as many test seeds", lower_bound=4)
    flags.DEFINE_integer("steps", 40, "actions of each", lower_bound=4)
    flags.DEFINE_integer("seed", 0, "of the walks' actions and the windows", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
