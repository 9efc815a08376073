"""What determines the traces of a corpus: the arguments, the textbooks, the program. Its hash names unfinished work."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import minigrid

import hjepa_gfn
from hjepa_gfn.data.directory import FORMAT
from hjepa_gfn.data.workshop import Workshop, shaping
from hjepa_gfn.exemplary.textbooks import Textbook

_SOURCES = ("exemplary", "worlds")  # folders whose programs decide what a trace says


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a worker needs; picklable.

    Attributes:
        family, seed, imagined, robustness, backend, settings: see `builder.build`.
        textbooks: those who review, in order.
        chunk: seeds in a chunk.
        old: traces of this corpus are asked before the back end, or "".
        old_sha: the hash of that corpus's manifest.
        workshop: how actors and back ends are made.
        folder: where chunks are written.
        predictions: share of episodes that give a prediction too.
        astray: share of training episodes that begin where an agent has gone astray.
    """

    family: str
    seed: int
    imagined: float
    robustness: float
    backend: str
    settings: dict[str, Any]
    textbooks: tuple[Textbook, ...]
    chunk: int
    old: str
    old_sha: str
    workshop: Workshop
    folder: str = ""
    predictions: float = 0.0
    astray: float = 0.0

    def key(self) -> str:
        """A hash of everything that chunks depend on: a chunk of another key is never used. (Not of the corpus's size.)"""
        record = {
            "format": FORMAT, "family": self.family, "seed": self.seed, "imagined": self.imagined,
            "robustness": self.robustness, "backend": self.backend, "settings": shaping(self.settings),
            "textbooks": [[book.discipline, book.sha] for book in self.textbooks], "chunk": self.chunk,
            "old": self.old_sha, "actor": f"{self.workshop.make_actor.__module__}.{self.workshop.make_actor.__qualname__}",
            "program": program_sha(), "minigrid": getattr(minigrid, "__version__", ""),
        }  # fmt: skip
        if self.predictions:
            record["predictions"] = self.predictions
        if self.astray:
            record["astray"] = self.astray
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def at(self, folder: str | os.PathLike) -> "Job":
        """The same job with its folder for chunks."""
        return dataclasses.replace(self, folder=os.fspath(folder))


def program_sha() -> str:
    """A hash of the program's sources: an update between a kill and the next call must not mix two programs' traces."""
    root, digest = Path(hjepa_gfn.__file__).parent, hashlib.sha256()
    for path in sorted(path for folder in _SOURCES for path in (root / folder).rglob("*") if path.suffix in (".py", ".md")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
