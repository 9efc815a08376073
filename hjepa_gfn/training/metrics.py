"""Metrics: they stay on the device between log lines, go to `metrics.jsonl` and TensorBoard, and survive a restart bit
by bit."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.files import write_text

FILE = "metrics.jsonl"
TIMINGS = "timings.jsonl"


class Window:
    """The metrics of the iterations since the last log line.

    A log line is the mean over its window. A checkpoint in mid-window stores the window (`to_json`), so that a
    restarted run averages over the very same values.
    """

    def __init__(self, values: Mapping[str, list[float]] | None = None):
        self._values = {name: list(numbers) for name, numbers in (values or {}).items()}
        self._on_device: list[tuple[str, Mapping[str, jax.Array]]] = []

    def add(self, train_step: str, metrics: Mapping[str, jax.Array]) -> None:
        """Notes the scalars that a train step returned; does not wait for them."""
        self._on_device.append((train_step, metrics))

    def fetch(self) -> dict[str, list[float]]:
        """All values so far, `{"<train step>/<metric>": [...]}`; waits for the device."""
        for train_step, metrics in jax.device_get(self._on_device):
            for name, value in metrics.items():
                self._values.setdefault(f"{train_step}/{name}", []).append(float(np.asarray(value)))
        self._on_device = []
        return self._values

    def to_json(self) -> dict[str, list[float | None]]:
        """The window for a checkpoint (non-finite numbers as None: JSON has none)."""
        return {name: [_finite(value) for value in values] for name, values in self.fetch().items()}

    @classmethod
    def from_json(cls, values: Mapping[str, list[float | None]]) -> Window:
        """The inverse of `to_json`."""
        return cls({name: [math.nan if v is None else v for v in numbers] for name, numbers in values.items()})

    def close(self) -> dict[str, float]:
        """The means over the window, in name order; a new window begins."""
        means = self.means()
        self._values = {}
        return means

    def means(self) -> dict[str, float]:
        """The means so far, in name order; waits for the device."""
        values = self.fetch()
        return {name: math.fsum(values[name]) / len(values[name]) for name in sorted(values)}

    def non_finite_loss(self) -> str | None:
        """The first metric called `loss` (or `..._loss`) that is not a number, if there is one."""
        for name, values in self.fetch().items():
            if name.endswith("loss") and not all(map(math.isfinite, values)):
                return name
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class MetricsWriter:
    """Appends rows `{"step": 100, "jepa/loss": 0.5, ...}` to `metrics.jsonl`, the timings' to `timings.jsonl`, and both to
    TensorBoard.

    The rows of `metrics.jsonl` hold nothing that differs between two runs of the same numbers (no times).
    """

    def __init__(self, workdir: str | os.PathLike[str], resumed_step: int):
        """Opens the files; rows after `resumed_step` are cut off, they will be written again."""
        self._metrics, self._timings = (_continue(Path(workdir) / name, resumed_step) for name in (FILE, TIMINGS))
        from tensorboardX import SummaryWriter

        self._board = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=resumed_step + 1, flush_secs=30)

    def write(self, step: int, means: Mapping[str, float], timings: Mapping[str, float] | None = None) -> None:
        """One row of each; `timings` (iterations a second, ...) may differ between two runs of the same numbers."""
        for file, row in ((self._metrics, means), (self._timings, timings or {})):
            if row or file is self._metrics:
                file.write(_line({"step": step, **{name: _finite(value) for name, value in row.items()}}))
                file.flush()
            for name, value in row.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes them."""
        self._metrics.close()
        self._timings.close()
        self._board.close()


def _continue(path: Path, resumed_step: int) -> TextIO:
    kept = [row for row in read_metrics(path) if row["step"] <= resumed_step]
    write_text(path, "".join(map(_line, kept)))
    return open(path, "a", encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl` (or of the working directory that holds one); a line torn by a kill is left out.

    Raises:
      UserError: a line other than the last is not a row.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):  # after the last newline: nothing, or a torn line
        try:
            row = json.loads(line)
            row["step"] += 0
        except (ValueError, TypeError, KeyError):
            raise UserError(f'{path}:{number}: not a row of metrics ({{"step": ..., ...}})') from None
        rows.append(row)
    return rows
