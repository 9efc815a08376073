"""One line that says where the run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO


def duration(seconds: float) -> str:
    """`75` -> `1:15`, `3700` -> `1:01:40`."""
    minutes, seconds = divmod(int(max(seconds, 0) + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """`train  1200/6000  20%  34.1 it/s  2:21 left  jepa/loss 1.23`, rewritten in place on a terminal.

    Elsewhere (a log file) it is a line every `log_seconds`, so that logs stay short.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        *,
        label: str = "train",
        show: Sequence[str] = (),
        stream: TextIO | None = None,
        log_seconds: float = 15.0,
        enabled: bool = True,
    ):
        self._total, self._start, self._label, self._show = total, start, label, tuple(show)
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._pause = 0.2 if self._terminal else log_seconds
        self._enabled = enabled
        self._metrics: Mapping[str, float] = {}
        self._width = 0
        self._written = -1
        # The first iteration compiles: the rate is measured from its end, lest the time left be absurd.
        self._first: tuple[float, int] | None = None
        self._last = time.monotonic()

    def rate(self, step: int) -> float | None:
        """Iterations a second since the first finished one; None while unknown."""
        if self._first is None or step <= self._first[1]:
            return None
        return (step - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)

    def update(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Notes that `step` iterations are finished; prints when it is time to."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, step)
        if metrics:
            self._metrics = metrics
        if self._enabled and (now - self._last >= self._pause or step == self._total):
            self._last = now
            self._print(step)

    def _print(self, step: int) -> None:
        parts = [f"{self._label}  {step}/{self._total}", f"{100 * step // max(self._total, 1)}%"]
        rate = self.rate(step)
        if rate:
            parts += [f"{rate:.3g} it/s", f"{duration((self._total - step) / rate)} left"]
        names = [name for name in self._show if name in self._metrics]
        names = names or [name for name in self._metrics if name.endswith("/loss")][:2]
        parts += [f"{name} {self._metrics[name]:.4g}" for name in names]
        line = "  ".join(parts)
        if self._terminal:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._written = step
        self._stream.flush()

    def close(self, step: int) -> None:
        """Prints the last state and ends the line."""
        if not self._enabled:
            return
        if self._written != step:
            self._print(step)
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()
