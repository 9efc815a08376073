"""What can be set about a language model, and the checks of it."""

import dataclasses
import math
import os
from typing import Any

from hjepa_gfn.errors import UserError

PROVIDERS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
OUTPUTS = ("tool", "native", "prompted")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the language-model back end.

    Attributes:
        base_url: where another server speaks the provider's protocol (vLLM, llama.cpp, Ollama: the OpenAI protocol), e.g.
            "http://localhost:8080/v1"; None: the provider's own.
        api_key_env: environment variable that holds the API key; "": the provider's usual one, or with a `base_url` none,
            so that a key never goes to another server unless it is meant to.
        temperature, max_tokens, seed: of sampling; None: the server's default. `max_tokens` bounds one response.
        output: how the answer's structure is asked for: "tool" (an output tool), "native" (a JSON schema that the server
            enforces; best for small models on llama.cpp or vLLM) or "prompted" (the schema stands in the prompt).
        timeout: seconds until one request is given up.
        retries: how often a request that failed for a passing reason is made again.
        backoff, max_wait: seconds before the first retry, doubled at each further one up to `max_wait`. A server that asks
            for a longer wait (Retry-After) gets it, up to `max_wait`; beyond, the question is given up.
        corrections: how often the model is told that its answer has not the right structure. An unreadable plan or an
            unknown principle is pointed out once.
        max_tool_calls: tool calls for one question; further ones are answered with "no more".
        requests_per_minute: requests are spaced so; None: not at all.
        max_concurrent: questions in flight at one time, over all threads.
        input_price, output_price: US dollars per million tokens.
        max_cost: US dollars after which no further request is made; None: no limit. Needs the prices. Spending is known
            after a response only, so the last one may go beyond.
    """

    base_url: str | None = None
    api_key_env: str = ""
    temperature: float | None = None
    max_tokens: int = 1024
    seed: int | None = None
    output: str = "tool"
    timeout: float = 120.0
    retries: int = 4
    backoff: float = 1.0
    max_wait: float = 120.0
    corrections: int = 2
    max_tool_calls: int = 8
    requests_per_minute: float | None = None
    max_concurrent: int = 1
    input_price: float = 0.0
    output_price: float = 0.0
    max_cost: float | None = None

    def __post_init__(self):
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if value is None and name == "seed":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"{name}={value!r}: it should be a whole number, at least {least}")
        for name, (least, needed) in _NUMBERS.items():
            value = getattr(self, name)
            if value is None and not needed:
                continue
            sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not sound or value < least:
                raise UserError(f"{name}={value!r}: it should be a number, at least {least}")
        if self.output not in OUTPUTS:
            raise UserError(f"output={self.output!r}: choose from {', '.join(OUTPUTS)}")
        if self.base_url is not None and not str(self.base_url).startswith(("http://", "https://")):
            raise UserError(f"base_url={self.base_url!r}: it should begin with http:// or https://")
        if self.max_cost is not None and self.input_price <= 0 and self.output_price <= 0:
            raise UserError("max_cost is set without prices: set input_price and output_price, US dollars per million tokens")

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Settings":
        """From keyword arguments; a name that is no setting gives a UserError that lists those there are."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UserError(f"{name!r} is no setting of a language model: choose from {', '.join(known)}")
        return cls(**values)

    def that_shape_answers(self) -> dict[str, Any]:
        """Those that belong to the identity of a question: not where and how patiently it is asked."""
        names = ("temperature", "max_tokens", "seed", "output", "corrections", "max_tool_calls")
        return {name: getattr(self, name) for name in names}


_INTEGERS = {"max_tokens": 1, "seed": 0, "retries": 0, "corrections": 0, "max_tool_calls": 0, "max_concurrent": 1}
_NUMBERS = {  # least value; whether it must be given
    "temperature": (0, False), "timeout": (0.001, True), "backoff": (0, True), "max_wait": (0, True),
    "requests_per_minute": (0.001, False), "input_price": (0, True), "output_price": (0, True), "max_cost": (0, False),
}  # fmt: skip


def split_spec(spec: str) -> tuple[str, str]:
    """Provider and model name of e.g. "openai:NAME".

    Raises:
        UserError: an unknown provider, or no name.
    """
    provider, _, name = spec.partition(":")
    if provider not in PROVIDERS or not name:
        raise UserError(f"{spec!r} names no language model: write {' or '.join(f'{p}:NAME' for p in PROVIDERS)}")
    return provider, name


def api_key(provider: str, settings: Settings) -> str | None:
    """The API key from the environment; None where a server of one's own needs none.

    Raises:
        UserError: the variable that should hold it is not set.
    """
    if settings.base_url and not settings.api_key_env:
        return None
    variable = settings.api_key_env or PROVIDERS[provider]
    if key := os.environ.get(variable, "").strip():
        return key
    own = "" if settings.base_url else ", or base_url if a server of your own is meant"
    raise UserError(f"environment variable {variable} is not set: put the API key for {provider!r} models there{own}")
