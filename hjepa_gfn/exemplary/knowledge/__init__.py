"""The textbooks. Temporary: titles only, until the Markdown files and their parser are there."""

import hashlib

from hjepa_gfn.exemplary.checkers import DISCIPLINES
from hjepa_gfn.exemplary.textbooks import Principle, Textbook


def load_textbooks() -> tuple[Textbook, ...]:
    """A textbook a discipline, in order."""
    books = []
    for discipline, ids in DISCIPLINES.items():
        text = f"# {discipline}\n\n" + "\n".join(f"## {name}\n" for name in ids)
        sha = hashlib.sha256(text.encode()).hexdigest()
        principles = tuple(Principle(name, name.replace("-", " ") + ".", "") for name in ids)
        books.append(Textbook(discipline, text, sha, principles))
    return tuple(books)
