"""Reading a textbook: a Markdown file with front matter, an introduction, and one section a principle.

    ---
    discipline: rationality
    order: 1
    ---
    # Rationality

    Introduction, as long as need be.

    ## no-detours

    **The principle's statement: one paragraph, in bold type or plain.**

    Explanation, examples: everything up to the next principle.
"""

import hashlib
import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.textbooks import Principle, Textbook

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FENCE = re.compile(r"\s*(```|~~~)")
_ID_RULE = "it should be lower-case words joined by hyphens"


class Parsed(NamedTuple):
    """A textbook with what putting several in order needs: its place in the order, its file, its principles' lines."""

    textbook: Textbook
    order: float
    source: str
    lines: tuple[int, ...]


def read_textbook(path: str | os.PathLike) -> Parsed:
    """Reads and parses a file.

    Raises:
        UserError: it cannot be read, is not UTF-8, or is no textbook; the line is named.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the textbook: {error.strerror}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8: save the textbook as UTF-8 text") from error
    return parse_textbook(text, str(path))


def parse_textbook(text: str, source: str = "textbook") -> Parsed:
    """Parses a textbook's text. `source`: what error messages call it."""
    if not text.strip():
        raise UserError(f"{source}: line 1: the textbook is empty: it needs front matter and a section for each principle")
    lines = text.removeprefix("\ufeff").rstrip().split("\n")
    fields, start = _front_matter(lines, source)
    headings = _principle_headings(lines, start)
    if not headings:
        raise UserError(f"{source}: line {len(lines)}: no principle before the end: each one is a section headed '## its-id'")
    principles: list[Principle] = []
    for at, until in zip(headings, [*headings[1:], len(lines)]):
        principle = _principle(lines, at, until, source)
        if any(principle.id == other.id for other in principles):
            raise UserError(f"{source}: line {at + 1}: principle {principle.id!r} is there twice: give this one another id")
        principles.append(principle)
    sha = hashlib.sha256(text.encode()).hexdigest()[:16]
    textbook = Textbook(fields["discipline"], text, sha, tuple(principles))
    return Parsed(textbook, fields.get("order", math.inf), source, tuple(at + 1 for at in headings))


def _front_matter(lines: list[str], source: str) -> tuple[dict, int]:
    """The fields, and the index of the first line after them. Two plain fields need no YAML parser, and give line numbers."""
    if lines[0].strip() != "---":
        raise UserError(f"{source}: line 1: no front matter: the first lines are '---', 'discipline: NAME', '---'")
    end = next((i for i, line in enumerate(lines[1:], start=1) if line.strip() == "---"), None)
    if end is None:
        raise UserError(f"{source}: line 1: the front matter does not end: close it with a line '---'")
    fields: dict = {}
    for i in range(1, end):
        name, colon, value = (part.strip() for part in lines[i].partition(":"))
        if not name and not colon:
            continue
        where = f"{source}: line {i + 1}"
        if name not in ("discipline", "order") or not colon:
            raise UserError(f"{where}: {lines[i].strip()!r} is no field: those are 'discipline: NAME' and 'order: NUMBER'")
        if name in fields:
            raise UserError(f"{where}: field {name!r} is there twice: keep one")
        if name == "discipline" and not _ID.fullmatch(value):
            raise UserError(f"{where}: discipline {value!r} is no name: {_ID_RULE}, for example ethics")
        if name == "order":
            if not re.fullmatch(r"-?\d{1,9}", value):
                raise UserError(f"{where}: order {value!r} is no whole number, for example 6")
            value = int(value)
        fields[name] = value
    if "discipline" not in fields:
        raise UserError(f"{source}: line {end + 1}: the front matter names no discipline: add 'discipline: NAME'")
    return fields, end + 1


def _principle_headings(lines: list[str], start: int) -> list[int]:
    """Indices of the second-level headings, those in code blocks left out."""
    found, fenced = [], False
    for i in range(start, len(lines)):
        if _FENCE.match(lines[i]):
            fenced = not fenced
        elif not fenced and re.match(r"##(?!#)", lines[i]):
            found.append(i)
    return found


def _principle(lines: list[str], at: int, until: int, source: str) -> Principle:
    name = lines[at].removeprefix("##").strip()
    if not _ID.fullmatch(name):
        raise UserError(f"{source}: line {at + 1}: {name!r} is no principle's id: {_ID_RULE}, for example no-detours")
    section = "\n".join(lines[at + 1 : until]).strip()
    paragraph, *body = re.split(r"\n\s*\n", section, maxsplit=1)
    statement = " ".join(paragraph.split()).strip("*").strip()
    if not statement or paragraph.startswith(("#", "|", "```", "~~~")):
        raise UserError(f"{source}: line {at + 1}: {name!r} has no statement: write it as the section's first paragraph")
    return Principle(name, statement, "".join(body).strip())
