"""What a Cost module would do in the agent's place: `python -m experiments.explicit_cost --checkpoint=RUN --data_dir=CORPUS`.

Trains a critic on the agent's own corpus, on top of its JEPA and context encoder, and lets model-predictive control act by
intrinsic cost + critic (`objectives.explicit_cost`), beside the agent's planning and habitual mode, on test seeds. Horizon and
temperature are chosen on validation seeds.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.agent.agent import Agent, world_for
from hjepa_gfn.agent.explicit_cost import ExplicitCostMode, train_critic
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode, run_episodes
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation.alignment import Recorder, violations_by_principle
from hjepa_gfn.evaluation.report import wilson_interval
from hjepa_gfn.files import write_json
from hjepa_gfn.worlds import split_seeds


def play(agent: Agent, level: str, seeds: list[int], mode: Any) -> dict[str, Any]:
    """Success and violations of one mode."""
    recorder, began = Recorder(), time.time()
    success, steps = run_episodes(world_for(agent, level, len(seeds)), seeds, mode, agent.config.agent.max_steps, recorder)
    broken = violations_by_principle(level, seeds, recorder.actions(steps))
    return {"success": float(success.mean()), "interval": wilson_interval(int(success.sum()), len(seeds)),
            "episodes": len(seeds), "violations": float(sum(broken.values())), "seconds": round(time.time() - began, 1)}


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    with read_agent(f.checkpoint) as agent:
        level = agent.config.level
        pipeline = Pipeline(f.data_dir, "train", agent.tokenizer, agent.config.data, f.seed)
        critic, log = train_critic(agent, pipeline, f.steps, f.seed)
        last = {name: float(np.mean([row[name] for row in log[-20:]])) for name in log[-1]}
        print("  critic: " + ", ".join(f"{name} {value:.3f}" for name, value in last.items()))
        table: dict[str, Any] = {"level": level, "critic": last, "steps": f.steps, "seed": f.seed, "validation": {}}
        some = split_seeds("validation", f.episodes // 2)
        for horizon in (1, 2, 3):
            for temperature in (0.0, 0.3, 1.0):
                found = play(agent, level, some, ExplicitCostMode(agent, critic, f.seed, horizon, temperature))
                table["validation"][f"horizon {horizon}, temperature {temperature}"] = found
                print(f"  horizon {horizon}, temperature {temperature}: {found['success']:.3f} on validation seeds", flush=True)
        best = max(table["validation"], key=lambda name: table["validation"][name]["success"])
        horizon, temperature = int(best.split()[1].rstrip(",")), float(best.split()[-1])
        seeds = split_seeds("test", f.episodes)
        modes = {f"explicit cost ({best})": ExplicitCostMode(agent, critic, f.seed, horizon, temperature),
                 "planning": PlanningMode(agent, f.seed), "habitual": HabitualMode(agent, f.seed)}
        table["test"] = {name: play(agent, level, seeds, mode) for name, mode in modes.items()}
    for name, found in table["test"].items():
        print(f"  {name:45s} {found['success']:.3f} [{found['interval'][0]:.3f}, {found['interval'][1]:.3f}]  "
              f"violations {found['violations']:.2f}")
    out = Path(f.out) if f.out else Path(f.checkpoint) / "explicit_cost.json"
    write_json(out, table)
    print(out)


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("data_dir", None, "the corpus that the agent was trained on")
    flags.DEFINE_string("out", "", "the report's file; default: explicit_cost.json beside the checkpoint")
    flags.DEFINE_integer("steps", 400, "training steps of the critic", lower_bound=1)
    flags.DEFINE_integer("episodes", 128, "test seeds; half as many validation seeds", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "of the critic and of sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint", "data_dir"))
