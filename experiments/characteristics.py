"""Does an upper actor foresee its sub-plans? `python -m experiments.characteristics --checkpoint=RUN --train_steps=1000`.

Of a hierarchy (`model.actors`): correlation and R^2 of predicted against actual risk of sub-plans in held-out situations, and
of their other characteristics. With `--train_steps` the networks of each of `--kinds` are first trained by themselves, on top
of the checkpoint, whose other parameters stay as they are (`--exports=DIR` keeps each as an export, DIR/risk and DIR/learned,
that `experiments.evaluate` and `experiments.compute_curve` take); without, those of the checkpoint are measured. Writes
characteristics.json.
"""
from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.evaluate import corpus_of, read_agent
from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.characteristics import evaluate_characteristics, lines
from hjepa_gfn.export import save_export
from hjepa_gfn.files import write_json
from hjepa_gfn.models.characteristics import KINDS
from hjepa_gfn.training.agent_task import codebooks
from hjepa_gfn.training.indicators import train_characteristics
from hjepa_gfn.worlds.kinds import PERCEPT_KINDS


def with_kind(agent: Agent, kind: str) -> Agent:
    """The agent, whose actors are to say `kind` of sub-plans: without parameters for it yet."""
    config = agent.config.copy_and_resolve_references()
    with config.unlocked():
        config.model.characteristics = kind
        config.schedule.every.characteristics = 1
    return agent._replace(system=dataclasses.replace(agent.system, characteristics=kind), config=config)


def main() -> None:
    """The entry point."""
    f, began = flags.FLAGS, time.time()
    if unknown := set(f.kinds) - set(KINDS):
        raise UserError(f"--kinds: {min(unknown)!r} is none of {', '.join(KINDS)}")
    path = Path(f.checkpoint)
    with read_agent(f.checkpoint) as agent:
        several = agent.system.lower
    if not several:
        raise UserError(f"{f.checkpoint}: one actor plans; characteristics are of sub-plans of a hierarchy (model.actors)")
    data = corpus_of(f.checkpoint, f.data_dir)
    held_out = Pipeline(data, "validation", agent.tokenizer, agent.config.data, f.seed)
    train = Pipeline(data, "train", agent.tokenizer, agent.config.data, f.seed) if f.train_steps else None
    report: dict[str, Any] = {"checkpoint": str(path), "train_steps": f.train_steps, "seed": f.seed}
    for kind in f.kinds if f.train_steps else (agent.system.characteristics,):
        measured = agent
        if train:
            measured = with_kind(agent, kind)
            params, curve = train_characteristics(measured.system, agent.params, measured.config, train, f.train_steps, f.rows)
            measured = measured._replace(params=params)
            for step in sorted({0, f.train_steps // 2, f.train_steps - 1}):
                print(f"  {kind}, step {step}: " + ", ".join(
                    f"{name} {value:.3f}" for name, value in curve[step].items()), flush=True)
            report.setdefault("curve", {})[kind] = curve[-1]
            if f.exports:
                save_export(Path(f.exports) / kind, params, measured.config.to_dict(), agent.tokenizer.to_json(),
                            codebooks(measured.system) | ({} if agent.kinds is None else {PERCEPT_KINDS: agent.kinds}))
        report[kind or "none"] = found = evaluate_characteristics(measured, held_out, f.seed)
        print("\n".join(f"  {line}" for line in lines(found)), flush=True)
    report["seconds"] = round(time.time() - began, 1)
    out = Path(f.out or path / "characteristics.json")
    write_json(out, report)
    print(f"written to {out}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("data_dir", "", "its corpus; default: corpus/ beside it")
    flags.DEFINE_string("out", "", "the report's file; default: characteristics.json in the checkpoint's directory")
    flags.DEFINE_integer("train_steps", 0, "train the networks of each kind for so many steps first", lower_bound=0)
    flags.DEFINE_string("exports", "", "with --train_steps: a directory for an export of the agent with each kind")
    flags.DEFINE_integer("rows", 64, "of a batch, what such a step looks at", lower_bound=1)
    flags.DEFINE_list("kinds", list(KINDS), "with --train_steps: what is trained and measured, one after the other")
    flags.DEFINE_integer("seed", 0, "of the sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
