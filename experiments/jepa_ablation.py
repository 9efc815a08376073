"""What keeps the JEPA from collapsing, put to the test: `python -m experiments.jepa_ablation --out=runs/jepa_ablation`.

Trains the JEPA hierarchy alone, once for each of {none, ema, vicreg, sigreg, gaussian} x {without, with inverse dynamics} x
seeds, and diagnoses it on held-out episodes: std, RankMe, SIGReg over its floor, prediction over copy error at two horizons,
and what linear probes read off the states. Writes ablation.json and prints a table. Collapse is shown, not hidden.

`--variants="gaussian + inverse,gaussian + inverse + between"` names others: "between" adds the gradient step between
neighbouring levels (`objectives.between`), with weight 1 or `jepa.between`. More levels: `--config=babyai_clauses`.
"""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.distributed import unbox
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.levels import level_table, probe_table
from hjepa_gfn.files import write_json
from hjepa_gfn.objectives.between import between_loss
from hjepa_gfn.objectives.jepa import jepa_loss
from hjepa_gfn.objectives.system import init_params
from hjepa_gfn.objectives.train_steps import make_optimizer
from hjepa_gfn.training.agent_task import corpus_tokenizer, system_of

WEIGHT = {"none": 0.0, "ema": 0.0, "vicreg": 1.0, "sigreg": 0.05, "gaussian": 0.2}  # of every term
SHOWN = ("std", "rankme", "sigreg_over_floor", "pred_over_copy", "pred_over_copy_far", "direction", "carried", "ahead")


def variants(config: Any, names: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """(name, config.jepa) of the variants named, or of every term with and without inverse dynamics.

    Raises:
      UserError: a name that means nothing.
    """
    for name in names or [f"{term}{inverse}" for term in WEIGHT for inverse in ("", " + inverse")]:
        term, *parts = (part.strip() for part in name.split("+"))
        if term not in WEIGHT or not set(parts) <= {"inverse", "between"}:
            raise UserError(f"--variants={name}: one of {', '.join(WEIGHT)}, then + inverse and + between if wanted")
        jepa = config.jepa.copy_and_resolve_references()
        jepa.update(dict(anti_collapse=term, regularise=WEIGHT[term], inverse=config.jepa.inverse * ("inverse" in parts),
                         between=(config.jepa.between or 1.0) * ("between" in parts)))
        yield " + ".join((term, *parts)), jepa


def train(system: Any, config: Any, options: Any, pipeline: Pipeline, steps: int, seeds: list[int]) -> list[Any]:
    """JEPA parameters after `steps` Adam steps, one for each seed; compiled once."""
    tx = make_optimizer(config.optimizer)
    rate = optax.cosine_decay_schedule(config.optimizer.learning_rate, steps)
    decay = options.slow

    @jax.jit
    def update(params, moments, slow, key, window, step):
        def loss(jepa):
            total = jepa_loss({"jepa": jepa, "jepa_slow": slow}, key, window, system, options)[0]
            return total + (options.between * between_loss({"jepa": jepa}, window, system)[0] if options.between else 0.0)

        updates, moments = tx.update(jax.grad(loss)(params), moments, params)
        params = jax.tree.map(lambda p, u: p - rate(step) * u, params, updates)
        return params, moments, jax.tree.map(lambda s, p: decay * s + (1 - decay) * p, slow, params)

    trained = []
    for seed in seeds:
        params = unbox(jax.jit(lambda key: init_params(system, key, config.data.mission_length)["jepa"])(jax.random.key(seed)))
        moments, slow = tx.init(params), params
        for step in range(steps):
            window = pipeline.batch(seed * 1_000_003 + step)["random"]
            key = jax.random.fold_in(jax.random.key(seed), step)
            params, moments, slow = update(params, moments, slow, key, window, jnp.int32(step))
        trained.append(params)
    return trained


def main(config: Any) -> None:
    """The entry point."""
    f = flags.FLAGS
    out, seeds = Path(f.out), list(range(f.seeds))
    chosen = list(variants(config, f.variants))
    corpus = build(config.level, out / "corpus", config.data.train_episodes, config.evaluation.texts, config.data.seed,
                   config.data.workers, f.progress)
    tokenizer = corpus_tokenizer(load_episodes(corpus, "train"), config.data.vocab)
    pipelines = {split: Pipeline(corpus, split, tokenizer, config.data, 0) for split in ("train", "validation")}
    system = system_of(config, tokenizer)
    shown = (*SHOWN, *(("reach_accuracy",) if system.jepa.sizes.reach else ()))
    wide = max(18, *(len(name) + 1 for name, _ in chosen))
    rows: dict[str, Any] = {}
    print(f"{'':{wide}}{'level':9}" + "".join(f"{name:>20}" for name in shown))
    for name, options in chosen:
        began = time.time()
        found = []
        for params in train(system, config, options, pipelines["train"], f.steps, seeds):
            levels = level_table({"jepa": params}, system, config.jepa, pipelines["validation"], 0)
            probes = probe_table({"jepa": params}, system, pipelines["validation"])
            found.append({level: {**levels[level], **probes[level]} for level in system.jepa.sizes.names})
        rows[name] = {"per_seed": found, "seconds": round(time.time() - began, 1)}
        for level in system.jepa.sizes.names:
            values = [[run[level][key] for run in found] for key in shown]
            print(f"{name:{wide}}{level:9}" + "".join(f"{np.mean(v):12.3f} +-{np.std(v):5.2f}" for v in values), flush=True)
        write_json(out / "ablation.json", {"level": config.level, "steps": f.steps, "seeds": seeds, "rows": rows})
    print(f"written to {out / 'ablation.json'}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("out", "runs/jepa_ablation", "where the corpus and ablation.json go")
    flags.DEFINE_integer("steps", 400, "training steps of each run", lower_bound=1)
    flags.DEFINE_integer("seeds", 3, "runs of each variant", lower_bound=1)
    flags.DEFINE_list("variants", [], "which; default: every term without and with inverse dynamics")
    flags.DEFINE_bool("progress", True, "show the corpus builder's progress")


if __name__ == "__main__":
    define_flags()
    cli.main(main, config="babyai_gotolocal")
