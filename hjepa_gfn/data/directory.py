"""A corpus directory: what lies in it, and how to tell a whole one from a half-written or damaged one.

    corpus.json                  how it was made, and size and SHA-256 of every other file; written last
    traces/{train,validation}.jsonl
    plan_corpus/FAMILY/2.1.0/    the TFDS dataset (array_record)
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hjepa_gfn.errors import UserError

MANIFEST = "corpus.json"
TRACES = "traces"
DATASET = "plan_corpus"
FORMAT = 3  # raise it when the traces or the dataset change
REMEDY = "delete it or rebuild with `python -m experiments.make_corpus --overwrite`"
_ARGUMENTS = (
    "family", "n_train", "n_validation", "seed", "imagined", "robustness", "predictions", "astray", "backend", "settings")


@dataclasses.dataclass(frozen=True)
class CorpusInfo:
    """How a corpus was made, and what came of it.

    Attributes:
        family, n_train, n_validation, seed, imagined, robustness, backend: arguments of `build`.
        settings: those settings of the back end that its answers depend on.
        textbooks: SHA of each textbook, by discipline, in the order in which they review.
        unsolved: per split, how many seeds were passed over, as the actor found no plan.
        counts: per split, what `assembly.count` counts.
        predictions, astray: arguments of `build`; 0 is not written down.
    """

    family: str
    n_train: int
    n_validation: int
    seed: int
    imagined: float
    robustness: float
    backend: str
    settings: dict[str, Any]
    textbooks: dict[str, str]
    unsolved: dict[str, int]
    counts: dict[str, Any]
    predictions: float = 0.0
    astray: float = 0.0

    def difference(self, other: "CorpusInfo") -> str | None:
        """The first build argument that differs, in words; None if a rebuild would give the same corpus."""
        for field in _ARGUMENTS:
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"{field} is {mine}, not {theirs}"
        return _textbook_difference(self.textbooks, other.textbooks)

    def same_but_textbooks(self, other: "CorpusInfo") -> bool:
        """Whether nothing differs, or nothing but the textbooks."""
        return dataclasses.replace(self, textbooks=other.textbooks).difference(other) is None


def _textbook_difference(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    for discipline in sorted({*mine, *theirs}):
        if discipline not in mine or discipline not in theirs:
            return f"textbook {discipline!r} is {'not ' if discipline not in mine else ''}among its textbooks"
        if mine[discipline] != theirs[discipline]:
            return f"textbook {discipline!r} is edition {mine[discipline][:12]}, not {theirs[discipline][:12]}"
    if list(mine) != list(theirs):
        return f"textbooks review in the order {', '.join(mine)}, not {', '.join(theirs)}"
    return None


def write_manifest(root: Path, info: CorpusInfo) -> None:
    """Describes all files under `root` in its manifest: the last thing to be written."""
    files = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        files[path.relative_to(root).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest_of(path)}
    made = dataclasses.asdict(info)
    for name in ("predictions", "astray"):
        if not made[name]:
            del made[name]
    record = {"format": FORMAT, **made, "files": files}
    with (root / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)  # unsorted: the textbooks' order matters
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
        version = record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _corrupt(root, error) from error
    if version != FORMAT:
        raise UserError(f"data directory {root} has format {version}, this program reads format {FORMAT}: {REMEDY}")
    try:
        for name in ("predictions", "astray"):
            record.setdefault(name, 0.0)
        info = CorpusInfo(**{field.name: record[field.name] for field in dataclasses.fields(CorpusInfo)})
        expected = {root / name: (entry["bytes"], entry["sha256"]) for name, entry in record["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise _corrupt(root, error) from error
    for path, (size, digest) in expected.items():
        name = path.relative_to(root)
        if not path.is_file():
            raise UserError(f"data directory {root} is incomplete ({name} is missing): {REMEDY}")
        if path.stat().st_size != size or digest_of(path) != digest:
            raise UserError(f"data directory {root} is corrupt ({name} is not as it was written): {REMEDY}")
    return info


def _corrupt(root: Path, error: Exception) -> UserError:
    return UserError(f"data directory {root} is corrupt ({MANIFEST} cannot be read: {error!r}): {REMEDY}")


def check_is_ours(root: Path) -> None:
    """Raises UserError if a directory holds anything that no corpus has: such a directory must not be replaced."""
    foreign = sorted(path.name for path in root.iterdir() if path.name not in (MANIFEST, TRACES, DATASET))
    if foreign:
        raise UserError(f"{root} holds {foreign[0]!r}, which is no part of a corpus: choose another directory")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
