"""Goodput: of the time since a run was begun, the part in which its devices did work that is still there.

Work is counted up to a step and comes back with the checkpoint of that step: what a killed process did after its last
checkpoint is lost, and is done again on time that goes on. Compilation, saving, waiting for data, and the time between a kill
and the next start count against a run as well (lost work and time between starts are also given by themselves).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from hjepa_gfn.files import read_json, write_json

FILE = "goodput.json"


class Goodput:
    """The account of one run, kept in `workdir/goodput.json` over all its restarts.

    Attributes:
      useful: seconds of device work that led to the present state; goes into each checkpoint.
    """

    def __init__(self, workdir: str | os.PathLike[str], useful: float = 0.0, now: Callable[[], float] = time.time):
        """Continues the account in `workdir`, or opens one.

        Args:
          useful: what the restored checkpoint says.
          now: seconds since the epoch; the same clock on every restart.

        Raises:
          UserError: the file is damaged.
        """
        self.useful = useful
        self._now, self._path = now, Path(workdir) / FILE
        if self._path.exists():
            account = read_json(self._path)
            self._begun, self._starts = account["begun"], account["starts"] + 1
            self._down = account["down_seconds"] + max(now() - account["written"], 0.0)
            self._lost = account["lost_seconds"] + max(account["useful_seconds"] - useful, 0.0)
        else:  # a run of before there were accounts counts as all useful until now
            self._begun, self._starts, self._down, self._lost = now() - useful, 1, 0.0, 0.0

    def write(self) -> dict[str, float]:
        """Writes the account as it stands; returns what a row of timings holds of it."""
        now = self._now()
        wall = now - self._begun
        goodput = self.useful / wall if wall > 0 else 1.0
        write_json(self._path, {
            "goodput": goodput, "useful_seconds": self.useful, "wall_seconds": wall, "down_seconds": self._down,
            "lost_seconds": self._lost, "starts": self._starts, "begun": self._begun, "written": now,
        })  # fmt: skip
        return {"goodput": goodput, "time/lost": self._lost, "time/down": self._down}
