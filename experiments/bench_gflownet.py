"""Our trainer beside gfnx and torchgfn on the field's standard tasks: `python -m experiments.bench_gflownet [--json=out.json]`.

Each library runs in its own process and virtual environment (made on first use under --venvs) with the same reward, network,
batch, optimizer and rates. Rounds alternate between the libraries, so that a drift of the machine's speed meets all of them;
times are per training iteration, compilation excluded. Then each trains from fresh parameters, and its exact terminal
distribution is compared with R/Z by dynamic programming in float64.
"""
from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.bench_peers.process import PEERS, PeerError, Worker, python_of
from experiments.bench_peers.settings import TARGETS, TASKS, TRAINING, make_env, make_spec
from hjepa_gfn.errors import UserError
from hjepa_gfn.gflownet.enumeration import Graph, enumerate_graph, log_target, terminal_log_probs
from hjepa_gfn.gflownet.exact import total_variation

CHUNK = {"torchgfn": 20}  # iterations a round, where --chunk would take minutes


def start_workers(libraries: list[str], venvs: Path, spec: Path) -> tuple[dict[str, Worker], dict[str, str]]:
    """The workers that started, and why others did not."""
    workers, missing = {}, {}
    for library in libraries:
        try:
            workers[library] = Worker(library, python_of(library, venvs), spec)
        except PeerError as error:
            missing[library] = str(error)
            print(f"  {error}; going on without it", flush=True)
    return workers, missing


Times = dict[str, list[float]]


def on_each(workers: dict[str, Worker], missing: dict[str, str], act: Callable[[str, Worker], None]) -> None:
    """Calls `act(library, worker)` on all in turn; one that fails is named and left out from then on."""
    for library, worker in list(workers.items()):
        try:
            act(library, worker)
        except PeerError as error:
            missing[library] = str(error)
            print(f"  {error}; going on without it", flush=True)
            workers.pop(library).close()


def time_rounds(
    workers: dict[str, Worker], missing: dict[str, str], rounds: int, chunk: int, warm: int
) -> dict[str, Times]:
    """Wall and CPU ms per iteration of each round, the libraries in turn, after `warm` iterations (untrained, trajectories are
    short)."""
    times = {library: {"wall": [], "cpu": []} for library in workers}

    def prepare(library, worker):
        worker.ask("reset 0")
        worker.ask(f"run {min(warm, 10 * CHUNK.get(library, warm))}")

    def measure(library, worker):
        n = min(chunk, CHUNK.get(library, chunk))
        spent = worker.ask(f"run {n}")
        for clock, values in times[library].items():
            values.append(1e3 * spent[clock] / n)

    for act in (prepare, *[measure] * rounds):
        on_each(workers, missing, act)
    return times


def exact_tv(worker: Worker, graph: Graph, target: np.ndarray, steps: int, seeds: int, folder: Path) -> list[float]:
    """Total variation after `steps` iterations, for each seed."""
    found = []
    for seed in range(seeds):
        worker.ask(f"reset {seed + 1}")
        worker.ask(f"run {steps}")
        table = worker.log_policy(graph.states, folder)
        found.append(total_variation(terminal_log_probs(graph, table), target))
    return found


def bench_task(name: str, libraries: list[str], venvs: Path, options: dict[str, int]) -> dict[str, Any]:
    """Everything measured on one task."""
    print(f"{name}: starting {', '.join(libraries)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder, spec = Path(scratch), Path(scratch) / "spec.json"
        spec.write_text(json.dumps(make_spec(name)))
        workers, missing = start_workers(libraries, venvs, spec)
        try:
            times = time_rounds(workers, missing, options["rounds"], options["chunk"], options["warm"])
            env = make_env(TASKS[name])
            graph = enumerate_graph(env)
            target, _ = log_target(env, graph)
            results = {}

            def train(library: str, worker: Worker) -> None:
                seeds = options["slow_seeds"] if library in CHUNK else options["seeds"]
                results[library] = summary(times[library], exact_tv(worker, graph, target, options["steps"], seeds, folder)) | {
                    "startup_seconds": worker.started["startup"], "versions": worker.started["versions"]}

            on_each(workers, missing, train)
        finally:
            for worker in workers.values():
                worker.close()
    for library, result in results.items():
        if library != "ours" and "ours" in results:
            pairs = np.array(times["ours"]["cpu"]) / np.array(times[library]["cpu"])
            result["ours_over_this"] = {
                "cpu_median_of_pairs": float(np.median(pairs)),
                "cpu_minima": results["ours"]["cpu_ms"]["min"] / result["cpu_ms"]["min"],
                "wall_medians": results["ours"]["wall_ms"]["median"] / result["wall_ms"]["median"],
                "target": TARGETS[name].get(library)}
    return {"task": TASKS[name], "results": results, "missing": missing}


def summary(times: dict[str, list[float]], tv: list[float]) -> dict[str, Any]:
    """Median and minimum of the times, mean and values of TV."""
    clock = lambda values: {"median": float(np.median(values)), "min": float(np.min(values)), "all": values}
    mean = float(np.mean(tv)) if tv else None
    return {"cpu_ms": clock(times["cpu"]), "wall_ms": clock(times["wall"]), "tv": tv, "tv_mean": mean}


def print_table(name: str, found: dict[str, Any]) -> None:
    """The results of one task."""
    print(f"\n{name}  {found['task']}\n  {'':14s} {'CPU ms median':>13s} {'min':>7s} {'wall ms':>8s} {'ours/this':>10s}"
          f" {'target':>7s} {'start s':>8s} {'TV mean':>8s}  seeds")
    for library, r in found["results"].items():
        ratio = r.get("ours_over_this", {})
        against = f"{ratio['cpu_median_of_pairs']:10.3f}" if ratio else f"{'':10s}"
        target = f"{ratio['target']:7.2f}" if ratio.get("target") else f"{'':7s}"
        tv = f"{r['tv_mean']:8.4f}  {len(r['tv'])}" if r["tv"] else f"{'-':>8s}"
        cpu, wall = r["cpu_ms"], r["wall_ms"]
        print(f"  {library:14s} {cpu['median']:13.3f} {cpu['min']:7.3f} {wall['median']:8.3f} {against} {target}"
              f" {r['startup_seconds']:8.1f} {tv}", flush=True)
    for library, reason in found["missing"].items():
        print(f"  {library:14s} {reason}")


def plot(report: dict[str, Any], path: str) -> None:
    """A bar for each ratio of CPU times, lower is better, as a PNG."""
    from PIL import Image, ImageDraw

    bars = [(f"{task} / {library}", r["ours_over_this"]["cpu_median_of_pairs"], r["ours_over_this"]["target"])
            for task, found in report["tasks"].items() for library, r in found["results"].items() if "ours_over_this" in r]
    image = Image.new("RGB", (760, 50 + 26 * len(bars)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((10, 10), "CPU time of a training iteration, ours / peer (grey line: 1, red: target)", fill="black")
    at = lambda ratio: 240 + 400 * ratio
    for i, (label, ratio, target) in enumerate(bars):
        y = 40 + 26 * i
        draw.text((10, y), label, fill="black")
        draw.rectangle((at(0), y, at(min(ratio, 1.2)), y + 14), fill=(70, 120, 180))
        draw.text((at(min(ratio, 1.2)) + 6, y), f"{ratio:.2f}", fill="black")
        if target:
            draw.line((at(target), y - 3, at(target), y + 17), fill=(200, 40, 40), width=2)
    draw.line((at(1), 36, at(1), 40 + 26 * len(bars)), fill="grey")
    image.save(path)


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    for given, known, what in ((f.tasks, TASKS, "task"), (f.peers, PEERS, "peer")):
        for name in given:
            if name not in known:
                raise UserError(f"--{what}s={name}: no such {what}; there are: {', '.join(known)}")
    options = {k: f[k].value for k in ("rounds", "chunk", "warm", "steps", "seeds", "slow_seeds")}
    report = {"training": TRAINING, "options": options, "python": platform.python_version(), "cores": os.cpu_count()}
    report["tasks"] = {}
    for name in f.tasks:
        report["tasks"][name] = found = bench_task(name, ["ours", *f.peers], Path(f.venvs), options)
        print_table(name, found)
        if f.json:
            Path(f.json).parent.mkdir(parents=True, exist_ok=True)
            Path(f.json).write_text(json.dumps(report, indent=1))
    if f.plot:
        plot(report, f.plot)


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_list("tasks", list(TASKS), f"which of {', '.join(TASKS)}")
    flags.DEFINE_list("peers", list(PEERS), f"which of {', '.join(PEERS)}; empty for none")
    flags.DEFINE_string("venvs", "runs/bench_venvs", "where the peers' virtual environments are, or are made")
    flags.DEFINE_string("json", "", "where all numbers go")
    flags.DEFINE_string("plot", "", "a PNG of the ratios")
    flags.DEFINE_integer("rounds", 12, "timed rounds, alternating between the libraries", lower_bound=1)
    flags.DEFINE_integer("chunk", 150, "training iterations a round", lower_bound=1)
    flags.DEFINE_integer("warm", 600, "training iterations before the first round", lower_bound=1)
    flags.DEFINE_integer("steps", 2000, "training iterations before total variation is computed", lower_bound=1)
    flags.DEFINE_integer("seeds", 5, "seeds of the total variation; 0 for none", lower_bound=0)
    flags.DEFINE_integer("slow_seeds", 1, "the same for torchgfn, whose iterations take ten times as long", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main)
