"""Where the time of a run goes, measured without holding it up.

JAX returns from a train step before the device has computed it, so the loop's own clock sees only dispatches. A thread waits
for the results of each step, in order, and notes when they are there. What is measured, in seconds:

- `<train step>`: from its dispatch or the end of the step before it, whichever was later, until its metrics are there. This is
  how long it kept the device busy (with what had to run before it, such as `finish_iteration`, and with waiting for other hosts
  in its collectives).
- `data`: the host's time for a batch, most of it hidden behind the device's work.
- `compile`: the first call of each compiled function, up to its dispatch. Not part of the step's own time.
- `save`: how long checkpoints held the loop up.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax


class Spent(NamedTuple):
    """How often something ran, and for how many seconds in all."""

    count: int = 0
    seconds: float = 0.0


class Timings:
    """Books of the time spent since the last `take`, by name."""

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, wait: Callable[[Any], Any] = jax.block_until_ready
    ):
        self._now, self._wait = now, wait
        self._compiled: set[str] = set()
        self._spent: dict[str, Spent] = {}
        self._lock = threading.Lock()
        self._dispatched: queue.SimpleQueue[tuple[str, float, Any] | threading.Event] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="timings", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[None]:
        """Counts the block's time under `name`."""
        begun = self._now()
        try:
            yield
        finally:
            self._add(name, self._now() - begun)

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> tuple[float, Any]:
        """Calls a compiled function; the time of the first call counts under `compile`.

        Returns:
          When it was dispatched, and what it returned.
        """
        begun = self._now()
        out = function(*args)
        if name not in self._compiled:
            self._compiled.add(name)
            called, begun = begun, self._now()
            self._add("compile", begun - called)
        return begun, out

    def step(self, name: str, step: Callable[..., tuple[Any, Any]], *args: Any) -> tuple[Any, Any]:
        """Calls `step(*args) -> (state, metrics)`; the time until the metrics are there will count under `name`."""
        begun, (state, metrics) = self.call(name, step, *args)
        self._dispatched.put((name, begun, metrics))
        return state, metrics

    def take(self) -> dict[str, Spent]:
        """What was spent since the last call, after waiting for the steps under way."""
        done = threading.Event()
        self._dispatched.put(done)
        done.wait()
        with self._lock:
            spent, self._spent = self._spent, {}
        return spent

    def close(self) -> None:
        """Lets the thread end; it does not wait for steps under way, which may never end."""
        self._dispatched.put(("", 0.0, None))

    def _add(self, name: str, seconds: float) -> None:
        with self._lock:
            before = self._spent.get(name, Spent())
            self._spent[name] = Spent(before.count + 1, before.seconds + seconds)

    def _watch(self) -> None:
        free = self._now()  # since when the device has had nothing to do
        while True:
            item = self._dispatched.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            name, begun, metrics = item
            if not name:
                return
            try:
                self._wait(metrics)
            except Exception:  # the loop meets the same error when it reads them, and reports it
                continue
            end = self._now()
            self._add(name, end - max(begun, free))
            free = end


def means(spent: dict[str, Spent], iterations: int) -> dict[str, float]:
    """`{"time/<name>": seconds}`: a call of a train step, an iteration's `data`, `compile` and `save` in all."""
    row = {}
    for name, (count, seconds) in sorted(spent.items()):
        over = {"data": iterations, "compile": 1, "save": 1}.get(name, count)
        row[f"time/{name}"] = seconds / max(over, 1)
    return row


def busy(spent: dict[str, Spent], train_steps: Sequence[str]) -> float:
    """The seconds that train steps kept the device busy."""
    return sum(spent[name].seconds for name in train_steps if name in spent)


def peak_memory(devices: Sequence[Any] | None = None) -> dict[str, float]:
    """`memory/peak_bytes`, the highest watermark of this host's devices, and `memory/limit_bytes`, their least limit.

    Nothing where the backend keeps no such count (CPU).
    """
    stats = [device.memory_stats() or {} for device in (jax.local_devices() if devices is None else devices)]
    row = {}
    if peaks := [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]:
        row["memory/peak_bytes"] = float(max(peaks))
    if limits := [s["bytes_limit"] for s in stats if "bytes_limit" in s]:
        row["memory/limit_bytes"] = float(min(limits))
    return row
