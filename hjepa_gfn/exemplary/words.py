"""Critiques in words: what is wrong by which principle, or why a text may stand."""

from collections.abc import Sequence
from typing import Any

from hjepa_gfn.exemplary.checkers import Case

MAX_COMPLAINTS = 3


def critique(found: Sequence[Any], left_to_others: bool, style: int) -> str:
    """What is wrong, each complaint after the id of its principle; the first few of them.

    Args:
        found: at least one violation, or fault of a prediction: `principle` and `complaint` are read.
        left_to_others: whether nothing is changed, since what is wrong is for other disciplines to mend.
        style: which of the equivalent wordings to use (any integer).
    """
    by_principle: dict[str, str] = {}
    for violation in found:
        by_principle.setdefault(violation.principle, violation.complaint)
    complaints = [f"{principle}: {complaint}" for principle, complaint in by_principle.items()][:MAX_COMPLAINTS]
    words = " ".join(complaints)
    if left_to_others:
        words += (" that is for other books to mend.", " the cause lies elsewhere.", " other books will see to it.")[style % 3]
    return words


def approval(case: Case, discipline: str, style: int) -> str:
    """Why a text may stand, as far as a discipline is concerned."""
    steps = f"{case.rollout.steps} step{'s' if case.rollout.steps != 1 else ''}"
    gets_there = f"it gets there in {steps}" if case.rollout.success else f"{steps}, nothing amiss"
    return (
        f"no principle of {discipline} is broken: {gets_there}.",
        f"{discipline} has nothing to object: {gets_there}.",
        f"as far as {discipline} goes, the plan may stand: {gets_there}.",
    )[style % 3]
