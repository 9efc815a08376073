"""Replay: questions that were answered before get the same answers again, without asking anybody."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from hjepa_gfn.exemplary.backends.recordings import Question, Recorded, of_traces, read_recorded
from hjepa_gfn.exemplary.protocol import Answer, Backend, Situation
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.traces import Trace


class Replay:
    """A back end that answers from recordings.

    With a fallback, a recorded answer counts if it carries the hash that the fallback gives the question: who is asked,
    with what settings and prompts, is the same then. Recorded failures are asked again. Where nobody hashes questions (no
    fallback, or one that cannot), the question itself decides: kind, situation, textbook, current text. Without a
    fallback, failures are replayed too. Of several answers to a question the last one counts.
    """

    def __init__(self, recorded: Iterable[Trace] | str | os.PathLike, fallback: Backend | None = None):
        """Reads all of `recorded`: traces, or a JSONL file of traces or of a `Recorder`.

        Raises:
            UserError: the file cannot be read or holds something else.
        """
        is_file = isinstance(recorded, str | os.PathLike)
        answers = list(read_recorded(recorded) if is_file else of_traces(recorded))
        self._source = str(recorded) if is_file else "the traces"
        self._fallback = fallback
        self._by_hash = {r.answer.prompt_sha: r.answer for r in answers if not r.answer.failure}
        self._by_question = {r.question: r.answer for r in answers if not (fallback and r.answer.failure)}
        self.name = fallback.name if fallback else _common_name(answers)

    @property
    def stopped(self) -> str:
        """Why the fallback will answer no further question, or ""."""
        return getattr(self._fallback, "stopped", "")

    def question_sha(self, kind: str, situation: Situation, textbook: Textbook | None, text: str) -> str:
        """That of the fallback, or of the recorded answer; "" where there is none."""
        if hash_question := getattr(self._fallback, "question_sha", None):
            return hash_question(kind, situation, textbook, text)
        known = self._by_question.get(Question.of(kind, situation, textbook, text))
        return known.prompt_sha if known else ""

    def draft(self, situation: Situation, textbooks: tuple[Textbook, ...], toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        ask = lambda backend: backend.draft(situation, textbooks, toolbox)
        return self._answer("draft", situation, None, "", ask)

    def review(self, situation: Situation, textbook: Textbook, text: str, toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        return self._answer("review", situation, textbook, text, lambda b: b.review(situation, textbook, text, toolbox))

    def explain_otherwise(self, situation: Situation, text: str, toolbox: Any) -> Answer:
        """See `protocol.Backend`."""
        return self._answer("explain", situation, None, text, lambda b: b.explain_otherwise(situation, text, toolbox))

    def _answer(
        self, kind: str, situation: Situation, textbook: Textbook | None, text: str, ask: Callable[[Backend], Answer]
    ) -> Answer:
        if hash_question := getattr(self._fallback, "question_sha", None):
            known = self._by_hash.get(hash_question(kind, situation, textbook, text))
        else:
            known = self._by_question.get(Question.of(kind, situation, textbook, text))
        if known is not None:
            return known
        if self._fallback:
            return ask(self._fallback)
        what = f"{kind}{f' by {textbook.discipline}' if textbook else ''} of {situation.id}"
        failure = f"not recorded: {self._source} has no answer to this question ({what})"
        return Answer("propose" if kind == "draft" else "keep", failure=failure)


def _common_name(answers: list[Recorded]) -> str:
    """Whoever gave all the answers; "replay" if they are several."""
    names = {recorded.backend for recorded in answers}
    return names.pop() if len(names) == 1 else "replay"
