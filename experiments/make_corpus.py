"""Builds a corpus of a BabyAI level:

python -m experiments.make_corpus --level=BabyAI-GoToLocal-v0 --out=runs/corpus --train=4000 --validation=500
"""

import os

from absl import flags

from experiments import cli
from hjepa_gfn.data.builder import build

_LEVEL = flags.DEFINE_string("level", "BabyAI-GoToLocal-v0", "gym id of a BabyAI level")
_OUT = flags.DEFINE_string("out", None, "directory to make")
_TRAIN = flags.DEFINE_integer("train", 4000, "training episodes")
_VALIDATION = flags.DEFINE_integer("validation", 500, "validation episodes")
_SEED = flags.DEFINE_integer("seed", 0, "which episodes, which mistakes in drafts, which wording")
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "processes; without effect on the result")
_TEXT_ONLY = flags.DEFINE_float("text_only", 0.0, "share of episodes that are given no trajectory")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace an existing corpus, whole or not")


def run() -> None:
    """Builds the corpus that the flags describe and prints where it is."""
    out = build(
        _LEVEL.value,
        _OUT.value,
        _TRAIN.value,
        _VALIDATION.value,
        _SEED.value,
        _WORKERS.value,
        text_only=_TEXT_ONLY.value,
        overwrite=_OVERWRITE.value,
    )
    print(out)


if __name__ == "__main__":
    cli.main(run, required=("out",))
