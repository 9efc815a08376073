"""The loop: a draft, then textbook after textbook, sweep after sweep, until a whole sweep changes nothing."""

from typing import NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.products import PLAN, Product
from hjepa_gfn.exemplary.protocol import Answer, Backend, Situation
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.exemplary.traces import Entry

MAX_SWEEPS = 4
DRAFT_ATTEMPTS = 2


class Result(NamedTuple):
    """What the loop came to.

    Attributes:
        entries: all answers, in order.
        converged: whether a whole sweep accepted no change of the product.
        robust: whether the final product stands in one more sweep with another explanation; None: not tried.
    """

    entries: list[Entry]
    converged: bool
    robust: bool | None

    @property
    def text(self) -> str | None:
        """The current text at the end; None: there never was one."""
        return next((entry.text for entry in reversed(self.entries) if entry.accepted), None)


class _Record:
    """Answers as they come in, and the text that is current."""

    def __init__(self, backend: Backend, product: Product):
        self.entries: list[Entry] = []
        self.text, self.version, self._backend = "", -1, backend.name
        self.product, self.values = product, []  # what the accepted texts state, in order

    def add(self, answer: Answer, sweep: int, book: Textbook | None, accepted: bool, reason: str) -> None:
        if accepted:
            self.text, self.version = answer.text, self.version + 1
            self.values.append(self.product.read(answer.text))
        self.entries.append(
            Entry(
                max(self.version, 0), sweep, book.discipline if book else "", book.sha if book else "", answer.verdict,
                answer.critique, tuple(answer.principle_ids), answer.text, answer.prompt_sha, tuple(answer.tool_calls),
                answer.usage, answer.failure, accepted, reason, self._backend,
            )
        )  # fmt: skip


def exemplify(
    situation: Situation, textbooks: tuple[Textbook, ...], backend: Backend, toolbox: Toolbox, *,
    max_sweeps: int = MAX_SWEEPS, robustness: bool = False, product: Product = PLAN,
) -> Result:  # fmt: skip
    """Has a plan, or another product, proposed, reviewed and refined.

    Args:
        situation: what is asked.
        textbooks: in the order in which they review.
        backend: whoever thinks.
        toolbox: the situation's tools.
        max_sweeps: after so many sweeps the loop stops, converged or not.
        robustness: whether to try the final product with another explanation.
        product: what is asked for.

    Returns:
        All answers, whether a whole sweep changed nothing, and whether the product is robust.
    """
    record = _Record(backend, product)
    for _ in range(DRAFT_ATTEMPTS):
        answer = backend.draft(situation, textbooks, toolbox)
        reason = _unreadable(answer, product)
        record.add(answer, 0, None, not reason, reason)
        if not reason:
            break
    if record.version < 0:
        return Result(record.entries, False, None)
    converged = False
    for sweep in range(1, max_sweeps + 1):
        changed, failed, cycled = _sweep(record, situation, textbooks, backend, toolbox, sweep)
        if cycled:
            break
        if not changed and not failed:
            converged = True
            break
    robust = None
    if robustness and converged:
        robust = _is_robust(record, situation, textbooks, backend, toolbox, sweep + 1)
    return Result(record.entries, converged, robust)


def _sweep(
    record: _Record, situation: Situation, textbooks: tuple[Textbook, ...], backend: Backend, toolbox: Toolbox, sweep: int
) -> tuple[bool, bool, bool]:
    """One sweep: whether the product changed, whether an answer failed, and whether one came back that was there before."""
    product = record.product
    changed = failed = False
    for book in textbooks:
        answer = backend.review(situation, book, record.text, toolbox)
        failed |= bool(answer.failure)
        if answer.failure or answer.verdict != "refine":
            record.add(answer, sweep, book, False, "")
            continue
        reason = _unreadable(answer, product)
        value = None if reason else product.read(answer.text)
        other = value is not None and value != record.values[-1]
        if other and value in record.values:
            again = f"cycle: the {product.name} of version {record.values.index(value)} again"
            record.add(answer, sweep, book, False, again)
            return changed, failed, True
        changed |= other
        failed |= bool(reason)
        record.add(answer, sweep, book, not reason, reason)
    return changed, failed, False


def _is_robust(
    record: _Record, situation: Situation, textbooks: tuple[Textbook, ...], backend: Backend, toolbox: Toolbox, sweep: int
) -> bool | None:
    """The converse check: with another explanation of the same product, does every textbook leave it alone?"""
    product, value = record.product, record.values[-1]
    answer = backend.explain_otherwise(situation, record.text, toolbox)
    reason = _unreadable(answer, product)
    if not reason and product.read(answer.text) != value:
        reason = f"another {product.name}, where another explanation was asked for"
    record.add(answer, sweep, None, False, reason or f"converse check: another explanation of the same {product.name}")
    if reason:
        return None
    robust = True
    for book in textbooks:
        review = backend.review(situation, book, answer.text, toolbox)
        kept = review.verdict != "refine" or (not _unreadable(review, product) and product.read(review.text) == value)
        robust &= kept and not review.failure
        record.add(review, sweep, book, False, "converse check")
    return robust


def _unreadable(answer: Answer, product: Product) -> str:
    """Why an answer's text cannot become the current one, or ""."""
    if answer.failure:
        return f"no answer: {answer.failure}"
    try:
        product.read(answer.text)
    except UserError as error:
        return str(error)
    return ""
