"""From what a model wrote to a text as the loop reads it, and what keeps a plan from being read."""

import re

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.products import PLAN, Product

MAX_REPEATS = 999  # a plan is a list of single actions: "go forward 9999999999" must never be written out


def one_line(words: str) -> str:
    """Lower case, without line breaks: the wording of texts."""
    return " ".join(words.split()).lower()


def text_of(plan: str, explanation: str) -> str:
    """Statement (of a plan, or of another product) and explanation as one text; a full stop is added where there is none."""
    plan = one_line(plan).strip("`\"' ").rstrip(". ")
    return f"{plan}. {one_line(explanation)}".strip()


def too_long(plan: str) -> bool:
    """Whether a plan repeats an action so often that it must not even be read."""
    return any(len(digits) > 9 or int(digits) > MAX_REPEATS for digits in re.findall(r"[0-9]+", plan))


def fault_of(stated: str, product: Product = PLAN) -> str:
    """Why a plan, or another product, cannot be read, in words for its author; "" if it can."""
    if not one_line(stated).strip(". "):
        return f"there is no {product.name}"
    if product is PLAN and too_long(stated):
        return f"no action is repeated more than {MAX_REPEATS} times"
    if "." in stated.strip().rstrip(". "):
        return f"the {product.name} is one sentence: its only full stop is at its end"
    try:
        product.read(text_of(stated, ""))
    except UserError as error:
        message = str(error)  # quotes the whole text: a model that repeats itself would be told all of it again
        return message if len(message) <= 160 else message[:157] + "..."
    return ""
