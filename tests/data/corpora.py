"""A small corpus that the tests of this folder share: made once a process."""

import functools
import tempfile
from pathlib import Path

from hjepa_gfn.data.builder import build
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.data.tokenizer import Tokenizer, train_tokenizer

LEVEL = "BabyAI-GoToLocal-v0"
N_TRAIN, N_VALIDATION, TEXT_ONLY = 60, 10, 0.2


def make(out: Path, **changes) -> Path:
    """Builds the small corpus, with changes to the arguments."""
    arguments = dict(level=LEVEL, n_train=N_TRAIN, n_validation=N_VALIDATION, seed=0, workers=1, progress=False)
    return build(out_dir=out, **{**arguments, "text_only": TEXT_ONLY, **changes})


@functools.cache
def shared() -> Path:
    """The small corpus; not to be changed."""
    folder = tempfile.TemporaryDirectory()
    shared.keep = folder  # removed when the process ends
    return make(Path(folder.name) / "corpus")


@functools.cache
def shared_tokenizer() -> Tokenizer:
    """A tokenizer of the small corpus."""
    return train_tokenizer(load_episodes(shared(), "train").texts(), 512)
