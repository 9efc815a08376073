"""The questions put to a language model, in words, and their hashes."""

import hashlib
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from hjepa_gfn.exemplary.phrases import explanation_of
from hjepa_gfn.exemplary.products import PLAN
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.textbooks import Textbook

PROMPTS = Path(__file__).parent / "prompts"


@cache
def prompt(name: str, product: str = PLAN.name) -> str:
    """The text of a prompt file: "system", "draft", "review" or "explain", of plans or of another product."""
    return (PROMPTS / f"{name if product == PLAN.name else f'{product}_{name}'}.md").read_text(encoding="utf-8").strip()


def question_in_words(kind: str, situation: Situation, textbook: Textbook | None, text: str) -> str:
    """The question as the model reads it. `kind`: "draft", "review" or "explain"."""
    return Template(prompt(kind, situation.product)).substitute(
        situation=situation.text,
        text=text,
        plan=plan_part(text),
        explanation=explanation_of(text),
        textbook=textbook.text.strip() if textbook else "",
        ids=", ".join(p.id for p in textbook.principles) if textbook else "",
    )


def plan_part(text: str) -> str:
    """The statement of the plan, or of another product, with its full stop."""
    plan, stop, _ = text.partition(".")
    return (plan + stop).strip()


def hash_of(*parts: Any) -> str:
    """First 16 hex digits of the SHA-256 of JSON values: the same in every run and on every machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
