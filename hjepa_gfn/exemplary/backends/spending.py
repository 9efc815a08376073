"""Keeping count of requests, tokens and money, and keeping requests apart in time."""

import dataclasses
import threading
import time

from hjepa_gfn.exemplary.protocol import Usage

CHARACTERS_PER_TOKEN = 3  # a cautious guess for servers that do not count


class SpendingLimit(Exception):
    """The spending limit is reached: no further request is made."""


@dataclasses.dataclass
class Tally:
    """What one question has cost so far; grows with each request, so that it is known even if no answer comes of it."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def usage(self) -> Usage:
        """As it goes into an answer."""
        return Usage(self.requests, self.input_tokens, self.output_tokens, self.cost)


class Purse:
    """Prices, what was spent in all, and the limit. Shared by all questions to a back end; safe to use from threads."""

    def __init__(self, input_price: float, output_price: float, max_cost: float | None):
        """Prices: US dollars per million tokens. `max_cost`: US dollars; None: no limit."""
        self._prices, self._max_cost = (input_price, output_price), max_cost
        self._lock = threading.Lock()
        self.spent = 0.0

    @property
    def stopped(self) -> str:
        """Why no further request may be made, or ""."""
        if self._max_cost is None or self.spent < self._max_cost:
            return ""
        return f"spending limit reached: {self.spent:.4f} of max_cost={self._max_cost:g} US dollars are spent"

    def check(self) -> None:
        """Raises SpendingLimit if no further request may be made."""
        if self.stopped:
            raise SpendingLimit(self.stopped)

    def pay(self, tally: Tally, input_tokens: int, output_tokens: int) -> None:
        """Counts a response."""
        cost = (input_tokens * self._prices[0] + output_tokens * self._prices[1]) / 1e6
        tally.input_tokens += input_tokens
        tally.output_tokens += output_tokens
        tally.cost += cost
        with self._lock:
            self.spent += cost


class Pacer:
    """Hands out starting times so that requests keep their distance."""

    def __init__(self, per_minute: float | None):
        """`per_minute`: None: no distance."""
        self._distance = 60.0 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def turn(self) -> float:
        """Takes the next free starting time; returns the seconds until then."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._distance
            return start - now
