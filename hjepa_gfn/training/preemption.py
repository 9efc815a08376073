"""SIGTERM and Ctrl-C: finish the iteration, save, leave."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

import jax


class StopSignal:
    """Context in which SIGTERM and SIGINT are noted instead of ending the process; a second one ends it as usual.

    On several hosts the loop must stop at the same iteration everywhere although the signal comes to one: JAX's
    preemption service agrees on the iteration. It listens for SIGTERM, so Ctrl-C is made one.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if number == signal.SIGTERM and jax.process_count() > 1:
                    continue  # the coordination service listens for it
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._received = number

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def received(self, step: int) -> int | None:
        """The signal's number, if the run is to stop after `step` finished iterations."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                return signal.SIGTERM
        return self._received
