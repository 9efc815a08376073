"""Recording: every answer is on disk before it is used, so that paid answers survive a kill."""

import json
import os
from pathlib import Path
from typing import Any

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.backends.recordings import Question, Recorded, to_line, whole_length
from hjepa_gfn.exemplary.protocol import Answer, Backend, Situation
from hjepa_gfn.exemplary.textbooks import Textbook


class Recorder:
    """A back end that passes questions on to another one and appends question and answer to a JSONL file."""

    def __init__(self, backend: Backend, path: str | os.PathLike):
        """`path`: made if it does not exist; what it holds is kept, but for a last line that a kill tore.

        Raises:
            UserError: the file cannot be written.
        """
        self.name, self._backend, self._path = backend.name, backend, Path(path)
        try:
            self._file = self._path.open("ab", buffering=0)  # a line is one write: processes may share the file
            if self._path.stat().st_size:
                # Appending to a torn line would spoil the new one too.
                self._file.truncate(whole_length(self._path))
        except OSError as error:
            raise UserError(f"{path}: cannot record there: {error.strerror}") from error

    @property
    def stopped(self) -> str:
        """Why the other back end will answer no further question, or ""."""
        return getattr(self._backend, "stopped", "")

    def question_sha(self, kind: str, situation: Situation, textbook: Textbook | None, text: str) -> str:
        """That of the other back end."""
        return self._backend.question_sha(kind, situation, textbook, text)

    def draft(self, situation: Situation, textbooks: tuple[Textbook, ...], toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        answer = self._backend.draft(situation, textbooks, toolbox)
        return self._record(Question.of("draft", situation, None, ""), answer)

    def review(self, situation: Situation, textbook: Textbook, text: str, toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        answer = self._backend.review(situation, textbook, text, toolbox)
        return self._record(Question.of("review", situation, textbook, text), answer)

    def explain_otherwise(self, situation: Situation, text: str, toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        answer = self._backend.explain_otherwise(situation, text, toolbox)
        return self._record(Question.of("explain", situation, None, text), answer)

    def _record(self, question: Question, answer: Answer) -> Answer:
        line = json.dumps(to_line(Recorded(question, answer, self.name)), separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        os.fsync(self._file.fileno())
        return answer
