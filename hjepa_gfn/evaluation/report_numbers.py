"""Numbers of the report: plain values for JSON, Wilson intervals, and how a number is written on the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal: two sides of a 95 % interval


def wilson_interval(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927): sensible also at 0 % and 100 %, unlike the normal one.

    Args:
      successes: how many of the n trials succeeded, in [0, n].
      n: number of trials; without any the answer is (0, 1), for nothing is known.
      z: normal quantile; the default gives 95 %.

    Returns:
      (low, high), both in [0, 1].

    Raises:
      ValueError: if n is negative or successes is not in [0, n].
    """
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"wilson_interval: successes must be in [0, n], got successes={successes}, n={n}")
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the exact bound is p itself; rounding would leave 1e-17 there.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def plain(value: Any) -> Any:
    """The value as JSON can hold it: dicts with string keys, lists, strings, bools, ints, finite floats, None.

    NaN and infinities become None, arrays lists, array scalars numbers, dataclasses and config dicts dicts; what is
    left (a path, a dtype) becomes its text, so that a long evaluation never fails on its last line.
    """
    if value is None or isinstance(value, (str, bool, int)) and not isinstance(value, np.generic):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value, key=str)]
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
        listed = value.tolist()
        return plain(listed) if isinstance(listed, (list, bool, int, float, str)) else _as_float(value)
    return str(value)


def _as_float(value: Any) -> float | str | None:
    """A scalar of a type that NumPy does not know (bfloat16, ...)."""
    try:
        return plain(float(value))
    except (TypeError, ValueError):
        return str(value)


def number_of_seeds(report: Mapping[str, Any]) -> int | None:
    """How many seeds the success rates are means over: `seeds` is their number or their list; None if it is neither."""
    seeds = report.get("seeds")
    if isinstance(seeds, (list, tuple)):
        return len(seeds)
    if isinstance(seeds, bool) or not isinstance(seeds, (int, float)) or seeds < 0:
        return None
    return int(seeds)


def complete_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A plain copy of the report, with `success_interval` (95 % Wilson) filled in for the modes that lack it."""
    done = plain(report)
    rates, n = done.get("success_rate"), number_of_seeds(done)
    if not isinstance(rates, dict) or n is None:
        return done
    intervals = done.get("success_interval")
    intervals = dict(intervals) if isinstance(intervals, dict) else {}
    for mode, rate in rates.items():
        if is_number(rate) and 0 <= rate <= 1 and intervals.get(mode) is None:
            intervals[mode] = list(wilson_interval(min(round(rate * n), n), n))
    return {**done, "success_interval": intervals}


def is_number(value: Any) -> bool:
    """True for a finite int or float (and not for a bool)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def in_words(value: Any, percent: bool = False) -> str:
    """A value as it stands on the page: three or four significant digits, thousands apart, a dash for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not is_number(value):
        return "–" if value is None or isinstance(value, float) else str(value)
    if percent:
        return f"{100 * value:.1f}\u00a0%"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        text = f"{int(value):,}".replace(",", "\u202f")
    elif 1e-3 <= abs(value) < 1e5:
        size = math.floor(math.log10(abs(value)))
        digits = max(0, (3 if size > 0 else 2) - size)
        text = f"{value:.{digits}f}"
    else:
        text = f"{value:.2e}"
    return text.replace("-", "\u2212")


def duration(seconds: float) -> str:
    """Seconds as "48 s", "12 min 3 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested dicts as (dotted key, value); lists stay whole."""
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [leaf for key, item in value.items() for leaf in flatten(item, f"{prefix}.{key}" if prefix else str(key))]
