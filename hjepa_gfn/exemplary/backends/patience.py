"""A model that asks again: retries with growing pauses, Retry-After, time-outs, spacing of requests, the spending limit.

The clients' own retries are switched off: two layers of them multiply.
"""

import asyncio
import random

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from hjepa_gfn.exemplary.backends.settings import Settings
from hjepa_gfn.exemplary.backends.spending import CHARACTERS_PER_TOKEN, Pacer, Purse, Tally

_PASSING_STATUS = (408, 409, 425, 429)


class Unanswered(Exception):
    """A request got no usable response, after all retries; the message says why, for the trace."""


class PatientModel(WrapperModel):
    """Wraps the model that answers one question."""

    def __init__(self, wrapped: Model, settings: Settings, purse: Purse, pacer: Pacer, tally: Tally):
        """`purse`, `pacer`: of the back end. `tally`: of the question."""
        super().__init__(wrapped)
        self._settings, self._purse, self._pacer, self._tally = settings, purse, pacer, tally

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """One response, after as many requests as it takes.

        Raises:
            Unanswered: no response within the retries, or one that was cut off.
            SpendingLimit: the limit is reached; no request was made.
        """
        limits = self._settings
        for attempt in range(limits.retries + 1):
            self._purse.check()
            await asyncio.sleep(self._pacer.turn())
            self._tally.requests += 1
            try:
                request = self.wrapped.request(messages, model_settings, model_request_parameters)
                response = await asyncio.wait_for(request, limits.timeout)
            except (ModelAPIError, UnexpectedModelBehavior, TimeoutError) as error:
                reason, passing = explain_failure(error, limits.timeout)
                tries = f" (request {attempt + 1} of {limits.retries + 1})" if passing else ""
                if not passing or attempt == limits.retries:
                    raise Unanswered(reason + tries) from error
                pause = min(limits.backoff * 2**attempt * random.uniform(1, 1.25), limits.max_wait)
                asked_for = getattr(error, "retry_after", None) or 0.0
                if asked_for > limits.max_wait:
                    wait = f"asks for a wait of {asked_for:g} s, more than max_wait={limits.max_wait:g}"
                    raise Unanswered(f"{reason}: the server {wait}") from error
                await asyncio.sleep(max(pause, asked_for))
            else:
                self._pay(messages, response)
                if response.finish_reason == "length":  # asking again with the same limit would end the same way
                    said = " ".join(str(getattr(p, "args", "") or getattr(p, "content", "")) for p in response.parts)
                    raise Unanswered(f"cut off: the response reached max_tokens={limits.max_tokens}: {_brief(said)}")
                return response
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _pay(self, messages: list[ModelMessage], response: ModelResponse) -> None:
        tokens_in, tokens_out = response.usage.input_tokens, response.usage.output_tokens
        if not tokens_in and not tokens_out:  # not counted by the server: the spending limit must hold all the same
            tokens_in = sum(len(str(part)) for message in messages for part in message.parts) // CHARACTERS_PER_TOKEN
            tokens_out = sum(len(str(part)) for part in response.parts) // CHARACTERS_PER_TOKEN
        self._purse.pay(self._tally, tokens_in, tokens_out)


def explain_failure(error: Exception, timeout: float) -> tuple[str, bool]:
    """Why a request failed, in one line, and whether it may go better another time."""
    if isinstance(error, TimeoutError | ModelTimeoutError):
        return f"time-out: no answer within {timeout:g} s", True
    if isinstance(error, ContentFilterError):
        return f"refused by the content filter: {_brief(error)}", False
    if isinstance(error, ModelHTTPError):
        lasting = isinstance(error, ModelRequestRejectedError | ModelQuotaExceededError)
        passing = not lasting and (error.status_code in _PASSING_STATUS or error.status_code >= 500)
        kind = "rate limit" if error.status_code == 429 and passing else "error"
        return f"{kind}: HTTP {error.status_code}: {_brief(error.body)}", passing
    if isinstance(error, ModelConnectionError):
        return f"no connection: {_brief(error)}", True
    return f"no sound response: {_brief(error)}", True


def _brief(words: object) -> str:
    text = " ".join(str(words).split())
    return text if len(text) <= 200 else text[:197] + "..."
