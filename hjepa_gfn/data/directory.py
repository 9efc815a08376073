"""A corpus directory: what lies in it, and how to tell a whole one from a half-written or damaged one.

    corpus.json                  how it was made, and size and SHA-256 of every other file; written last
    traces/{train,validation}.jsonl
    plan_corpus/1.0.0/           the TFDS dataset (array_record)
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from hjepa_gfn.errors import UserError

MANIFEST = "corpus.json"
TRACES = "traces"
DATASET = "plan_corpus"
FORMAT = 1  # raise it when the traces or the dataset change
REMEDY = "delete it or rebuild with `python -m experiments.make_corpus --overwrite`"


@dataclasses.dataclass(frozen=True)
class CorpusInfo:
    """How a corpus was made: the arguments of `build`, and per split how many seeds the planner could not solve."""

    level: str
    n_train: int
    n_validation: int
    seed: int
    text_only: float
    unsolved: dict[str, int]

    def difference(self, other: "CorpusInfo") -> str | None:
        """The first build argument that differs, in words; None if a rebuild would give the same corpus."""
        for field in ("level", "n_train", "n_validation", "seed", "text_only"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"{field} is {mine}, not {theirs}"
        return None


def write_manifest(root: Path, info: CorpusInfo) -> None:
    """Describes all files under `root` in its manifest: the last thing to be written."""
    files = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        files[path.relative_to(root).as_posix()] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    with (root / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **dataclasses.asdict(info), "files": files}, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())


def check_corpus(data_dir: str | os.PathLike) -> CorpusInfo:
    """Makes sure that a corpus directory is whole. Nothing is changed.

    Raises:
        UserError: no such directory, a half-written one, a file that is missing or damaged, or another format.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise UserError(f"{root}: no such data directory: build it with `python -m experiments.make_corpus`")
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise UserError(f"data directory {root} is incomplete (it has no {MANIFEST}): {REMEDY}")
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        version, files = record["format"], record["files"]
        info = CorpusInfo(**{field.name: record[field.name] for field in dataclasses.fields(CorpusInfo)})
        expected = {root / name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"data directory {root} is corrupt ({MANIFEST} cannot be read: {error!r}): {REMEDY}") from error
    if version != FORMAT:
        raise UserError(f"data directory {root} has format {version}, this program reads format {FORMAT}: {REMEDY}")
    for path, (size, digest) in expected.items():
        name = path.relative_to(root)
        if not path.is_file():
            raise UserError(f"data directory {root} is incomplete ({name} is missing): {REMEDY}")
        if path.stat().st_size != size or _digest(path) != digest:
            raise UserError(f"data directory {root} is corrupt ({name} is not as it was written): {REMEDY}")
    return info


def check_is_ours(root: Path) -> None:
    """Raises UserError if a directory holds anything that no corpus has: such a directory must not be replaced."""
    foreign = sorted(path.name for path in root.iterdir() if path.name not in (MANIFEST, TRACES, DATASET))
    if foreign:
        raise UserError(f"{root} holds {foreign[0]!r}, which is no part of a corpus: choose another directory")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
