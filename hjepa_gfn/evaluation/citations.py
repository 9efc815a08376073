"""Which principle a text cites: found by its name."""
from __future__ import annotations

import functools
import re

from hjepa_gfn.evaluation.report_views import PrincipleView
from hjepa_gfn.exemplary.checkers import CHECKERS
from hjepa_gfn.exemplary.knowledge import load_textbooks

# A name stands alone: "no-detours" is not cited by "no-detours-at-all", and of two names the longer is tried first.
_CITED = re.compile(r"(?<![\w-])(" + "|".join(sorted(CHECKERS, key=len, reverse=True)) + r")(?![\w-])", re.IGNORECASE)


@functools.cache
def _statements() -> dict[str, PrincipleView]:
    return {p.id: PrincipleView(p.id, book.discipline, p.statement) for book in load_textbooks() for p in book.principles}


def cited_principle(text: str) -> PrincipleView | None:
    """The first principle (of those with a checker) whose id stands in the text as words of its own; None: there is none."""
    found = _CITED.search(text)
    if found is None:
        return None
    name = found.group(1).lower()
    return _statements().get(name, PrincipleView(name, "", ""))
