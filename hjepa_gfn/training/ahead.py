"""Compiling ahead: train steps are compiled in the background, in the order in which they are needed, while earlier ones run.

Compiling all steps of the agent takes minutes on a small machine, most of it in one thread; a later phase's steps are ready
by the time the run gets there. With many cores several are compiled side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import jax


def first_uses(schedule: Callable[[int], tuple[str, ...]], steps: Iterable[int], known: int) -> list[str]:
    """The names that a schedule gives, in the order in which they first come up; of `known` names at most."""
    found: dict[str, None] = {}
    for step in steps:
        found |= dict.fromkeys(schedule(step))
        if len(found) == known:
            break
    return list(found)


def shapes_of(tree: Any) -> Any:
    """Shapes, dtypes and shardings of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


class Ahead:
    """Compiled steps by name: `ahead[name](state, batch)` waits until that step is compiled, at its first call."""

    def __init__(self, steps: Mapping[Any, Any], order: Iterable[str], state: Any, batch: Any, side_by_side: int = 0):
        """Starts compiling.

        Args:
          steps: jitted functions of (state, batch).
          order: whose turn is when.
          state, batch: what they will be called with (`shapes_of`): a compiled step takes these shapes and shardings only.
          side_by_side: how many are compiled at once; 0: as many as there are cores for (a compiler keeps two to three busy).
        """
        self._steps, self._order, self._inputs = steps, list(order), (state, batch)
        self._compiled: dict[str, Future] = {name: Future() for name in self._order}
        self._stopped = False
        self._waiting = iter(self._order)
        self._turn = threading.Lock()  # to take a name
        count = side_by_side or max(1, (os.cpu_count() or 1) // 3)
        self._threads = [threading.Thread(target=self._run, name="compile", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return lambda *args: self._compiled[name].result()(*args)

    def close(self) -> None:
        """Compiles no further step, after the one under way (a thread in the compiler cannot be left behind at exit)."""
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._turn:
                name = next(self._waiting, None)
            if name is None or self._stopped:
                return
            try:
                self._compiled[name].set_result(self._steps[name].lower(*self._inputs).compile())
            except BaseException as error:  # whoever calls the step meets it
                self._compiled[name].set_exception(error)
