"""The whole way on one machine: corpus, training, export, evaluation. `make demo` calls this.

The last line of output is the path of report.json.
"""
from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.evaluate import evaluate
from experiments.export import export_checkpoint
from experiments.train import train

_WORKDIR = flags.DEFINE_string("out", "runs/demo", "where everything goes")
_FRESH = flags.DEFINE_bool("fresh", False, "delete an earlier demo in --out first, instead of going on with it")


def demo(config: Any) -> None:
    """Corpus, training, export, evaluation and report."""
    began = time.time()
    workdir = Path(_WORKDIR.value)
    if _FRESH.value and (workdir / "config.json").exists():
        shutil.rmtree(workdir)
    train(config, str(workdir))
    trained = time.time()
    export = export_checkpoint(workdir, workdir / "export")
    print(f"exported: {export}")
    training = {"seconds_corpus_and_training": round(trained - began, 1)}
    print(evaluate(str(workdir), data_dir=str(workdir / "corpus"), seed=config.seed, training=training, began=began))


if __name__ == "__main__":
    cli.main(demo, config="babyai_belief")
