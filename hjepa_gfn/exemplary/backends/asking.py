"""One question to a language model: its structured answer, its tools, and what becomes of nonsense."""

import contextlib
from typing import Any, Literal

import pydantic
from pydantic_ai import Agent, ModelRetry, NativeOutput, PromptedOutput, Tool, ToolOutput
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.models import Model
from pydantic_ai.usage import UsageLimits

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.backends.patience import PatientModel, Unanswered
from hjepa_gfn.exemplary.backends.questions import prompt
from hjepa_gfn.exemplary.backends.settings import Settings
from hjepa_gfn.exemplary.backends.spending import Pacer, Purse, SpendingLimit, Tally
from hjepa_gfn.exemplary.backends.wording import fault_of, too_long
from hjepa_gfn.exemplary.products import PLAN, PREDICTION, Product
from hjepa_gfn.exemplary.protocol import ToolCall
from hjepa_gfn.exemplary.textbooks import Textbook

_OUTPUTS = {"tool": ToolOutput, "native": NativeOutput, "prompted": PromptedOutput}


# Servers that enforce a schema enforce these too: a small model that repeats itself comes to an end.
MAX_PLAN, MAX_WORDS = 1500, 600
_GROUNDS = "one or two sentences: the perceived facts that the plan rests on"


class Proposal(pydantic.BaseModel):
    """A plan and its explanation."""

    plan: str = pydantic.Field(max_length=MAX_PLAN, description="one sentence in the language of plans")
    explanation: str = pydantic.Field(max_length=MAX_WORDS, description=_GROUNDS)


class Review(pydantic.BaseModel):
    """What a textbook has to say about a plan, and the better plan if there is something wrong."""

    critique: str = pydantic.Field(max_length=MAX_WORDS, description="what is wrong, or why the plan may stand")
    verdict: Literal["keep", "refine"]
    principle_ids: list[str] = pydantic.Field(default_factory=list, description="ids of the principles that are broken")
    plan: str = pydantic.Field(default="", max_length=MAX_PLAN, description="with verdict refine: the whole new plan")
    explanation: str = pydantic.Field(default="", max_length=MAX_WORDS, description="with verdict refine: its explanation")


class Explanation(pydantic.BaseModel):
    """Another explanation."""

    explanation: str = pydantic.Field(max_length=MAX_WORDS, description=_GROUNDS)


_FACTS = "one or two sentences: the perceived facts that the prediction rests on"


class PredictionProposal(pydantic.BaseModel):
    """A prediction and its explanation."""

    prediction: str = pydantic.Field(max_length=MAX_PLAN, description="one sentence in the language of predictions")
    explanation: str = pydantic.Field(max_length=MAX_WORDS, description=_FACTS)


class PredictionReview(pydantic.BaseModel):
    """What a textbook has to say about a prediction, and the better prediction if there is something wrong."""

    critique: str = pydantic.Field(max_length=MAX_WORDS, description="what is wrong, or why the prediction may stand")
    verdict: Literal["keep", "refine"]
    principle_ids: list[str] = pydantic.Field(default_factory=list, description="ids of the principles that are broken")
    prediction: str = pydantic.Field(default="", max_length=MAX_PLAN, description="with verdict refine: the whole new one")
    explanation: str = pydantic.Field(default="", max_length=MAX_WORDS, description="with verdict refine: its explanation")


class PredictionExplanation(pydantic.BaseModel):
    """Another explanation of a prediction."""

    explanation: str = pydantic.Field(max_length=MAX_WORDS, description=_FACTS)


FORMS: dict[str, dict[str, type[pydantic.BaseModel]]] = {
    PLAN.name: {"draft": Proposal, "review": Review, "explain": Explanation},
    PREDICTION.name: {"draft": PredictionProposal, "review": PredictionReview, "explain": PredictionExplanation},
}


class NoAnswer(Exception):
    """A question stays unanswered; the message says why, for the trace."""


class Asking:
    """A question on its way: what was spent and which tools were called is known whatever becomes of it."""

    def __init__(self, kind: str, textbook: Textbook | None, toolbox: Any, settings: Settings, product: Product = PLAN):
        """`kind`: "draft", "review" (by `textbook`) or "explain". `toolbox`: whose tools the model may call, or None."""
        self._kind, self._textbook, self._toolbox, self._settings = kind, textbook, toolbox, settings
        self._product = product
        self.tally = Tally()
        self.tool_calls: list[ToolCall] = []
        self._pointed_out = False

    async def ask(self, question: str, model: Model, purse: Purse, pacer: Pacer) -> pydantic.BaseModel:
        """The model's answer in the question's form; an unreadable plan has been pointed out once.

        Raises:
            NoAnswer: for any reason that lies with the model, its server or the limits.
        """
        limits = self._settings
        tools = list(self._toolbox.tools) if self._toolbox is not None and limits.max_tool_calls else []
        patient = PatientModel(model, limits, purse, pacer, self.tally)
        agent = Agent(
            patient,
            output_type=_OUTPUTS[limits.output](FORMS[self._product.name][self._kind]),
            instructions=prompt("system", self._product.name),
            tools=[self._offer(tool) for tool in tools],
            # One more for the fault of content that `_check` points out.
            retries={"tools": limits.corrections, "output": limits.corrections + 1},
        )
        agent.output_validator(self._check)
        turns = limits.max_tool_calls + 2 * limits.corrections + 3
        try:
            async with patient:
                result = await agent.run(question, usage_limits=UsageLimits(request_limit=turns), infer_name=False)
        except UnexpectedModelBehavior as error:
            raise NoAnswer(f"nonsense: {_cause(error)}") from error
        except UsageLimitExceeded as error:
            raise NoAnswer(f"no answer after {turns} responses") from error
        except (Unanswered, SpendingLimit) as error:
            raise NoAnswer(str(error)) from error
        if _states(result.output):
            stated = statement_of(result.output)
            endless = self._product is PLAN and too_long(stated)
            if endless or not stated.strip(" .\n"):  # there is nothing that the loop could turn down
                raise NoAnswer(f"nonsense: {fault_of(stated, self._product)}")
        return result.output

    def _check(self, answer: pydantic.BaseModel) -> pydantic.BaseModel:
        """Points out a fault of content, once; after that the answer stands as it is, and the loop judges it."""
        fault = self._fault(answer)
        if not fault or self._pointed_out:
            return answer
        self._pointed_out = True
        raise ModelRetry(fault)

    def _fault(self, answer: pydantic.BaseModel) -> str:
        if isinstance(answer, Review | PredictionReview):
            known = [principle.id for principle in self._textbook.principles]
            if unknown := [name for name in answer.principle_ids if name not in known]:
                return f"the textbook has no principle {unknown[0]!r}: cite those of {', '.join(known)}"
            if answer.verdict == "keep":
                return ""
            if not answer.principle_ids:
                return f"a refinement cites the principles that were broken, out of {', '.join(known)}"
        if _states(answer) and (fault := fault_of(statement_of(answer), self._product)):
            return f"the {self._product.name} cannot be read: {fault}"
        return "" if answer.explanation.strip() else "the explanation is missing"

    def _offer(self, tool: Any) -> Tool:
        """A tool of the toolbox as the model may call it."""

        async def call(**arguments: Any) -> str:  # no plain function: those run in threads, which simulators may not like
            return self._use(tool.name, arguments)

        return Tool.from_schema(call, tool.name, tool.description, tool.parameters, sequential=True)

    def _use(self, name: str, arguments: dict[str, Any]) -> str:
        if len(self.tool_calls) >= self._settings.max_tool_calls:
            return "no more tool calls for this question: answer it now"
        try:
            result = self._toolbox.call(name, arguments)
        except (UserError, KeyError, TypeError, ValueError) as error:  # the model made the arguments up: tell it
            result = f"error: {error}"
        self.tool_calls.append(ToolCall(name, arguments, result))
        return result


def _states(answer: pydantic.BaseModel) -> bool:
    """Whether an answer has to state a plan, or another product."""
    reviews = isinstance(answer, Review | PredictionReview)
    return isinstance(answer, Proposal | PredictionProposal) or (reviews and answer.verdict == "refine")


def statement_of(answer: pydantic.BaseModel) -> str:
    """The statement of the plan, or of the prediction, that an answer holds."""
    return answer.prediction if isinstance(answer, PredictionProposal | PredictionReview) else answer.plan


def drain(toolbox: Any) -> None:
    """Empties the toolbox's own record of calls, so that the next question does not get ours."""
    with contextlib.suppress(AttributeError):
        toolbox.take_calls()


def _cause(error: BaseException) -> str:
    """The message, with that of what lies behind it, in one line."""
    words = [str(error)]
    if error.__cause__ is not None and not isinstance(error.__cause__, UnexpectedModelBehavior):
        words.append(str(getattr(error.__cause__, "message", "") or error.__cause__))
    text = " ".join(": ".join(words).split())
    return text if len(text) <= 300 else text[:297] + "..."
