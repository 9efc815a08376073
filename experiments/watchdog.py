"""Does the agent notice anomalies? `python -m experiments.watchdog --checkpoint=runs/demo [--train_steps=300]`.

AUROC of the watchdog's surprise and of the other indicators on injected anomalies; calibration in held-out situations; with
`--controlled=N`, N episodes under the controller's table beside its modes alone. Writes watchdog.json. `--train_steps` trains
the indicators' networks first, alone, on top of a checkpoint that lacks them (or anew).
"""
from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.evaluate import corpus_of, read_agent
from hjepa_gfn.agent.agent import Agent, world_for
from hjepa_gfn.agent.controller import TABLE, ControlledMode, parse_rules
from hjepa_gfn.agent.indicators import NAMES, IndicatorReader
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode, run_episodes
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.report_numbers import wilson_interval
from hjepa_gfn.evaluation.watchdog import SIGNS, calibration, watchdog_table
from hjepa_gfn.files import write_json
from hjepa_gfn.training.indicators import train_indicators
from hjepa_gfn.worlds import split_seeds
from hjepa_gfn.worlds.babyai import check_level


def controlled_episodes(agent: Agent, level: str, seeds: list[int], seed: int) -> dict[str, Any]:
    """Success under the controller's table, and of habitual and planning mode alone, on the same seeds."""
    reader = IndicatorReader(agent, seed)
    planning = PlanningMode(agent, seed, reader.on_decision)
    reader.follow(planning.follower)
    modes = {"habitual": HabitualMode(agent, seed), "planning": planning}
    rules = parse_rules(agent.config.agent.get("controller", TABLE), NAMES, tuple(modes))
    controlled = ControlledMode(modes, rules, reader)
    found: dict[str, Any] = {}
    for name, choose in {"controlled": controlled, "habitual": HabitualMode(agent, seed),
                         "planning": PlanningMode(agent, seed)}.items():
        success, steps = run_episodes(world_for(agent, level, len(seeds)), seeds, choose, agent.config.agent.max_steps)
        found[name] = {"success": float(success.mean()), "interval": wilson_interval(int(success.sum()), len(seeds)),
                       "steps": float(steps.mean()), "counts": dict(choose.counts)}
    causes = Counter(f"{s.indicator}: {s.origin} -> {s.target}" for s in controlled.log)
    return found | {"causes": dict(causes), "log": [s._asdict() for s in controlled.log[:200]]}


def main() -> None:
    """The entry point."""
    f, began = flags.FLAGS, time.time()
    path = Path(f.checkpoint)
    with read_agent(f.checkpoint) as agent:
        config = agent.config
    level, data = f.level or config.level, corpus_of(f.checkpoint, f.data_dir)
    for name in (level, f.other_level):
        check_level(name)
    if "indicators" not in agent.params and not f.train_steps:
        raise UserError(f"{f.checkpoint}: has no parameters of indicators: give --train_steps=300 to train them on top")
    curve: list[dict[str, float]] = []
    if f.train_steps:
        pipeline = Pipeline(data, "train", agent.tokenizer, config.data, config.seed)
        params, curve = train_indicators(agent.system, agent.params, config, pipeline, f.train_steps)
        agent = agent._replace(params=params)
        for step in sorted({0, f.train_steps // 4, f.train_steps // 2, f.train_steps - 1}):
            print(f"  step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in curve[step].items()), flush=True)
    report: dict[str, Any] = {"checkpoint": str(path), "level": level, "train_steps": f.train_steps, "curve": curve[-1:]}
    report["seconds_training"] = round(time.time() - began, 1)
    held_out = Pipeline(data, "validation", agent.tokenizer, config.data, 0)
    report["calibration"] = calibration(agent, held_out, 0)
    print("  calibration: " + ", ".join(f"{name} {value:.3f}" for name, value in report["calibration"].items()), flush=True)
    seeds = split_seeds("test", f.episodes)
    report["anomalies"] = watchdog_table(agent, level, f.other_level, seeds, f.step, list(range(f.agent_seeds)))
    kinds = list(report["anomalies"]["auroc"])
    wide = max(26, *(len(kind) + 2 for kind in kinds))
    print(f"  {'AUROC':18s}" + "".join(f"{kind:>{wide}s}" for kind in kinds))
    for name in SIGNS:
        cells = [report["anomalies"]["auroc"][kind][name] for kind in kinds]
        shown = (f"{c['auroc']:7.3f} [{c['interval'][0]:.2f}, {c['interval'][1]:.2f}] n={c['anomalous']:<4d}" if c["interval"]
                 else "-" for c in cells)
        print(f"  {name:18s}" + "".join(f"{cell:>{wide}s}" for cell in shown), flush=True)
    print(f"  share with surprise above {report['anomalies']['bar']}: {report['anomalies']['above_bar']}")
    if f.controlled:
        report["controlled"] = controlled_episodes(agent, level, split_seeds("test", f.controlled), 0)
        print({name: report["controlled"][name] for name in ("controlled", "habitual", "planning", "causes")})
    report["seconds"] = round(time.time() - began, 1)
    out = Path(f.out or path / "watchdog.json")
    write_json(out, report)
    print(f"written to {out}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("data_dir", "", "its corpus; default: corpus/ beside it")
    flags.DEFINE_string("out", "", "the report's file; default: watchdog.json in the checkpoint's directory")
    flags.DEFINE_string("level", "", "BabyAI level; default: the one the agent was trained on")
    flags.DEFINE_string("other_level", "BabyAI-UnlockLocal-v0", "a level whose episodes, and doors, are anomalies")
    flags.DEFINE_integer("train_steps", 0, "train the indicators' networks for so many steps first", lower_bound=0)
    flags.DEFINE_integer("episodes", 128, "test seeds", lower_bound=1)
    flags.DEFINE_integer("agent_seeds", 2, "runs of each kind, with other random numbers of the agent", lower_bound=1)
    flags.DEFINE_integer("step", 2, "after how many steps the anomaly comes", lower_bound=1)
    flags.DEFINE_integer("controlled", 0, "episodes under the controller's table, and in its modes alone", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
