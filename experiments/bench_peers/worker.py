"""The line protocol that every worker speaks; standard library and numpy only, as each library has its own environment.

The worker is started with the path of a JSON spec (see `settings.py`) and reads commands from standard input:

    reset SEED      new parameters and optimizer state
    run N           N training iterations; replies {"wall": s, "cpu": s}
    policy IN OUT   reads states int32 [S, D] of the file IN, writes log P_F float32 [S, A+1] to OUT
                    (STOP last; illegal: <= -1e8)
    quit

Each reply is one line of JSON after a mark, so that what a library prints does no harm.
"""
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

MARK = "@@"


class Runner(Protocol):
    """One library on one task."""

    versions: dict[str, str]

    def reset(self, seed: int) -> None:
        """New parameters, optimizer state and random numbers."""

    def run(self, iterations: int) -> None:
        """Trains, and returns when the work is done."""

    def log_policy(self, states: np.ndarray) -> np.ndarray:
        """log P_F float32 [S, A+1] of non-terminal states int32 [S, D]."""


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def reply(value: dict[str, Any]) -> None:
    """Writes one reply."""
    print(MARK + json.dumps(value), flush=True)


def serve(make: Callable[[dict[str, Any]], Runner]) -> None:
    """Makes the runner and answers commands until `quit` or the end of the input."""
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    began = time.perf_counter()
    runner = make(spec)
    runner.reset(0)
    for _ in range(3):  # a jitted step may be compiled once more for the types and layouts of its own output
        runner.run(1)
    reply({"startup": time.perf_counter() - began, "versions": runner.versions})
    for line in sys.stdin:
        command, *args = line.split()
        if command == "reset":
            runner.reset(int(args[0]))
            reply({})
        elif command == "run":
            wall, cpu = time.perf_counter(), cpu_seconds()
            runner.run(int(args[0]))
            reply({"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu})
        elif command == "policy":
            np.save(args[1], runner.log_policy(np.load(args[0])).astype(np.float32))
            reply({})
        else:
            return
