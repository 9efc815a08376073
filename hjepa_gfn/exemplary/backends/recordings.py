"""Recorded answers: what a line of a recording holds, and reading recordings and traces back as questions and answers."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.protocol import Answer, Situation, ToolCall, Usage
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.traces import Trace


class Question(NamedTuple):
    """What was asked, whoever was asked: kind, situation (id and words), textbook's hash (or ""), current text."""

    kind: str
    situation_id: str
    situation: str
    textbook_sha: str
    text: str

    @classmethod
    def of(cls, kind: str, situation: Situation, textbook: Textbook | None, text: str) -> "Question":
        """From the arguments of a back end's methods."""
        return cls(kind, situation.id, situation.text, textbook.sha if textbook else "", text)


class Recorded(NamedTuple):
    """A question, its answer, and who gave it."""

    question: Question
    answer: Answer
    backend: str


def to_line(recorded: Recorded) -> dict[str, Any]:
    """As JSON values."""
    answer = recorded.answer
    plain = {**answer._asdict(), "usage": answer.usage._asdict(), "tool_calls": [c._asdict() for c in answer.tool_calls]}
    return {"question": recorded.question._asdict(), "answer": plain, "backend": recorded.backend}


def from_line(record: dict[str, Any]) -> Recorded:
    """The inverse of `to_line`. Raises KeyError or TypeError for anything else."""
    answer = dict(record["answer"])
    answer["usage"] = Usage(**answer["usage"])
    answer["tool_calls"] = tuple(ToolCall(**call) for call in answer["tool_calls"])
    answer["principle_ids"] = tuple(answer["principle_ids"])
    return Recorded(Question(**record["question"]), Answer(**answer), record["backend"])


def whole_length(path: Path) -> int:
    """The length of a file up to the end of its last whole line, with a warning if a torn line follows."""
    raw = path.read_bytes()
    length = raw.rfind(b"\n") + 1
    if length < len(raw):
        warnings.warn(f"{path}: the last line is torn (a run was killed while writing it): it is ignored", stacklevel=3)
    return length


def read_recorded(path: str | os.PathLike) -> Iterator[Recorded]:
    """The recorded answers of a JSONL file, in order: of a recording, or of traces. A torn last line is left out.

    Raises:
        UserError: the file cannot be read, or a whole line is neither (named by number).
    """
    try:
        raw = Path(path).read_bytes()[: whole_length(Path(path))]
    except OSError as error:
        raise UserError(f"{path}: cannot read the recorded answers: {error.strerror}") from error
    for number, line in enumerate(raw.splitlines(), start=1):
        try:
            record = json.loads(line)
            found = answers_of(Trace.from_json(line)) if "versions" in record else [from_line(record)]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: line {number} is neither a recorded answer nor a trace: {error}") from error
        yield from found


def answers_of(trace: Trace) -> list[Recorded]:
    """The questions that a trace's entries answered. The current text before an entry is that of the last accepted one."""
    found, current = [], ""
    for i, entry in enumerate(trace.entries):
        kind = "draft" if i == 0 else "review" if entry.discipline else "explain"
        question = Question(kind, trace.situation.id, trace.situation.text, entry.textbook_sha, current)
        answer = Answer(
            entry.verdict, entry.text, entry.critique, entry.principle_ids, entry.prompt_sha, entry.tool_calls, entry.usage,
            entry.failure,
        )  # fmt: skip
        found.append(Recorded(question, answer, entry.backend))
        if entry.accepted:
            current = entry.text
    return found


def of_traces(traces: Iterable[Trace]) -> Iterator[Recorded]:
    """The recorded answers of all traces."""
    return (recorded for trace in traces for recorded in answers_of(trace))
