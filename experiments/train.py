"""Trains an agent: `python -m experiments.train --workdir=runs/demo --config=babyai_gotolocal --config.seed=1`.

Builds the corpus first if `--data_dir` holds none. A run that was stopped or killed goes on where it was.
On several hosts the same command runs on each (`hjepa_gfn/distributed/startup.py`; `launch/` starts it there).
"""
from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.directory import MANIFEST, check_corpus
from hjepa_gfn.distributed import ShardingRules, make_mesh, startup
from hjepa_gfn.export import npz_bytes
from hjepa_gfn.training import quiet, run
from hjepa_gfn.training.agent_task import AgentTask
from hjepa_gfn.training.agent_task import codebooks as grids_of
from hjepa_gfn.training.alarm import collapse
from hjepa_gfn.training.profiling import parse_steps
from hjepa_gfn.worlds.kinds import PERCEPT_KINDS, count_kinds


def train(config: Any, workdir: str, data_dir: str = "", progress: bool = True, profile_steps: str = "") -> Any:
    """Corpus, then training; returns the final state."""
    quiet()
    traced = parse_steps(profile_steps)
    data = Path(data_dir) if data_dir else Path(workdir) / "corpus"
    d = config.data
    # before anything is built: a mesh that cannot be had is found out in a second
    mesh = make_mesh(**config.mesh)
    workers = min(d.workers, os.cpu_count() or 1)

    def corpus() -> None:
        if data_dir and (data / MANIFEST).exists():
            check_corpus(data)  # whatever it was built of
        else:
            build(config.level, data, d.train_episodes, d.validation_episodes, d.seed, workers, progress,
                  astray=d.get("astray", 0.0))

    startup.in_turns(corpus)  # a corpus that another process has built is left as it is
    task = AgentTask(config, data)
    # beside the codes, which kinds of cells the corpus shows: what is novel is what it does not
    books = grids_of(task.system) | {PERCEPT_KINDS: count_kinds(task.pipeline.store.view)}
    files = {"tokenizer.json": task.tokenizer.to_json(), "codebooks.npz": npz_bytes(books)}
    return run(
        task, workdir, mesh=mesh, rules=ShardingRules(**config.sharding), checkpoint_every=config.checkpoint_every,
        log_every=config.log_every, seed=config.seed, config=config, files=files, progress=progress,
        show=("habit/accuracy", "e_step/posterior_subtb"), profile_steps=traced,
        alarm=partial(collapse, bars=config.alarm))


def main(config: Any) -> None:
    """The entry point."""
    startup.start_from_flags()  # before anything touches JAX
    train(config, flags.FLAGS.workdir, flags.FLAGS.data_dir, flags.FLAGS.progress, flags.FLAGS.profile_steps)
    print(f"trained: {flags.FLAGS.workdir}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("workdir", "runs/demo", "where the run lives: checkpoints, metrics, tokenizer")
    flags.DEFINE_string("data_dir", "", "the corpus; default: corpus/ in the working directory")
    flags.DEFINE_string("profile_steps", "", "first:last, iterations to leave a profiler's trace of in the working directory")
    flags.DEFINE_bool("progress", True, "show a progress line")
    startup.define_flags()


if __name__ == "__main__":
    define_flags()
    cli.main(main, config="babyai_gotolocal")
