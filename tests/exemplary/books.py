"""Textbooks for tests: the principles that checkers exist for, without the prose."""

from hjepa_gfn.exemplary.checkers import DISCIPLINES
from hjepa_gfn.exemplary.textbooks import Principle, Textbook

BOOKS = tuple(
    Textbook(name, f"# {name}\n", f"sha of {name}", tuple(Principle(i, f"{i}.", "") for i in ids))
    for name, ids in DISCIPLINES.items()
)
