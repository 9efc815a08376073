"""Answers of an older corpus, asked before the back end: only questions that changed are asked again."""

import json
import os
import re
from pathlib import Path
from typing import Any

from hjepa_gfn.data.directory import TRACES
from hjepa_gfn.data.workshop import Workshop
from hjepa_gfn.exemplary.protocol import Answer, Backend, Situation
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.traces import Trace

_SITUATION = re.compile(rb'^\{"situation_id":("(?:[^"\\]|\\.)*")')


class Counted:
    """A back end that counts what it is asked."""

    def __init__(self, backend: Backend):
        """`backend`: who answers."""
        self._backend, self.backend, self.count = backend, backend, 0
        self.failure = ""  # of the last draft

    @property
    def name(self) -> str:
        """The back end's own name."""
        return self._backend.name

    @property
    def stopped(self) -> str:
        """Why the back end will answer no further question, or ""."""
        return getattr(self._backend, "stopped", "")

    def question_sha(self, kind: str, situation: Situation, textbook: Textbook | None, text: str) -> str:
        """See `protocol.Backend`."""
        return self._backend.question_sha(kind, situation, textbook, text)

    def draft(self, situation: Situation, textbooks: tuple[Textbook, ...], toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        answer = self._asked(situation).draft(situation, textbooks, toolbox)
        self.failure = answer.failure
        return answer

    def review(self, situation: Situation, textbook: Textbook, text: str, toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        return self._asked(situation).review(situation, textbook, text, toolbox)

    def explain_otherwise(self, situation: Situation, text: str, toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        return self._asked(situation).explain_otherwise(situation, text, toolbox)

    def _asked(self, situation: Situation) -> Backend:
        """Counts a question and says who is to answer it."""
        del situation
        self.count += 1
        return self._backend


class Reusing(Counted):
    """A back end that first looks for an answer in the old traces of the same situation.

    `count`: all questions; `asked`: those that the old traces could not answer.
    """

    def __init__(self, backend: Backend, old: str | os.PathLike, workshop: Workshop):
        """`old`: a corpus directory, or "" for none."""
        self._fallback = Counted(backend)
        super().__init__(self._fallback)
        self._traces, self._workshop, self._situation = OldTraces(old) if old else None, workshop, ""

    @property
    def asked(self) -> int:
        """How many questions went to the back end."""
        return self._fallback.count

    def _asked(self, situation: Situation) -> Backend:
        if self._traces and situation.id != self._situation:
            self._situation = situation.id
            # Who cannot say what a question's hash would be, as rules may, is asked anew: it costs little there.
            traces = self._traces.of(situation.id) if hasattr(self._fallback.backend, "question_sha") else []
            self._backend = self._workshop.replay(traces, self._fallback) if traces else self._fallback
        return super()._asked(situation)


class OldTraces:
    """The traces of a corpus by situation. Only their places in the files are kept in memory."""

    def __init__(self, corpus: str | os.PathLike):
        """`corpus`: a corpus directory."""
        self._files, self._places = _index(os.fspath(corpus))

    def of(self, situation: str) -> list[Trace]:
        """The traces of a situation; none for one that the corpus does not hold."""
        found = []
        for file, offset in self._places.get(situation, ()):
            with self._files[file].open("rb") as lines:
                lines.seek(offset)
                found.append(Trace.from_json(lines.readline().decode()))
        return found


def _index(corpus: str) -> tuple[list[Path], dict[str, list[tuple[int, int]]]]:
    files = sorted((Path(corpus) / TRACES).glob("*.jsonl"))
    places: dict[str, list[tuple[int, int]]] = {}
    for number, path in enumerate(files):
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                if match := _SITUATION.match(line):
                    places.setdefault(json.loads(match[1]), []).append((number, offset))
                offset += len(line)
    return files, places
