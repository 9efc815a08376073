"""Textbooks: Markdown files, one a discipline, whose principles critiques cite."""

from typing import NamedTuple


class Principle(NamedTuple):
    """A principle: an id that critiques cite, its statement (one sentence), and the text that explains it."""

    id: str
    statement: str
    body: str


class Textbook(NamedTuple):
    """A textbook as it was read: its discipline, the whole Markdown text, its hash, its principles in order."""

    discipline: str
    text: str
    sha: str
    principles: tuple[Principle, ...]
