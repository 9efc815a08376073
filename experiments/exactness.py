"""Trains every GFlowNet loss on enumerable plan trees and checks the sampler: `python -m experiments.exactness [--json=path]`.

Policies are tables over all plans of a small family, with random rewards in several contexts; all figures are exact
(float64, against enumeration). The back-and-forth sampler moves by the agent's network with random weights. Exit code 1 if a
bar is missed.
"""
from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from absl import flags

from experiments import cli
from hjepa_gfn.evaluation.exact_losses import LOSSES, Sampling
from hjepa_gfn.evaluation.exact_network import stationary_errors
from hjepa_gfn.evaluation.exact_training import Training, measure, random_rewards, summary, train
from hjepa_gfn.evaluation.plan_tables import tabled_plans
from hjepa_gfn.plans import PlanSpec

BARS = {"total_variation": 0.01, "stationary_error": 1e-10}
COLUMNS = {
    "total_variation": "TV", "jensen_shannon": "JS", "log_z_error": "|log Z error|", "log_z_minus_elbo": "log Z - ELBO",
    "eubo_minus_log_z": "EUBO - log Z"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained. Steps by loss: a learned reward is a moving target; the sleep loss sees every plan at each step."""

    spec: PlanSpec = PlanSpec(state_codes=(3, 3), action_codes=(3, 2), capacity=4, max_edits=3)
    seeds: int = 5
    contexts: int = 3
    rate: float = 0.1  # of Adam, to zero as a cosine
    steps: int = 1500
    more_steps: tuple[tuple[str, int], ...] = (("LED-SubTB", 3000), ("sleep", 500))
    sampling: Sampling = Sampling(rows=16, epsilon=0.1)

    def of(self, loss: str) -> Training:
        return Training(dict(self.more_steps).get(loss, self.steps), self.rate, self.sampling)


QUICK = Setting(PlanSpec((2, 2), (2, 2), capacity=4, max_edits=3), seeds=1, contexts=2, steps=1500)


def run(setting: Setting, names: tuple[str, ...] = tuple(LOSSES)) -> dict[str, Any]:
    """Trains and measures; prints a line a loss as it comes. Returns the report (`figures`: of every seed and context)."""
    began = time.time()
    env = tabled_plans(setting.spec)
    nodes = len(env.graph.plans.num_edits)
    rewards = random_rewards(setting.seeds, setting.contexts, nodes)
    env = dataclasses.replace(env, log_rewards=jnp.asarray(rewards))
    print(f"{nodes} plans, {len(env.graph.parent)} labelled edges; {setting.seeds} seeds x {setting.contexts} contexts, "
          f"log R ~ N(0, 1); Adam at {setting.rate}, to zero as a cosine; trajectories: half forward (epsilon "
          f"{setting.sampling.epsilon}), half backward from uniformly drawn plans\n", flush=True)
    print(f"  {'mean and worst of':17s}" + "".join(f"{title:>20s}" for title in COLUMNS.values()) + f"{'settings':>24s}")
    table, figures = {}, {}
    for name in names:
        training = setting.of(name)
        found = measure(name, env, train(name, env, training))
        table[name], figures[name] = summary(found), {k: v.tolist() for k, v in found.items()}
        cells = "".join(f"{table[name][c]['mean']:10.5f}{table[name][c]['worst']:10.5f}" for c in COLUMNS)
        batch = "all plans" if name == "sleep" else f"{2 * training.sampling.rows} rows a context"
        print(f"  {name:17s}{cells}    {training.steps} steps, {batch}", flush=True)
    stationary = stationary_errors(env.spec, env.graph, env.tables, rewards[:4])
    print("\n  stationary error of the back-and-forth move by a network with random weights (prior and posterior in turn, "
          f"{len(rewards[:4])} contexts): "
          + ", ".join(f"{name} {error:.1e}" for name, error in stationary.items()))
    missed = [n for n, row in table.items() if not row["total_variation"]["worst"] <= BARS["total_variation"]]
    missed += [n for n, error in stationary.items() if not error <= BARS["stationary_error"]]
    verdict = f"missed by: {', '.join(missed)}" if missed else "all met"
    seconds = round(time.time() - began, 1)
    print(f"  bars: worst total variation <= {BARS['total_variation']}, stationary error <= {BARS['stationary_error']}: "
          f"{verdict}  ({seconds} s)")
    return {"setting": dataclasses.asdict(setting), "plans": nodes, "edges": len(env.graph.parent), "losses": table,
            "figures": figures, "stationary_error": stationary, "bars": BARS, "missed": missed, "seconds": seconds}


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    report = run(QUICK if f.quick else Setting())
    if f.json:
        path = Path(f.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2))
    if report["missed"]:
        sys.exit(1)


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_string("json", "", "where to write the figures")
    flags.DEFINE_bool("quick", False, "one seed, two contexts, a smaller family")


if __name__ == "__main__":
    define_flags()
    cli.main(main)
