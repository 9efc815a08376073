"""A language model as the exemplary actor's back end, through pydantic-ai. Needs the extra `llm`.

Nothing that a model or its server does ends a run: each failure becomes an answer that says what went wrong.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.backends.questions import hash_of, plan_part, prompt, question_in_words
from hjepa_gfn.exemplary.backends.settings import Settings, api_key, split_spec
from hjepa_gfn.exemplary.backends.spending import Pacer, Purse
from hjepa_gfn.exemplary.backends.wording import one_line, text_of
from hjepa_gfn.exemplary.products import PLAN, product_named
from hjepa_gfn.exemplary.protocol import Answer, Situation
from hjepa_gfn.exemplary.textbooks import Textbook

VERSION = 1  # of how answers are made from responses: part of a question's identity


class LanguageModel:
    """A back end (`protocol.Backend`) that asks a language model. Making one makes no request."""

    def __init__(self, spec: str, model: Any = None, **settings: Any):
        """Checks everything that can be checked without a request.

        Args:
            spec: "openai:NAME" (also for any server that speaks the OpenAI protocol, see `base_url`) or "anthropic:NAME".
            model: a pydantic-ai model to ask in place of the one that `spec` names; for tests.
            **settings: see `settings.Settings`.

        Raises:
            UserError: pydantic-ai is not installed, an unknown provider or setting, or no API key in the environment.
        """
        self.name = spec
        self.settings = Settings.of(settings)
        provider, model_name = split_spec(spec)
        _need_pydantic_ai()
        if model is None:
            key = api_key(provider, self.settings)
            self._make_model: Callable[[], Any] = lambda: _make_model(provider, model_name, key, self.settings)
        else:
            self._make_model = lambda: model
        self._purse = Purse(self.settings.input_price, self.settings.output_price, self.settings.max_cost)
        self._pacer = Pacer(self.settings.requests_per_minute)
        self._places = threading.BoundedSemaphore(self.settings.max_concurrent)

    @property
    def spent(self) -> float:
        """US dollars spent so far, by the prices that are set."""
        return self._purse.spent

    @property
    def stopped(self) -> str:
        """Why no further question will be answered (the spending limit), or ""."""
        return self._purse.stopped

    def question_sha(self, kind: str, situation: Situation, textbook: Textbook | None, text: str) -> str:
        """See `protocol.Backend`. The model's name, its settings and every prompt are part of the hash."""
        words = question_in_words(kind, situation, textbook, text)
        shaped_by = self.settings.that_shape_answers()
        product = () if situation.product == PLAN.name else (situation.product,)
        system = prompt("system", situation.product)
        return hash_of(VERSION, self.name, shaped_by, kind, situation.id, system, words, *product)

    def draft(self, situation: Situation, textbooks: tuple[Textbook, ...], toolbox: Any) -> Answer:
        """A first plan (or prediction). The textbooks are left for reviews: faulty drafts are what critiques are made of."""
        return self._answer("draft", situation, None, "", toolbox)

    def review(self, situation: Situation, textbook: Textbook, text: str, toolbox: Any) -> Answer:
        """Critique by one textbook, with a refined text or leave to stand."""
        return self._answer("review", situation, textbook, text, toolbox)

    def explain_otherwise(self, situation: Situation, text: str, toolbox: Any) -> Answer:
        """The same plan (or prediction) with another explanation."""
        return self._answer("explain", situation, None, text, toolbox)

    def _answer(self, kind: str, situation: Situation, textbook: Textbook | None, text: str, toolbox: Any) -> Answer:
        from hjepa_gfn.exemplary.backends.asking import Asking, NoAnswer, drain

        asking = Asking(kind, textbook, toolbox, self.settings, product_named(situation.product))
        question = question_in_words(kind, situation, textbook, text)
        try:
            with self._places:
                said = _run(asking.ask(question, self._make_model(), self._purse, self._pacer))
            answer = _in_protocol(kind, said, textbook, text)
        except NoAnswer as failure:
            answer = Answer("propose" if kind == "draft" else "keep", failure=str(failure))
        drain(toolbox)
        sha = self.question_sha(kind, situation, textbook, text)
        return answer._replace(prompt_sha=sha, tool_calls=tuple(asking.tool_calls), usage=asking.tally.usage)


def _run(coroutine: Coroutine) -> Any:
    """The coroutine's result, also where an event loop runs already (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _in_protocol(kind: str, said: Any, textbook: Textbook | None, text: str) -> Answer:
    from hjepa_gfn.exemplary.backends.asking import statement_of

    if kind == "explain":
        return Answer("propose", f"{plan_part(text)} {one_line(said.explanation)}".strip())
    if kind == "draft":
        return Answer("propose", text_of(statement_of(said), said.explanation))
    known = [principle.id for principle in textbook.principles]
    cited = tuple(name for name in dict.fromkeys(said.principle_ids) if name in known)
    refined = text_of(statement_of(said), said.explanation) if said.verdict == "refine" else ""
    return Answer(said.verdict, refined, " ".join(said.critique.split()), cited)


def _need_pydantic_ai() -> None:
    try:
        import pydantic_ai  # noqa: F401
    except ImportError as error:
        raise UserError("language models need the package pydantic-ai-slim: run pip install 'hjepa_gfn[llm]'") from error


def _make_model(provider: str, name: str, key: str | None, settings: Settings) -> Any:
    """A fresh model, and with it a fresh client: connections belong to the event loop of one question."""
    wanted = {"max_tokens": settings.max_tokens, "temperature": settings.temperature, "seed": settings.seed}
    if provider == "anthropic":
        wanted.pop("seed")  # unknown there
    sent: Any = {"max_retries": 0, "timeout": settings.timeout, **{k: v for k, v in wanted.items() if v is not None}}
    try:
        if provider == "anthropic":
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            source = AnthropicProvider(api_key=key or "none", base_url=settings.base_url)
            return AnthropicModel(name, provider=source, settings=sent)
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider
        from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

        if settings.base_url:
            server = OpenAICompatibleProvider("own", base_url=settings.base_url, api_key=key)
            return OpenAIChatModel(name, provider=server, settings=sent)
        return OpenAIChatModel(name, provider=OpenAIProvider(api_key=key), settings=sent)
    except ImportError as error:
        raise UserError(f"{provider} models need more of pydantic-ai-slim: run pip install 'hjepa_gfn[llm]'") from error
