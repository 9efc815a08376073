"""Evaluates a run or an export: `python -m experiments.evaluate --checkpoint=runs/demo [--out=runs/demo/report]`.

Success of each mode on test seeds, held-out text measures, JEPA diagnostics; writes report.json and report.html.
"""
from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.export import export_checkpoint
from hjepa_gfn.agent.agent import Agent, load_agent
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode, random_mode, run_episodes
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation.alignment import Recorder, teachers_episodes, violations_by_principle
from hjepa_gfn.evaluation.levels import evaluate_levels
from hjepa_gfn.evaluation.report import wilson_interval, write_report
from hjepa_gfn.evaluation.texts import evaluate_texts
from hjepa_gfn.evaluation.views import planning_episodes, text_views
from hjepa_gfn.exemplary import ExemplaryActor
from hjepa_gfn.export.directory import MANIFEST
from hjepa_gfn.training import read_metrics, workdir_of
from hjepa_gfn.worlds import make_world, split_seeds
from hjepa_gfn.worlds.babyai import check_level


def success_rates(agent: Agent, level: str, seeds: list[int], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Success of each mode, the random policy and the bot on the same seeds; details per mode, with violations by principle."""
    world = make_world(level, len(seeds))
    planning, habitual = PlanningMode(agent, seed), HabitualMode(agent, seed)
    modes = {"planning": planning, "habitual": habitual, "random": random_mode(seed, world.num_actions)}
    rates, details = {}, {}
    for name, choose in modes.items():
        began, recorder = time.time(), Recorder()
        success, steps = run_episodes(world, seeds, choose, agent.config.agent.max_steps, recorder)
        rates[name] = float(success.mean())
        details[name] = {
            "successes": int(success.sum()),
            "mean_steps_when_successful": float(steps[success].mean()) if success.any() else None,
            "seconds": round(time.time() - began, 1), "decisions": dict(getattr(choose, "counts", {})),
            "violations": violations_by_principle(level, seeds, recorder.actions(steps))}
        print(f"  {name:9s} {rates[name]:.3f}  ({details[name]['seconds']} s)", flush=True)
    episodes, solved = teachers_episodes(ExemplaryActor(level, robustness=False), seeds)
    rates["bot"] = float(np.mean(solved))
    details["bot"] = {"successes": int(np.sum(solved))}
    for name, actions in episodes.items():
        details.setdefault(name, {})["violations"] = violations_by_principle(level, seeds, actions)
    return rates, details


def evaluate(
    checkpoint: str, out: str = "", level: str = "", episodes: int = 0, data_dir: str = "", seed: int = 0,
    training: dict[str, Any] | None = None, began: float | None = None,
) -> Path:
    """Runs the whole evaluation; returns the path of report.json. `began`: since when wall_seconds counts."""
    began = began or time.time()
    path = Path(checkpoint)
    is_export = (path / MANIFEST).exists()
    with tempfile.TemporaryDirectory() as scratch:
        agent = load_agent(path if is_export else export_checkpoint(checkpoint, Path(scratch) / "export", programs=False))
        config = agent.config
        level = level or config.level
        check_level(level)
        where = Path(out) if out else path / "report"
        seeds = split_seeds("test", episodes or config.evaluation.episodes)
        print(f"evaluating on {len(seeds)} test seeds of {level}", flush=True)
        rates, details = success_rates(agent, level, seeds, seed)

        held_out = data_dir or str(build(level, Path(scratch) / "held_out", 1, config.evaluation.texts, 0, 2, False))
        pipeline = Pipeline(held_out, "validation", agent.tokenizer, config.data, seed)
        summary, table = evaluate_texts(agent, pipeline, seed)
        report = {
            "level": level, "success_rate": rates,
            "success_interval": {n: wilson_interval(details[n]["successes"], len(seeds)) for n in rates},
            "violations": {n: d["violations"] for n, d in details.items()},
            "seeds": len(seeds), "first_seed": int(seeds[0]), "modes": details, **summary,
            "jepa": evaluate_levels(agent, pipeline, seed),
        }
        shown = planning_episodes(agent, level, seeds[: config.evaluation.pictures], seed)
        texts = text_views(pipeline.store, table, config.evaluation.pictures)
    report |= {"training": training or {}, "config": config.to_dict(), "wall_seconds": round(time.time() - began, 1)}
    curves = [] if is_export else read_metrics(workdir_of(path))
    json_path, html_path = write_report(where, report, curves, shown, texts)
    print_summary(report, shown)
    print(f"report: {html_path}")
    return json_path


def print_summary(report: dict[str, Any], episodes: list[Any]) -> None:
    """The table and one plan in words, on standard output."""
    rows = [("", "success", "95% interval")]
    for mode, rate in report["success_rate"].items():
        low, high = report["success_interval"][mode]
        rows.append((mode, f"{rate:.3f}", f"{low:.3f} .. {high:.3f}"))
    total = {mode: sum(found.values()) for mode, found in report["violations"].items()}
    rows.append(("violations an episode", f"{total['planning']:.2f}", "planning; " + ", ".join(
        f"{mode} {total[mode]:.2f}" for mode in total if mode != "planning")))
    nll = report["text_nll_per_token"]
    rows += [("", "", ""),
             ("text NLL per token", f"{nll['with_plan']:.4f}", f"without the plan {nll['without_plan']:.4f}"),
             ("AUROC draft energies", f"{report['energy_auroc_final_vs_draft']:.3f}", "draft above final"),
             ("posterior bounds", f"{report['posterior_elbo']:.2f}", f"ELBO; EUBO {report['posterior_eubo']:.2f} (nats)")]
    for level in ("step", "subgoal"):
        found = report["jepa"][level]
        rows.append((f"JEPA {level}", f"std {found['std']:.2f}", f"RankMe {found['rankme']:.0f}, SIGReg/floor "
                     f"{found['sigreg_over_floor']:.1f}, prediction/copy {found['pred_over_copy']:.3f}"))
    print()
    for name, value, note in rows:
        print(f"  {name:22s} {value:>9s}  {note}")
    shown = next((e for e in episodes if e.plans and e.success), next((e for e in episodes if e.plans), None))
    if shown:
        plan = shown.plans[0]
        print(f"\n  mission:   {shown.mission}\n  situation: {shown.situation}")
        print("  plan:      " + " | ".join(edge.action or "(open)" for edge in plan.edges))
        outcome = "success" if shown.success else "failure"
        print(f"  in words:  {plan.explanation}\n  outcome:   {outcome} in {len(shown.actions)} steps\n")


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    print(evaluate(f.checkpoint, f.out, f.level, f.episodes, f.data_dir, f.seed))


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "where the report goes; default: report/ beside the checkpoint")
    flags.DEFINE_string("level", "", "BabyAI level; default: the one the agent was trained on")
    flags.DEFINE_integer("episodes", 0, "test seeds; default: config.evaluation.episodes", lower_bound=0)
    flags.DEFINE_string("data_dir", "", "a corpus whose validation split is read; default: made anew")
    flags.DEFINE_integer("seed", 0, "of the agent's sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
