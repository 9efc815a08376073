"""Marked tool results within a text: `<tool>route: turn left</tool>`. Marking, reading and stripping them."""

import re
from typing import NamedTuple

from hjepa_gfn.errors import UserError

_SPAN = re.compile(r"<tool>([a-z_]+): (.*?)</tool>", re.DOTALL)
_TAG = re.compile(r"</?tool>")


class Span(NamedTuple):
    """A marked tool result: the tool's name, its result, and where it stands in the text."""

    name: str
    result: str
    start: int
    stop: int


def mark(name: str, result: str) -> str:
    """A tool result, marked.

    Raises:
        UserError: the name is no tool's name, or the result contains a mark itself.
    """
    if not re.fullmatch("[a-z_]+", name) or _TAG.search(result):
        raise UserError(f"cannot mark {result!r} as a result of {name!r}")
    return f"<tool>{name}: {result}</tool>"


def with_result(text: str, name: str, result: str) -> str:
    """A text with a marked tool result between its plan (up to the first full stop) and its explanation."""
    plan, stop, explanation = text.partition(".")
    return " ".join(part for part in (plan + stop, mark(name, result), explanation.strip()) if part)


def spans_in(text: str) -> list[Span]:
    """The marked tool results of a text, in order; what is marked by halves is none."""
    return [Span(match[1], match[2], *match.span()) for match in _SPAN.finditer(text)]


def strip_spans(text: str) -> str:
    """The text without its marked tool results, stray marks removed, single spaces where a result stood."""
    kept = _TAG.sub(" ", _SPAN.sub(" ", text))
    return re.sub(r" +([,.;:])", r"\1", re.sub(r" {2,}", " ", kept)).strip()
