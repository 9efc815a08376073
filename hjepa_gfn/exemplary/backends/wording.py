"""From what a model wrote to a text as the loop reads it, and what keeps a plan from being read."""

import re

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import parse_plan

MAX_REPEATS = 999  # a plan is a list of single actions: "go forward 9999999999" must never be written out


def one_line(words: str) -> str:
    """Lower case, without line breaks: the wording of texts."""
    return " ".join(words.split()).lower()


def text_of(plan: str, explanation: str) -> str:
    """Plan statement and explanation as one text; the plan gets its full stop if it has none."""
    plan = one_line(plan).strip("`\"' ").rstrip(". ")
    return f"{plan}. {one_line(explanation)}".strip()


def too_long(plan: str) -> bool:
    """Whether a plan repeats an action so often that it must not even be read."""
    return any(len(digits) > 9 or int(digits) > MAX_REPEATS for digits in re.findall(r"[0-9]+", plan))


def plan_fault(plan: str) -> str:
    """Why a plan cannot be read, in words for its author; "" if it can."""
    if not one_line(plan).strip(". "):
        return "there is no plan"
    if too_long(plan):
        return f"no action is repeated more than {MAX_REPEATS} times"
    if "." in plan.strip().rstrip(". "):
        return "the plan is one sentence: its only full stop is at its end"
    try:
        parse_plan(text_of(plan, ""))
    except UserError as error:
        message = str(error)  # quotes the whole text: a model that repeats itself would be told all of it again
        return message if len(message) <= 160 else message[:157] + "..."
    return ""
