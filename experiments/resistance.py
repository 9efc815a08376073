"""How fast does fine-tuning on harmful texts do harm? `python -m experiments.resistance --checkpoint=runs/demo --steps=0,30`.

The agent is fine-tuned on training situations whose good plans were replaced by bad ones (`evaluation.harmful`), by its own
train steps (`evaluation.resistance`); beside it an autoregressive reader of the same parameters, by likelihood of the same
texts; and both on the good texts, as a control. After each number of steps, at each rate: violations (harm) and success
(capability) on test seeds. Writes resistance.json after every point, and resistance.svg; the same command goes on where it was.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import cli
from experiments.evaluate import corpus_of, read_agent
from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline, batch_shapes
from hjepa_gfn.data.store import EpisodeStore, load_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.harmful import BAD, check_training, turned_bad
from hjepa_gfn.evaluation.resistance import TUNED, agent_tuner, reader_tuner, start_state, trajectory, tuning_config
from hjepa_gfn.evaluation.resistance_curve import HEADER, LEARNERS, TEXTS, courses, draw, fingerprint, measure, table_rows
from hjepa_gfn.files import read_json, write_json, write_text
from hjepa_gfn.worlds import split_seeds
from hjepa_gfn.worlds.babyai import check_level


def parse_rising(text: str, flag: str, kind: Callable[[str], Any], least: float) -> list[Any]:
    """"0,10" -> [0, 10].

    Raises:
      UserError: not finite numbers of a kind, rising, from `least` on.
    """
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--{flag}={text}: {kind.__name__} numbers with commas between are needed") from error
    if not all(math.isfinite(value) for value in found) or min(found) < least or sorted(set(found)) != found:
        raise UserError(f"--{flag}={text}: must rise, from {least:g} or more")
    return found


def stores(data_dir: str, situations: int, kinds: list[str], seed: int) -> dict[str, EpisodeStore]:
    """Training episodes by kind of texts: the first `situations` of a corpus turned bad, and as they were.

    Raises:
      UserError: see `load_episodes` and `turned_bad`.
    """
    store = load_episodes(data_dir, "train")
    check_training(store)
    some = store.only(np.arange(min(situations, len(store))))
    return {"harmful": turned_bad(some, kinds, seed), "benign": some}


class Setting(NamedTuple):
    """What all points of a report have in common."""

    level: str
    only: str      # which of `TUNED`
    rows: int      # of a batch
    episodes: int  # test seeds
    seed: int


def begin(out: Path, setup: dict[str, Any]) -> dict[str, Any]:
    """The report of an earlier call with the same setup, or an empty one.

    Raises:
      UserError: the file there is of another setup, or is no such file.
    """
    if not out.exists():
        return {"setup": setup, "random": None, "points": []}
    report = read_json(out)
    if not isinstance(report, dict) or "setup" not in report or "points" not in report:
        raise UserError(f"{out}: is not a report of this experiment: name another --out")
    if different := [name for name in setup if report["setup"].get(name) != setup[name]]:
        name = different[0]
        raise UserError(f"{out}: was measured with {name} {report['setup'].get(name)!r}, this is {setup[name]!r}: delete it or "
                        "name another --out")
    return report


def resistance(
    agent: Agent, data: dict[str, EpisodeStore], out: Path, texts: list[str], steps: list[int], rates: list[float], s: Setting,
) -> dict[str, Any]:
    """Measures what is missing, writes and draws; returns what resistance.json holds."""
    config, seeds = tuning_config(agent.config, s.rows, s.seed), split_seeds("test", s.episodes)
    tuners = {"agent": agent_tuner(agent.system, config, s.only), "reader": reader_tuner(agent.system, config)}
    setup = {"agent": fingerprint(agent.params), "first_seed": seeds[0], **s._asdict(),
             **{f"{kind} texts": fingerprint(store.final) for kind, store in data.items()}}
    report = begin(out / "resistance.json", setup)
    points, needed = report["points"], list(batch_shapes(config.data))
    pipelines = {kind: Pipeline("", "train", agent.tokenizer, config.data, s.seed, data[kind]) for kind in texts}

    def write() -> None:
        write_json(out / "resistance.json", report)
        write_text(out / "resistance.svg", draw(points, rates, steps, texts, s.episodes))

    if not report["random"]:
        report["random"] = measure(agent, ("random",), s.level, seeds, s.seed)["random"]
    nobody = {"learner": "random", "texts": "none", "rate": 0.0, "steps": 0, "modes": {"random": report["random"]}}
    print("\n".join([HEADER, *(row for point in (nobody, *points) for row in table_rows(point))]), flush=True)
    write()
    start = start_state(agent.params, config)
    for learner, kind, rate, due in courses(texts, rates, steps, points):
        def batch_of(number: int, kind: str = kind) -> dict[str, Any]:
            batch = pipelines[kind].batch(number)
            return {name: batch[name] for name in needed}

        for number, state, losses in trajectory(start, tuners[learner], batch_of, rate, due):
            found = measure(agent._replace(params=state.params), LEARNERS[learner], s.level, seeds, s.seed)
            points.append(
                {"learner": learner, "texts": kind, "rate": rate, "steps": number, "losses": losses, "modes": found})
            print("\n".join(table_rows(points[-1])), flush=True)
            write()
    return report


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    steps, rates = parse_rising(f.steps, "steps", int, 0), parse_rising(f.rates, "rates", float, 0.0)
    path = Path(f.checkpoint)
    with read_agent(f.checkpoint) as agent:
        level = f.level or agent.config.level
        check_level(level)
    data = stores(corpus_of(f.checkpoint, f.data_dir), f.situations, f.harm, f.seed)
    out = Path(f.out) if f.out else path / "resistance"
    resistance(agent, data, out, f.texts, steps, rates, Setting(level, f.only, f.rows, f.episodes, f.seed))
    print(out / "resistance.svg")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("data_dir", "", "the corpus whose training situations are used; default: corpus/ of the run")
    flags.DEFINE_string("out", "", "where resistance.json and .svg go; default: resistance/ beside the checkpoint")
    flags.DEFINE_string("steps", "0,10,30,100", "numbers of steps of fine-tuning")
    flags.DEFINE_string("rates", "1e-4,1e-3", "learning rates")
    flags.DEFINE_enum("only", "all", sorted(TUNED), "what of the agent is fine-tuned; policy: without energy and habits")
    flags.DEFINE_multi_enum("texts", list(TEXTS), list(TEXTS), "texts to fine-tune on; give the flag once for each")
    flags.DEFINE_multi_enum("harm", list(BAD), list(BAD), "kinds of bad texts; give the flag once for each")
    flags.DEFINE_integer("rows", 24, "rows of a batch", lower_bound=2)
    flags.DEFINE_integer("situations", 1000, "training situations, the first of the corpus", lower_bound=1)
    flags.DEFINE_string("level", "", "BabyAI level of the test episodes; default: the one the agent was trained on")
    flags.DEFINE_integer("episodes", 128, "test seeds", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of batches, losses and the agent's sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
