"""Traces: everything that the exemplary actor thought about a situation. One JSON object a line, append only."""

import base64
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import Plan, explanation_of, parse_plan
from hjepa_gfn.exemplary.products import PLAN, product_named
from hjepa_gfn.exemplary.protocol import Situation, ToolCall, Usage
from hjepa_gfn.exemplary.spans import with_result

VIEW_SHAPE = (7, 7, 3)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One answer of a back end, and what became of it.

    Attributes:
        version: number of the text after this answer: 0 for the draft, one more at each accepted refinement.
        sweep: 0 for the draft, 1 for the first sweep through the textbooks.
        discipline, textbook_sha: whose review it is ("" for the draft), by which edition of the textbook.
        verdict, critique, principle_ids, text, prompt_sha, tool_calls, usage, failure: the back end's `Answer`.
        accepted: whether `text` became the current version. False with verdict "keep" too.
        reason: why a refinement was turned down, or "".
        backend: who answered.
    """

    version: int
    sweep: int
    discipline: str
    textbook_sha: str
    verdict: str
    critique: str
    principle_ids: tuple[str, ...]
    text: str
    prompt_sha: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    failure: str
    accepted: bool
    reason: str
    backend: str

    @property
    def plan(self) -> Plan | None:
        """The plan that the text states; None where it states none."""
        try:
            return parse_plan(self.text)
        except UserError:
            return None


class Version(NamedTuple):
    """A text that was current for a while: `kind` "draft" or "final"; the critique that ended it, or let it stand.

    `principle`: the first principle that this critique cites, or "". `told`: the text with what the simulator said of its
    plan as a marked span between plan and explanation (`spans`), or the text itself where nobody tried it. `value`: what the
    text states: the plan, or the prediction (`plan` is None then).
    """

    kind: str
    text: str
    plan: Plan | None
    critique: str
    principle: str = ""
    explanation: str = ""
    told: str = ""
    value: Any = None


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The executed episode: T actions, T + 1 percepts. T = 0: only the initial percept is known.

    Attributes:
        view: uint8[T+1, 7, 7, 3].
        direction: int32[T+1].
        action: T action ids.
        segment: T leg indices.
        subgoal: a name for each leg.
        clause: for each leg, the index of the clause of the final plan that it belongs to.
    """

    view: np.ndarray
    direction: np.ndarray
    action: list[int]
    segment: list[int]
    subgoal: list[str]
    clause: list[int]


@dataclasses.dataclass(frozen=True)
class Trace:
    """All that was said about a situation, and the executed trajectory of the final plan.

    Attributes:
        situation: what was asked.
        split: "train" or "validation".
        family: the corpus family that the level was drawn for, or "".
        entries: the back end's answers, in order, the draft first.
        converged: whether a whole sweep changed nothing, within the limit on sweeps.
        robust: whether the final plan also stands with another explanation; None: not tried.
        success: whether the final plan fulfils the mission; of a prediction: whether all that it claims did happen.
        trajectory: what executing it gave; of a prediction: the first percept.
    """

    situation: Situation
    split: str
    family: str
    entries: list[Entry]
    converged: bool
    robust: bool | None
    success: bool
    trajectory: Trajectory

    @property
    def product(self) -> str:
        """Name of what the trace is about: "plan" or "prediction"."""
        return self.situation.product

    @property
    def level(self) -> str:
        """The level's gym id."""
        return self.situation.level

    @property
    def seed(self) -> int:
        """The episode's seed."""
        return self.situation.seed

    @property
    def mission(self) -> str:
        """The instruction."""
        return self.situation.mission

    @property
    def versions(self) -> list[Version]:
        """The texts that were current, one after another, the final one last. Texts with the same plan and words merge."""
        found: list[Version] = []
        read = product_named(self.product).read
        for i, entry in enumerate(self.entries):
            if not entry.accepted:
                continue
            later = self.entries[i + 1 :]
            end = next((e for e in later if e.accepted), None)
            said = end or next((e for e in reversed(later) if e.critique), entry)
            principle = said.principle_ids[0] if end and said.principle_ids else ""
            kind = "draft" if end else "final"
            results = [call.result for e in later[:1] for call in e.tool_calls if call.name == "roll_forward"]
            told = with_result(entry.text, "roll_forward", results[0]) if results else entry.text
            value, explanation = read(entry.text), explanation_of(entry.text)
            plan = value if self.product == PLAN.name else None
            found.append(Version(kind, entry.text, plan, said.critique, principle, explanation, told, value))
        return found

    @property
    def final(self) -> Version:
        """The version that nothing was found wrong with (or the last one, where `converged` is False)."""
        return self.versions[-1]

    @property
    def drafts(self) -> list[Version]:
        """The versions before the final one whose plans (or predictions) differ from its own: negatives. Each once."""
        core = product_named(self.product).core
        *earlier, final = self.versions
        distinct: dict[str, Version] = {}
        for version in earlier:
            if core(version.value) != core(final.value):
                distinct.setdefault(repr(core(version.value)), version)
        return list(distinct.values())

    def without_trajectory(self) -> "Trace":
        """The same texts with the initial percept alone, as for a situation whose plan nobody has executed."""
        moves = self.trajectory
        return dataclasses.replace(self, trajectory=Trajectory(moves.view[:1], moves.direction[:1], [], [], [], []))

    def to_json(self) -> str:
        """One line, without the line break. Percepts are base64 of their bytes, in C order."""
        moves, situation = self.trajectory, self.situation
        record = {
            "situation_id": situation.id, "level": situation.level, "seed": situation.seed, "split": self.split,
            "family": self.family, "mission": situation.mission, "situation": situation.text,
            "view": _encode(situation.view[None]), "direction": int(situation.direction),
            "converged": self.converged, "robust": self.robust, "success": self.success,
            "versions": [_entry_record(entry, self.product) for entry in self.entries],
            "trajectory": {**vars(moves), "view": _encode(moves.view), "direction": moves.direction.tolist()},
        }  # fmt: skip
        if self.product != PLAN.name:
            record |= {"product": self.product, "supposed": situation.supposed}
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Trace":
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for a line that is no trace."""
        r = json.loads(line)
        view, product = _decode(r["view"])[0], product_named(r.get("product", PLAN.name)).name
        situation = Situation(
            r["level"], r["seed"], r["mission"], view, r["direction"], r["situation"], product, r.get("supposed", "")
        )
        moves = r["trajectory"]
        direction = np.array(moves["direction"], np.int32)
        trajectory = Trajectory(**{**moves, "view": _decode(moves["view"]), "direction": direction})
        entries = [_entry_of(record) for record in r["versions"]]
        return cls(situation, r["split"], r["family"], entries, r["converged"], r["robust"], r["success"], trajectory)


def _entry_record(entry: Entry, product: str) -> dict:
    """An entry as JSON values; plan (or prediction) and explanation are told apart for readers in other languages."""
    record = dict(vars(entry))
    text = record.pop("text")
    stated, stop, _ = text.partition(".")
    record.update({product: stated + stop, "explanation": text[len(stated + stop) :].lstrip(), "text": text})
    record["tool_calls"] = [call._asdict() for call in entry.tool_calls]
    record["usage"] = entry.usage._asdict()
    return record


def _entry_of(record: dict) -> Entry:
    fields = {field.name: record[field.name] for field in dataclasses.fields(Entry)}
    fields["principle_ids"] = tuple(fields["principle_ids"])
    fields["tool_calls"] = tuple(ToolCall(**call) for call in fields["tool_calls"])
    fields["usage"] = Usage(**fields["usage"])
    return Entry(**fields)


def _encode(view: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(view, np.uint8)).decode()


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, *VIEW_SHAPE)


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
