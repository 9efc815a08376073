"""Compiling ahead: train steps are compiled in a thread, in the order in which they are needed, while earlier ones run already.

Compiling all steps of the agent takes minutes on a small machine, most of it in one thread; a later phase's steps are ready
by the time the run gets there.
"""

from __future__ import annotations

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

    def __init__(self, steps: Mapping[Any, Any], order: Iterable[str], state: Any, batch: Any):
        """Starts compiling.

        Args:
          steps: jitted functions of (state, batch).
          order: whose turn is when.
          state, batch: what they will be called with (`shapes_of`): a compiled step takes these shapes and shardings only.
        """
        self._steps, self._order, self._inputs = steps, list(order), (state, batch)
        self._compiled: dict[str, Future] = {name: Future() for name in self._order}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="compile", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return lambda *args: self._compiled[name].result()(*args)

    def close(self) -> None:
        """Compiles no further step, after the one under way (a thread in the compiler cannot be left behind at exit)."""
        self._stopped = True
        self._thread.join()

    def _run(self) -> None:
        for name in self._order:
            if self._stopped:
                return
            try:
                self._compiled[name].set_result(self._steps[name].lower(*self._inputs).compile())
            except BaseException as error:  # whoever calls the step meets it
                self._compiled[name].set_exception(error)
