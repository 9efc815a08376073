"""A small corpus that the tests of this folder share: made once a process, by the fake actor."""

import functools
import hashlib
import tempfile
from pathlib import Path

from hjepa_gfn.data.builder import build
from tests.data import fake

FAMILY = "mixed"
N_TRAIN, N_VALIDATION, IMAGINED, ROBUSTNESS = 60, 10, 0.2, 0.3


def make(out: Path, **changes) -> Path:
    """Builds the small corpus, with changes to the arguments."""
    arguments = dict(family=FAMILY, n_train=N_TRAIN, n_validation=N_VALIDATION, seed=0, workers=1, progress=False)
    shares = dict(imagined=IMAGINED, robustness=ROBUSTNESS)
    return build(out_dir=out, **{**arguments, **shares, "workshop": fake.WORKSHOP, "chunk": 7, **changes})


@functools.cache
def shared() -> Path:
    """The small corpus; not to be changed."""
    folder = tempfile.TemporaryDirectory()
    shared.keep = folder  # removed when the process ends
    return make(Path(folder.name) / "corpus")


@functools.cache
def shared_tokenizer():
    """A tokenizer of the small corpus."""
    from hjepa_gfn.data.store import load_episodes  # here: processes that only build need neither Grain nor JAX
    from hjepa_gfn.data.tokenizer import train_tokenizer

    return train_tokenizer(load_episodes(shared(), "train").texts(), 512)


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
