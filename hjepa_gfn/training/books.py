"""The books of a run while it goes: metrics, timings, goodput and the progress line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import jax

from hjepa_gfn.training.goodput import Goodput
from hjepa_gfn.training.metrics import MetricsWriter
from hjepa_gfn.training.progress import Progress
from hjepa_gfn.training.timing import Spent, Timings, busy, means, peak_memory


class Books:
    """Every host measures; the first one writes."""

    def __init__(self, workdir: Path, step: int, useful: float, train_steps: Collection[str], line: Progress):
        """Opens the files.

        Args:
          step: the iterations finished so far; rows beyond it are cut off.
          useful: seconds of device work up to there (see `Goodput`).
          train_steps: their names.
          line: the progress line, which knows the rate.
        """
        primary = jax.process_index() == 0
        self.timings = Timings()
        self._writer = MetricsWriter(workdir, step) if primary else None
        self._goodput = Goodput(workdir, useful) if primary else None
        self._train_steps, self._line = train_steps, line
        self._useful, self._step = useful, step
        self._spent: dict[str, Spent] = {}
        self.write()

    def useful(self) -> float:
        """Seconds of device work up to now; waits for the device."""
        spent = self.timings.take()
        self._useful += busy(spent, self._train_steps)
        for name, (count, seconds) in spent.items():
            before = self._spent.get(name, Spent())
            self._spent[name] = Spent(before.count + count, before.seconds + seconds)
        return self._useful

    def row(self, step: int, metrics: Mapping[str, float]) -> None:
        """A row of metrics and one of timings, for the iterations since the last."""
        account = self.write()
        times = means(self._spent, step - self._step)
        self._spent, self._step = {}, step
        if self._writer:
            rate = {"speed/iterations_per_second": self._line.rate(step) or 0.0}
            self._writer.write(step, metrics, {**rate, **times, **account, **peak_memory()})

    def write(self) -> dict[str, float]:
        """Brings `goodput.json` up to date; returns what a row holds of it."""
        useful = self.useful()
        if not self._goodput:
            return {}
        self._goodput.useful = useful
        return self._goodput.write()

    def close(self) -> None:
        """Closes the files; does not wait for the device."""
        self.timings.close()
        if self._writer:
            self._writer.close()
