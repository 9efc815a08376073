"""What goes between the exemplary actor's loop and a back end: situations, proposals, reviews, tool calls.

A back end is whoever thinks: rules, a language model, or a recording of either. The loop (`loop.exemplify`) asks it
for a first proposal, then for a review by each textbook in turn, and decides what is accepted.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np

from hjepa_gfn.exemplary.textbooks import Textbook


@dataclasses.dataclass(frozen=True)
class Situation:
    """What a plan, or a prediction, is asked for.

    Attributes:
        level, seed: gym id of the level and the episode's seed: what the simulator behind the tools is reset to.
        mission: the instruction, lower case.
        view, direction: the first percept: uint8[7, 7, 3] and compass direction.
        text: percept and mission in words; all that a back end is told without a tool. With a prediction, the plan that is
            carried out too.
        product: name of what is asked for (`products.PRODUCTS`).
        supposed: with a prediction, the statement of the plan that is carried out.
    """

    level: str
    seed: int
    mission: str
    view: np.ndarray
    direction: int
    text: str
    product: str = "plan"
    supposed: str = ""

    @property
    def id(self) -> str:
        """Names the situation in traces."""
        return f"{self.level}:{self.seed}"


class ToolCall(NamedTuple):
    """One use of a tool: its name, its arguments (JSON values) and what it answered, in words."""

    name: str
    arguments: dict[str, Any]
    result: str


class Usage(NamedTuple):
    """What an answer cost: requests made (retries included), tokens in and out, price in US dollars."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Answer(NamedTuple):
    """What a back end says.

    Attributes:
        verdict: "propose" (a first draft, or another explanation), "keep" or "refine".
        text: the whole new text, plan and explanation ("" with "keep"). Nothing vouches that it parses: the loop checks.
        critique: what is wrong with the text under review, or why it may stay.
        principle_ids: the principles that the critique cites.
        prompt_sha: identifies the question: the same question has the same hash in every run.
        tool_calls, usage: what was done and spent for this answer.
        failure: why there is no answer (time-out, nonsense after all retries), or "": then verdict is "keep", text "".
    """

    verdict: str
    text: str = ""
    critique: str = ""
    principle_ids: tuple[str, ...] = ()
    prompt_sha: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    failure: str = ""


class Backend(Protocol):
    """Whoever thinks. `toolbox`: `toolbox.Toolbox` of the situation.

    A back end may also have `stopped: str`: why it will answer no further question (a spending limit), or "".
    """

    name: str

    def question_sha(self, kind: str, situation: Situation, textbook: Textbook | None, text: str) -> str:
        """The `prompt_sha` that the answer to a question will carry, without asking it: first 16 hex of a SHA-256.

        Args:
            kind: "draft", "review" or "explain".
            situation: what the question is about.
            textbook: whose review it is; None for a draft and an explanation.
            text: the current text; "" for a draft.
        """
        ...

    def draft(self, situation: Situation, textbooks: tuple[Textbook, ...], toolbox: Any) -> Answer:
        """A first plan (or what else `situation.product` names) with its explanation."""
        ...

    def review(self, situation: Situation, textbook: Textbook, text: str, toolbox: Any) -> Answer:
        """Critique of `text` by one textbook, with a refined text or leave to stand."""
        ...

    def explain_otherwise(self, situation: Situation, text: str, toolbox: Any) -> Answer:
        """The same product with another explanation: for the converse check of a final version."""
        ...
