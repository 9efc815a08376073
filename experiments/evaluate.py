"""Evaluates a run or an export: `python -m experiments.evaluate --checkpoint=runs/demo [--out=runs/demo/report]`.

Success of each mode on test seeds, held-out text measures, JEPA diagnostics; writes report.json and report.html.
"""
from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.export import export_checkpoint
from hjepa_gfn.agent.agent import Agent, load_agent, with_options, world_for
from hjepa_gfn.agent.optimisation_mode import OptimisationMode
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode, random_mode, run_episodes
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.aims import evaluate_aims
from hjepa_gfn.evaluation.alignment import Recorder, teachers_episodes, violations_by_principle
from hjepa_gfn.evaluation.characteristics import evaluate_characteristics, lines
from hjepa_gfn.evaluation.diagnosis import diagnose
from hjepa_gfn.evaluation.levels import evaluate_levels
from hjepa_gfn.evaluation.report import wilson_interval, write_report
from hjepa_gfn.evaluation.texts import evaluate_texts
from hjepa_gfn.evaluation.views import episodes_by_mode, text_views
from hjepa_gfn.exemplary import ExemplaryActor
from hjepa_gfn.export.directory import MANIFEST
from hjepa_gfn.training import read_metrics, workdir_of
from hjepa_gfn.worlds import make_world, split_seeds
from hjepa_gfn.worlds.babyai import check_level


@contextlib.contextmanager
def read_agent(checkpoint: str) -> Iterator[Agent]:
    """The agent of a run, a checkpoint or an export."""
    with tempfile.TemporaryDirectory() as scratch:
        is_export = (Path(checkpoint) / MANIFEST).exists()
        yield load_agent(checkpoint if is_export else export_checkpoint(checkpoint, Path(scratch) / "export", programs=False))


def corpus_of(checkpoint: str, data_dir: str = "") -> str:
    """`data_dir`; where none is named, corpus/ of the run that the checkpoint, or the export in a run's directory, is of."""
    path = Path(checkpoint)
    return data_dir or str((path.parent if (path / MANIFEST).exists() else path) / "corpus")


def decision_costs(counts: dict[str, Any]) -> dict[str, Any]:
    """What a mode counted, and what a decision costs: network passes, and wall time in full chunks (None: not known)."""
    made = counts.get("plans", counts.get("habitual", 0))
    return {
        "decisions": dict(counts), "passes_a_decision": counts["passes"] / made if made else None,
        "seconds_a_decision": counts["seconds"] / counts["timed"] if counts.get("timed") else None}


def steps_over_bot(steps: np.ndarray, bot_steps: list[int], solved: list[bool]) -> float | None:
    """Mean ratio of steps to the bot's, over the first len(steps) episodes that both solved (steps 0: not solved)."""
    both = [mine / theirs for mine, theirs, ok in zip(steps, bot_steps, solved, strict=False) if mine and ok and theirs]
    return float(np.mean(both)) if both else None


def success_rates(
    agent: Agent, level: str, seeds: list[int], seed: int, optimised: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Success of each mode, the random policy and the bot on the same seeds (optimisation mode: the first `optimised`);
    details per mode, with violations by principle."""
    optimised = min(optimised, len(seeds))
    modes = {"planning": (PlanningMode(agent, seed), len(seeds)), "habitual": (HabitualMode(agent, seed), len(seeds))}
    if optimised:
        modes["optimisation"] = (OptimisationMode(agent, seed), optimised)
    modes["random"] = (random_mode(seed, make_world(level, 1).num_actions), len(seeds))
    rates, details, taken = {}, {}, {}
    for name, (choose, n) in modes.items():
        began, recorder = time.time(), Recorder()
        success, steps = run_episodes(world_for(agent, level, n), seeds[:n], choose, agent.config.agent.max_steps, recorder)
        rates[name], taken[name] = float(success.mean()), np.where(success, steps, 0)
        details[name] = {
            "episodes": n, "successes": int(success.sum()),
            "mean_steps_when_successful": float(steps[success].mean()) if success.any() else None,
            "seconds": round(time.time() - began, 1), **decision_costs(getattr(choose, "counts", {})),
            "violations": violations_by_principle(level, seeds[:n], recorder.actions(steps))}
        print(f"  {name:12s} {rates[name]:.3f}  (n = {n}, {details[name]['seconds']} s)", flush=True)
    episodes, solved = teachers_episodes(ExemplaryActor(level, robustness=False), seeds)
    rates["bot"] = float(np.mean(solved))
    details["bot"] = {"episodes": len(seeds), "successes": int(np.sum(solved))}
    for name, steps in taken.items():
        details[name]["steps_over_bot"] = steps_over_bot(steps, [len(actions) for actions in episodes["bot"]], solved)
    for name, actions in episodes.items():
        details.setdefault(name, {})["violations"] = violations_by_principle(level, seeds, actions)
    return rates, details


def world_model_of(agent: Agent, pipeline: Pipeline, level: str, seed: int) -> tuple[dict[str, Any] | None, list[str]]:
    """`diagnose` at the size that the config asks for; None and no plots where it asks for none, or the jitted world does not
    know the level."""
    options = agent.config.evaluation
    if not options.get("walks", 0):
        return None, []
    try:
        return diagnose(agent, pipeline, level, options.walks, options.walk_steps, seed)
    except UserError as error:
        print(f"  no exploring walks: {error}")
        return None, []


def evaluate(
    checkpoint: str, out: str = "", level: str = "", episodes: int = 0, data_dir: str = "", seed: int = 0,
    training: dict[str, Any] | None = None, began: float | None = None, optimised: int = -1, changes: Sequence[str] = (),
) -> Path:
    """Runs the whole evaluation; returns the path of report.json. `began`: since when wall_seconds counts; `optimised`:
    episodes in optimisation mode (-1: as the config says); `changes`: see `agent.with_options`."""
    began = began or time.time()
    path = Path(checkpoint)
    is_export = (path / MANIFEST).exists()
    with tempfile.TemporaryDirectory() as scratch, read_agent(checkpoint) as agent:
        agent = with_options(agent, changes)
        config = agent.config
        level = level or config.level
        check_level(level)
        where = Path(out) if out else path / "report"
        seeds = split_seeds("test", episodes or config.evaluation.episodes)
        print(f"evaluating on {len(seeds)} test seeds of {level}", flush=True)
        played = config.evaluation.get("optimised", 0) if optimised < 0 else optimised
        rates, details = success_rates(agent, level, seeds, seed, played)

        held_out = data_dir or str(build(level, Path(scratch) / "held_out", 1, config.evaluation.texts, 0, 2, False))
        pipeline = Pipeline(held_out, "validation", agent.tokenizer, config.data, seed)
        summary, table = evaluate_texts(agent, pipeline, seed)
        report = {
            "level": level, "success_rate": rates,
            "success_interval": {n: wilson_interval(details[n]["successes"], details[n]["episodes"]) for n in rates},
            "violations": {n: d["violations"] for n, d in details.items()},
            "seeds": len(seeds), "first_seed": int(seeds[0]), "modes": details, **summary,
            "jepa": evaluate_levels(agent, pipeline, seed), "held_out": evaluate_aims(agent, pipeline),
        }
        if agent.system.characteristics:
            report["characteristics"] = evaluate_characteristics(agent, pipeline, seed)
        report["world_model"], plots = world_model_of(agent, pipeline, level, seed)
        shown = episodes_by_mode(agent, level, seeds[: config.evaluation.pictures], seed)
        texts = text_views(pipeline.store, table, config.evaluation.pictures)
    report |= {"training": training or {}, "config": config.to_dict(), "wall_seconds": round(time.time() - began, 1)}
    curves = [] if is_export else read_metrics(workdir_of(path))
    json_path, html_path = write_report(where, report, curves, shown, texts, plots)
    print_summary(report, shown)
    print(f"report: {html_path}")
    return json_path


def print_summary(report: dict[str, Any], episodes: list[Any]) -> None:
    """The table and one plan in words, on standard output."""
    rows = [("", "success", "95% interval")]
    for mode, rate in report["success_rate"].items():
        low, high = report["success_interval"][mode]
        found = report["modes"][mode]
        cost = (f"; {found['passes_a_decision']:.0f} passes, {1e3 * (found['seconds_a_decision'] or 0):.1f} ms a decision"
                if found.get("passes_a_decision") else "")
        rows.append((mode, f"{rate:.3f}", f"{low:.3f} .. {high:.3f} (n = {found['episodes']}){cost}"))
    total = {mode: sum(found.values()) for mode, found in report["violations"].items()}
    rows.append(("violations an episode", f"{total['planning']:.2f}", "planning; " + ", ".join(
        f"{mode} {total[mode]:.2f}" for mode in total if mode != "planning")))
    nll = report["text_nll_per_token"]
    rows += [("", "", ""),
             ("text NLL per token", f"{nll['with_plan']:.4f}", f"without the plan {nll['without_plan']:.4f}"),
             ("AUROC draft energies", f"{report['energy_auroc_final_vs_draft']:.3f}", "draft above final"),
             ("posterior bounds", f"{report['posterior_elbo']:.2f}", f"ELBO; EUBO {report['posterior_eubo']:.2f} (nats)")]
    held = report["held_out"]
    rows.append(("acts as experts do", f"{held['habit_accuracy']:.3f}", f"habits, {held['situations']} held-out situations"))
    if "aims" in held:
        rows.append(("aims as experts do", f"{held['aim_accuracy']:.3f}", f"in view {held['aim_accuracy_in_view']:.3f}"))
    for level in (name for name, found in report["jepa"].items() if isinstance(found, dict)):
        found = report["jepa"][level]
        rows.append((f"JEPA {level}", f"std {found['std']:.2f}", f"RankMe {found['rankme']:.0f}, SIGReg/floor "
                     f"{found['sigreg_over_floor']:.1f}, prediction/copy {found['pred_over_copy']:.3f}"))
    if known := report["world_model"]:
        kept, dynamics = known["memory"]["embedding"], known["dynamics"]
        rows += [("out of view, R^2", f"{kept['lone object out of view']:.3f}", "place of a lone object out of sight"),
                 ("ambiguity AUROC", f"{kept['ambiguity_auroc_last']:.3f}", "predicted variance, where a percept shows cells "
                  f"that the last did not; that none did: {kept['ambiguity_auroc']:.3f}"),
                 ("r^2/sigma^2", f"{dynamics['experts']['calibration']:.2f}",
                  f"experts; exploring walks {dynamics['walks']['calibration']:.2f}")]
        if believed := known["memory"].get("belief"):
            of = {name: dynamics[name]["of the belief"]["calibration"] for name in ("experts", "walks")}
            rows += [("the belief", f"{believed['told in the right cell']:.3f}", "of things out of view in their right cell; "
                      f"ambiguity AUROC {believed['ambiguity_auroc']:.3f}; r^2/sigma^2 {of['experts']:.2f}, {of['walks']:.2f}")]
    print()
    for name, value, note in rows:
        print(f"  {name:22s} {value:>9s}  {note}")
    for line in lines(report.get("characteristics", {})):
        print(f"  {line}")
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
    print(evaluate(f.checkpoint, f.out, f.level, f.episodes, f.data_dir, f.seed, optimised=f.optimised, changes=f.agent))


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "where the report goes; default: report/ beside the checkpoint")
    flags.DEFINE_string("level", "", "BabyAI level; default: the one the agent was trained on")
    flags.DEFINE_integer("episodes", 0, "test seeds; default: config.evaluation.episodes", lower_bound=0)
    flags.DEFINE_integer("optimised", -1, "episodes in optimisation mode; default: config.evaluation.optimised", lower_bound=-1)
    flags.DEFINE_string("data_dir", "", "a corpus whose validation split is read; default: made anew")
    flags.DEFINE_integer("seed", 0, "of the agent's sampling", lower_bound=0)
    flags.DEFINE_multi_string("agent", [], "a field of config.agent to act with, e.g. plan_samples=4; repeatable")


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
