"""How an agent acts where some of its views are missing: `python -m experiments.missing_views --checkpoint=runs/belief`.

Success of habitual and planning mode on held-out seeds, by the share of views that are missing and by what is perceived in
their place (`agent.fill`): nothing, the last view that there was, or what the agent's belief expects to see.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.agent.agent import Agent, with_options, world_for
from hjepa_gfn.agent.filling import FILLS
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode, run_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.report import wilson_interval
from hjepa_gfn.files import write_json
from hjepa_gfn.worlds import split_seeds
from hjepa_gfn.worlds.missing import check_share

MODES = {"habitual": HabitualMode, "planning": PlanningMode}


def success(agent: Agent, seeds: list[int], share: float, seed: int) -> dict[str, Any]:
    """Success and its 95 % interval, by mode."""
    found = {}
    for name, mode in MODES.items():
        world = world_for(agent, agent.config.level, len(seeds), share)
        solved, _ = run_episodes(world, seeds, mode(agent, seed), agent.config.agent.max_steps)
        found[name] = {"success": float(solved.mean()), "interval": wilson_interval(int(solved.sum()), len(seeds))}
    return found


def share_of(text: str) -> float:
    """A share of views from the command line. Raises UserError for what is none."""
    try:
        return check_share(float(text))
    except ValueError:
        raise UserError(f"--shares: {text!r} is no number; write them as in --shares=0,0.25") from None


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    shares = [share_of(text) for text in f.shares]
    seeds = list(split_seeds(f.split, f.episodes))
    table = []
    with read_agent(f.checkpoint) as agent:
        fills = [fill for fill in FILLS if fill != "belief" or agent.system.belief]
        for share in shares:
            for fill in fills if share else fills[:1]:  # where nothing is missing nothing is filled in
                found = success(with_options(agent, [f"fill={fill}"]), seeds, share, f.seed)
                table.append({"missing": share, "fill": fill, **found})
                rates = ", ".join(f"{n} {m['success']:.3f} [{m['interval'][0]:.3f}, {m['interval'][1]:.3f}]"
                                  for n, m in found.items())
                print(f"  {share:.2f} missing, {fill or 'nothing':8s} {rates}", flush=True)
    path = (Path(f.out) if f.out else Path(f.checkpoint) / "missing_views") / "missing_views.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"split": f.split, "episodes": f.episodes, "seed": f.seed, "success": table})
    print(f"written to {path}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "where missing_views.json goes; default: missing_views/ beside the checkpoint")
    flags.DEFINE_list("shares", ["0", "0.25", "0.5"], "shares of views that are missing")
    flags.DEFINE_enum("split", "test", ["validation", "test"], "whose seeds are played")
    flags.DEFINE_integer("episodes", 256, "episodes of each", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the agent's sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
