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

from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation.diagnosis import diagnose
from hjepa_gfn.evaluation.levels import evaluate_levels
from hjepa_gfn.files import write_json, write_text
from hjepa_gfn.worlds.babyai import check_level


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
        pipeline = Pipeline(held_out, "validation", agent.tokenizer, config, f.seed)
        table, pictures = diagnose(agent, pipeline, level, f.walks, f.steps, f.seed)
        table = {"levels": evaluate_levels(agent, pipeline, f.seed), **table}
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
