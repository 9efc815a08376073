"""A profiler's trace of chosen iterations, in `workdir/profile` (TensorBoard and Perfetto read it)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jax

from hjepa_gfn.errors import UserError

DIRECTORY = "profile"


def parse_steps(text: str) -> tuple[int, int] | None:
    """`"100:110"` as `(100, 110)`, the first and the last iteration to trace, counted from 0; `""` as None.

    Raises:
      UserError: the text says something else.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or int(match[1]) > int(match[2]):
        raise UserError(f"--profile_steps={text}: must be first:last, such as 100:110")
    return int(match[1]), int(match[2])


class Profile:
    """Traces iterations `first` to `last`, both included; a run that is resumed between them traces the rest."""

    def __init__(self, workdir: str | os.PathLike[str], steps: tuple[int, int] | None):
        """Nothing is traced, or imported, where `steps` is None."""
        host = f"host_{jax.process_index()}" if jax.process_count() > 1 else ""
        self._directory, self._steps, self._running = Path(workdir) / DIRECTORY / host, steps, False

    def before(self, step: int) -> None:
        """To be called before iteration `step`."""
        if self._steps and not self._running and self._steps[0] <= step <= self._steps[1]:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, state: Any) -> None:
        """To be called after iteration `step`, which led to `state`; waits for the device where the trace ends."""
        if self._running and self._steps and step >= self._steps[1]:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Writes the trace of what has been traced so far, if any."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
