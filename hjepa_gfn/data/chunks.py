"""Chunks: the finished pieces of a corpus that is being built. One file each, whole or absent.

A chunk holds the traces of a run of successive seeds. The first line is a header that counts and vouches for the rest,
the other lines are traces as JSON, in the order of the seeds:

    {"split": "train", "chunk": 3, "tried": 25, ..., "traces": [{"at": 0, ...}, ...], "sha256": ...}
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from hjepa_gfn.files import write_bytes


class Header(NamedTuple):
    """What a chunk holds.

    Attributes:
        split, chunk: which one it is.
        tried: how many seeds it covers.
        answers, asked: answers of the back end in its traces, and how many of them were not taken from a recording.
        unanswered: seeds without a trace because the back end failed. A later call tries such a chunk again.
        traces: a record for each trace: "at" (index of its seed in the chunk) and what `assembly.count` counts. That of a
            prediction, which follows the trace of its episode's plans, has "prediction": true.
    """

    split: str
    chunk: int
    tried: int
    answers: int
    asked: int
    unanswered: int
    traces: list[dict[str, Any]]

    @property
    def episodes(self) -> int:
        """How many of the traces are of an episode's plans: predictions stand beside them, and count for none."""
        return sum(not record.get("prediction") for record in self.traces)


def chunk_path(folder: Path, split: str, chunk: int) -> Path:
    """The file of a chunk."""
    return folder / f"{split}-{chunk:06d}.jsonl"


def write_chunk(folder: Path, header: Header, lines: list[str]) -> None:
    """Writes a chunk atomically: the same header and lines give the same bytes."""
    body = "".join(f"{line}\n" for line in lines).encode()
    record = {**header._asdict(), "sha256": hashlib.sha256(body).hexdigest()}
    write_bytes(chunk_path(folder, header.split, header.chunk), json.dumps(record).encode() + b"\n" + body)


def read_chunk(folder: Path, split: str, chunk: int) -> tuple[Header, list[str]] | None:
    """Header and traces of a chunk, or None where there is no whole chunk: it must be made (again)."""
    try:
        first, _, body = chunk_path(folder, split, chunk).read_bytes().partition(b"\n")
        record = json.loads(first)
        whole = record.pop("sha256") == hashlib.sha256(body).hexdigest()
        header = Header(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    lines = body.decode().split("\n")[:-1]
    if not whole or (header.split, header.chunk) != (split, chunk) or len(lines) != len(header.traces):
        return None
    return header, lines


def read_header(folder: Path, split: str, chunk: int) -> Header | None:
    """The header of a chunk whose traces were checked too, or None where there is no whole chunk."""
    found = read_chunk(folder, split, chunk)
    return found[0] if found else None
