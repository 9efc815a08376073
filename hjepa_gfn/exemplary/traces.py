"""Traces: what the exemplary actor leaves behind of an episode. One JSON object a line, append only."""

import base64
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import Plan

VIEW_SHAPE = (7, 7, 3)


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of a plan: `kind` is "draft" or "final"; `principle`: the id that the critique cites, or ""."""

    kind: str
    text: str
    plan: Plan
    critique: str
    principle: str = ""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The executed episode: T actions, T + 1 percepts. T = 0: only the initial percept is known.

    Attributes:
        view: uint8[T+1, 7, 7, 3].
        direction: int32[T+1].
        action: T action ids.
        segment: T leg indices.
        subgoal: a name for each leg.
    """

    view: np.ndarray
    direction: np.ndarray
    action: list[int]
    segment: list[int]
    subgoal: list[str]


@dataclasses.dataclass(frozen=True)
class Trace:
    """All versions of the plan for one episode, drafts first, the final one last, and the executed trajectory."""

    level: str
    seed: int
    split: str
    mission: str
    situation: str
    success: bool
    versions: list[Version]
    trajectory: Trajectory

    @property
    def final(self) -> Version:
        """The version that nothing was found wrong with."""
        return self.versions[-1]

    @property
    def drafts(self) -> list[Version]:
        """The versions before the final one: negatives."""
        return self.versions[:-1]

    def without_trajectory(self) -> "Trace":
        """The same texts with the initial percept alone, as for a situation whose plan nobody has executed."""
        moves = self.trajectory
        return dataclasses.replace(self, trajectory=Trajectory(moves.view[:1], moves.direction[:1], [], [], []))

    def to_json(self) -> str:
        """One line, without the line break. Percepts are base64 of their bytes, in C order."""
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        record["versions"] = [vars(version) for version in self.versions]
        record["trajectory"] = {
            **vars(self.trajectory),
            "view": base64.b64encode(np.ascontiguousarray(self.trajectory.view, np.uint8)).decode(),
            "direction": self.trajectory.direction.tolist(),
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Trace":
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for a line that is no trace."""
        record = json.loads(line)
        moves = record["trajectory"]
        trajectory = Trajectory(
            np.frombuffer(base64.b64decode(moves["view"]), np.uint8).reshape(-1, *VIEW_SHAPE),
            np.array(moves["direction"], np.int32),
            moves["action"],
            moves["segment"],
            moves["subgoal"],
        )
        versions = [Version(**version) for version in record["versions"]]
        return cls(**{**record, "versions": versions, "trajectory": trajectory})


class TraceWriter:
    """Appends traces to a JSONL file; a context manager. The lines are on disk when the context is left."""

    def __init__(self, path: str | os.PathLike):
        """`path`: the file, made if it does not exist; existing lines are kept."""
        self._path = Path(path)

    def __enter__(self) -> "TraceWriter":
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def append(self, line: str) -> None:
        """Appends one trace, given as `Trace.to_json`."""
        self._file.write(line + "\n")

    def __exit__(self, *exception) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_traces(path: str | os.PathLike) -> Iterator[Trace]:
    """The traces of a JSONL file, in order.

    Raises:
        UserError: no such file, or a line that is no whole trace (named by number).
    """
    try:
        file = open(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read the traces: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield Trace.from_json(line)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: line {number} is no whole trace: {error}") from error
