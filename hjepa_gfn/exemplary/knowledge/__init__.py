"""The body of knowledge: the textbooks that critiques cite, one a discipline, as Markdown files.

Five ship with the package; a discipline is added by naming a further file or folder. `parse` tells what a file looks like.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.knowledge.parse import Parsed, parse_textbook, read_textbook
from hjepa_gfn.exemplary.textbooks import Textbook

__all__ = ["load_textbooks", "parse_textbook", "read_textbook"]

SHIPPED = Path(__file__).parent


def load_textbooks(
    paths: Iterable[str | os.PathLike] | str | os.PathLike = (), disciplines: Sequence[str] | None = None
) -> tuple[Textbook, ...]:
    """The textbooks in the order in which a sweep goes through them.

    Args:
        paths: further textbooks beside the shipped ones: Markdown files, or folders of which every `*.md` is read.
        disciplines: which ones to use, in this order; None: all, by the `order` of their front matter (those without
            one come last, as they were given).

    Raises:
        UserError: a malformed file, a discipline or a principle's id that two files claim, or an unknown discipline.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = [file for path in (SHIPPED, *paths) for file in _files_of(Path(path))]
    books = sorted((read_textbook(file) for file in files), key=lambda book: book.order)  # stable: ties keep their order
    _refuse_doubles(books)
    by_discipline = {book.textbook.discipline: book.textbook for book in books}
    if disciplines is None:
        return tuple(by_discipline.values())
    unknown = [name for name in disciplines if name not in by_discipline]
    if unknown:
        raise UserError(f"no textbook of {unknown[0]!r}: choose from {', '.join(by_discipline)}, or add its file")
    return tuple(by_discipline[name] for name in dict.fromkeys(disciplines))


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.md"))
    if not files:
        raise UserError(f"{path}: this folder holds no textbook: a textbook is a Markdown file whose name ends in .md")
    return files


def _refuse_doubles(books: list[Parsed]) -> None:
    """Critiques cite principles by id alone, so an id must lead to one book."""
    disciplines: dict[str, str] = {}
    principles: dict[str, str] = {}
    for book in books:
        name = book.textbook.discipline
        if name in disciplines:
            raise UserError(f"{book.source}: discipline {name!r} is that of {disciplines[name]} too: rename one")
        disciplines[name] = book.source
        for principle, line in zip(book.textbook.principles, book.lines):
            place = f"{book.source}: line {line}"
            if principle.id in principles:
                raise UserError(f"{place}: principle {principle.id!r} is in {principles[principle.id]} too: rename it")
            principles[principle.id] = place
