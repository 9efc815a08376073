"""What more thinking buys: `python -m experiments.compute_curve --checkpoint=runs/demo --moves=0,1,2,4,8 [--out=...]`.

Success of optimisation mode by the number of moves, acting on what the agent acts on (a sample, or the habit's draw among
chains) and on the best plan met; energies by network passes from the first situations, with edits anywhere in the tree and with
edits that only append. Writes curve.json (anew after every point, so that a run that is cut leaves what it had) and curve.svg.
"""
from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.agent.agent import Agent, world_for
from hjepa_gfn.agent.following import CHUNK
from hjepa_gfn.agent.modes import optimiser
from hjepa_gfn.agent.optimisation import optimise
from hjepa_gfn.agent.optimisation_mode import OptimisationMode
from hjepa_gfn.agent.options import CHOICES, Optimise, options_of
from hjepa_gfn.agent.runner import run_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.drawing_compute import draw
from hjepa_gfn.evaluation.report import wilson_interval
from hjepa_gfn.objectives.appending import appending
from hjepa_gfn.worlds import split_seeds


def with_options(agent: Agent, options: Optimise) -> Agent:
    """The agent with other options of optimisation mode; its other modes stay compiled."""
    run = optimiser(agent.system, options, agent.config.agent.temperature)
    config = agent.config.copy_and_resolve_references()
    with config.unlocked():
        config.agent.optimise = dataclasses.asdict(options)
    return agent._replace(config=config, act={**agent.act, "optimise": jax.jit(run)})


def success_point(agent: Agent, seeds: list[int], seed: int, moves: int, choose: str) -> dict[str, Any]:
    """Success, interval, network passes and seconds a decision with that many moves."""
    world, mode = world_for(agent, agent.config.level, len(seeds)), OptimisationMode(agent, seed, moves, choose)
    success, steps = run_episodes(world, seeds, mode, agent.config.agent.max_steps)
    counts = mode.counts
    return {
        "moves": moves, "choose": choose, "episodes": len(seeds), "successes": int(success.sum()),
        "success": float(success.mean()), "interval": wilson_interval(int(success.sum()), len(seeds)),
        "mean_steps_when_successful": float(steps[success].mean()) if success.any() else None,
        "decisions": counts["plans"], "passes_a_decision": counts["passes"] / max(counts["plans"], 1),
        "seconds_a_decision": counts["seconds"] / counts["timed"] if counts["timed"] else None,
        "acceptance": counts["accepted"] / counts["moves"] if counts["moves"] else None}


def energy_curve(agent: Agent, seeds: list[int], seed: int, options: Optimise, appended: bool) -> dict[str, Any]:
    """Means over the episodes' first situations after every move: energies, their standard errors, acceptance, passes.

    With the same seed both kinds of edits begin at the same plans, drawn by the policy over trees.
    """
    observation = world_for(agent, agent.config.level, len(seeds)).reset(seeds)
    narrow = appending(agent.system.spec) if appended else None
    options = dataclasses.replace(options, patience=0)
    run = jax.jit(lambda p, k, o, m: optimise(agent.system, p, k, o, m, options, agent.config.agent.temperature, None, narrow))
    missions, parts = np.asarray(agent.missions(observation.mission)), []
    for begin in range(0, len(seeds), CHUNK):
        rows = slice(begin, begin + CHUNK)
        percept = {name: np.asarray(value[rows]) for name, value in observation.percept.items()}
        found = run(agent.params, jax.random.fold_in(jax.random.key(seed), begin), percept, missions[rows])
        parts.append(jax.tree.map(np.asarray, (found.chains.energy, found.best.energy, found.accepted, found.passes)))
    energy, best, accepted, passes = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
    error = lambda x: (x.std(1, ddof=1) / np.sqrt(x.shape[1])).tolist() if x.shape[1] > 1 else None  # noqa: E731
    chains = energy.mean(-1)
    return {
        "edits": "append" if appended else "tree", "situations": len(seeds), "chains": options.chains,
        "energy": chains.mean(1).tolist(), "energy_error": error(chains),
        "best_energy": best.mean(1).tolist(), "best_energy_error": error(best),
        "acceptance": accepted.mean((1, 2)).tolist(),
        "moved": [0.0, *(np.diff(energy, axis=0) != 0).mean((1, 2)).tolist()],  # accepted and another energy
        "passes": passes.mean(1).tolist()}


def parse_moves(text: str) -> list[int]:
    """"0,1,4" -> [0, 1, 4].

    Raises:
      UserError: not whole numbers of at least 0, rising.
    """
    try:
        moves = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--moves={text}: whole numbers with commas between, such as 0,1,2,4") from error
    if min(moves) < 0 or sorted(set(moves)) != moves:
        raise UserError(f"--moves={text}: must rise, from 0 or more")
    return moves


def by_choice(agent: Agent, options: Optimise, chosen: list[str]) -> dict[str, Agent]:
    """The agent for each of the ways to choose what is acted on; none named: its own, and "best".

    Raises:
      UserError: a way that there is not.
    """
    chosen = chosen or list(dict.fromkeys([options.choose, "best"]))
    if unknown := set(chosen) - set(CHOICES):
        raise UserError(f"--choose: no way {min(unknown)!r} to choose; there are {', '.join(CHOICES)}")
    agent = with_options(agent, options)
    others = {options.choose: agent, "best": agent}
    return {choose: others.get(choose) or with_options(agent, dataclasses.replace(options, choose=choose)) for choose in chosen}


def compute_curve(
    agent: Agent, out: Path, moves: list[int], split: str, episodes: int, seed: int, options: Optimise, chosen: list[str],
) -> dict[str, Any]:
    """Measures, writes and draws; returns what curve.json holds."""
    began, seeds = time.time(), split_seeds(split, episodes)
    options = dataclasses.replace(options, moves=moves[-1])
    agents = by_choice(agent, options, chosen)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "level": agent.config.level, "split": split, "first_seed": seeds[0], "episodes": episodes, "seed": seed,
        "options": dataclasses.asdict(options), "energies": [], "success": []}

    def write() -> None:
        report["wall_seconds"] = round(time.time() - began, 1)
        (out / "curve.json").write_text(json.dumps(report, indent=2) + "\n")
        (out / "curve.svg").write_text(draw(report))

    for appended in (False, True) if moves[-1] else ():
        report["energies"].append(energy_curve(agent, seeds, seed, options, appended))
        last = report["energies"][-1]
        print(f"  {last['edits']:6s} edits, n={episodes}: energy {last['energy'][0]:.3f} -> {last['energy'][-1]:.3f}, best "
              f"{last['best_energy'][-1]:.3f}, {last['passes'][-1]:.0f} passes, accepted {np.mean(last['acceptance'][1:]):.2f}",
              flush=True)
        write()
    for budget in moves:
        for choose, chooser in agents.items():
            report["success"].append(success_point(chooser, seeds, seed, budget, choose))
            last = report["success"][-1]
            low, high = last["interval"]
            print(f"  {budget:3d} moves, {choose:6s} n={episodes}: success {last['success']:.3f} ({low:.3f} .. {high:.3f}), "
                  f"{last['passes_a_decision']:.0f} passes and {last['seconds_a_decision'] or 0:.4f} s a decision", flush=True)
            write()
    return report


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    moves = parse_moves(f.moves)
    with read_agent(f.checkpoint) as agent:
        fields = ("chains", "tau", "energy", "proposals", "schedule", "characteristics", "elaborate")
        changed = {name: getattr(f, name) for name in fields if getattr(f, name) is not None}
        options = dataclasses.replace(options_of(agent.config.agent), **changed)
        out = Path(f.out) if f.out else Path(f.checkpoint) / "compute_curve"
        compute_curve(agent, out, moves, f.split, f.episodes, f.seed, options, f.choose)
        print(out / "curve.svg")


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "where curve.json and curve.svg go; default: compute_curve/ beside the checkpoint")
    flags.DEFINE_string("moves", "0,1,2,4,8", "numbers of moves a decision")
    flags.DEFINE_enum("split", "validation", ["validation", "test"], "which seeds")
    flags.DEFINE_integer("episodes", 128, "how many seeds", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the agent's sampling", lower_bound=0)
    flags.DEFINE_list("choose", [], "what is acted on: sample, habit, best; default: what the agent acts on, and best")
    flags.DEFINE_integer("chains", None, "chains a situation; this and those below: default as in config.agent.optimise")
    flags.DEFINE_float("tau", None, "temperature of the target")
    flags.DEFINE_string("energy", None, "plan or plan_and_text")
    flags.DEFINE_string("proposals", None, "prior or posterior")
    flags.DEFINE_string("schedule", None, "halving, uniform or geometric")
    flags.DEFINE_float("characteristics", None, "of several actors: the weight of the risk that is foreseen")
    flags.DEFINE_integer("elaborate", None, "of several actors: moves between two sub-plans that are made; 0: none")


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
