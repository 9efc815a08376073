"""Where an accelerator's time goes, by kernel: read from a profiler's trace (`jax.profiler.trace`)."""
from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hjepa_gfn.errors import UserError


class Kernel(NamedTuple):
    """One kernel's part of a trace."""

    name: str
    calls: int
    seconds: float


def kernels(directory: str | os.PathLike[str]) -> list[Kernel]:
    """The kernels that ran on accelerators in the newest trace under `directory`, the one that took longest first.

    Only the streams of devices are read: what a device's other rows say of modules and steps is the same time once more.

    Raises:
      UserError: there is no trace.
    """
    found = sorted(Path(directory).rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"{directory}: holds no trace (*.trace.json.gz)")
    events = json.loads(gzip.decompress(found[-1].read_bytes()))["traceEvents"]
    named = {(e["pid"], e.get("tid") if e["name"] == "thread_name" else None): e["args"]["name"]
             for e in events if e.get("ph") == "M" and e["name"] in ("process_name", "thread_name")}
    seconds: Counter = Counter()
    calls: Counter = Counter()
    for event in events:
        if event.get("ph") != "X":
            continue
        process, thread = named.get((event["pid"], None), ""), named.get((event["pid"], event["tid"]), "")
        if process.startswith("/device:") and thread.startswith("Stream"):
            seconds[event["name"]] += event.get("dur", 0.0) * 1e-6  # microseconds
            calls[event["name"]] += 1
    return [Kernel(name, calls[name], total) for name, total in seconds.most_common()]
